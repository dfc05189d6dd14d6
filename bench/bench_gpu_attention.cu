// Attention of Qwen3-Next's shape (16 query heads, 2 KV heads, head dim 256) on one GPU: time a layer from a
// graph of twelve layers with a cache each, GB/s of what must be read, TFLOPS, % of a peak. Prints a table in
// Markdown. bench_gpu_attention [all|decode|prefill|variants] [peak GB/s] [peak TFLOPS]
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gpu/attention_support.h"

namespace dw {
namespace {

using namespace test;

constexpr int kLayers = 12;
constexpr int32_t kPage = 64;

__global__ void random_rows_kernel(uint8_t* cache, int64_t rows, int row_bytes, bool q8) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < rows * row_bytes / 2;
       i += int64_t(gridDim.x) * blockDim.x) {
    uint32_t x = uint32_t(i) * 2654435761u;
    x ^= x >> 15, x *= 2246822519u, x ^= x >> 13;
    // Halves below 2 in magnitude; of q8_0: quants, then scales near 0.01.
    uint16_t bits = uint16_t((x & 0x83ffu) | ((x >> 16) % 8 + 8) << 10);
    if (q8) bits = i * 2 % row_bytes < row_bytes / 34 * 32 ? uint16_t(x) : uint16_t(0x2100 + (x & 255));
    reinterpret_cast<uint16_t*>(cache)[i] = bits;
  }
}

struct Row {
  const char* what;
  ops::KvType type;
  int32_t sequences, rows, position;
  int repeats;
};

struct Peaks {
  double gigabytes, teraflops;
};

void measure(const Row& row, const gpu::Limits& limits, const Peaks& peaks, const char* note) {
  AttentionCase c;
  c.type = row.type;
  c.spans.assign(size_t(row.sequences), {row.position, row.rows});
  const int64_t tokens = c.tokens();
  std::mt19937_64 random(7);
  const int32_t context = row.position + row.rows, list = (context + kPage - 1) / kPage;
  std::vector<int32_t> pages(size_t(list) * size_t(row.sequences));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), random);
  const int64_t cache_rows = int64_t(pages.size()) * c.kv_heads * kPage;
  // A cache each, unless that would be more than 8 GB.
  const int layers = int(std::clamp<int64_t>((int64_t(4) << 30) / (cache_rows * c.row_bytes()), 1, kLayers));
  std::vector<gpu::SpanEntry> spans;
  std::vector<int32_t> row_span;
  for (int32_t s = 0; s < row.sequences; ++s) {
    spans.push_back({s, s * row.rows, row.rows, row.position, s * list});
    row_span.insert(row_span.end(), size_t(row.rows), s);
  }
  ops::Attention op = attention_op(c);
  const size_t width = size_t(tokens) * size_t(op.out.columns);
  DeviceArray<float> q_gate(random_normals(random, int64_t(width) * 2, 1)), values(width), scales(width / 32);
  DeviceArray<float> k(random_normals(random, tokens * c.kv_heads * c.dim, 1));
  DeviceArray<float> v(random_normals(random, tokens * c.kv_heads * c.dim, 1));
  DeviceArray<float> q_norm(random_normals(random, c.dim, 0.1f, 1)),
      k_norm(random_normals(random, c.dim, 0.1f, 1));
  DeviceArray<int8_t> quants(width);
  DeviceArray<int16_t> sums(width / 16);
  DeviceArray<gpu::SpanEntry> device_spans(spans);
  DeviceArray<int32_t> device_row_span(row_span), device_pages(pages);
  DeviceArray<uint8_t> k_cache(size_t(cache_rows * c.row_bytes()) * size_t(layers));
  DeviceArray<uint8_t> v_cache(size_t(cache_rows * c.row_bytes()) * size_t(layers));
  for (uint8_t* cache : {k_cache.data(), v_cache.data()})
    random_rows_kernel<<<2048, 256>>>(cache, cache_rows * layers, int(c.row_bytes()),
                                      c.type == ops::KvType::kQ8_0);
  op.q_gate = q_gate.data(), op.k = k.data(), op.v = v.data(), op.q_norm = q_norm.data();
  op.k_norm = k_norm.data();
  op.out.values = values.data(), op.out.scales = scales.data();
  op.out.quants = quants.data(), op.out.sums = sums.data();
  gpu::Context x;
  x.limits = limits;
  x.batch = {device_spans.data(),
             device_row_span.data(),
             device_pages.data(),
             row.sequences,
             int32_t(tokens),
             row.rows,
             context};
  x.scratch_bytes = gpu::attention_scratch_bytes(op, limits);
  DeviceArray<std::byte> scratch(x.scratch_bytes);
  x.scratch = scratch.data();
  cudaStream_t stream;
  gpu::check_runtime(cudaStreamCreate(&stream), "cudaStreamCreate");
  x.stream = stream;
  std::vector<dw::WorkRecord> log;
  x.log = &log;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  gpu::check_runtime(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (int layer = 0; layer < kLayers; ++layer) {
    op.k_cache = reinterpret_cast<std::byte*>(k_cache.data() + cache_rows * c.row_bytes() * (layer % layers));
    op.v_cache = reinterpret_cast<std::byte*>(v_cache.data() + cache_rows * c.row_bytes() * (layer % layers));
    gpu::attention(x, op);
  }
  gpu::check_runtime(cudaStreamEndCapture(stream, &graph), "capture");
  gpu::check_runtime(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  cudaEvent_t begin, end;
  cudaEventCreate(&begin), cudaEventCreate(&end);
  std::vector<float> times;
  for (int i = 0; i < row.repeats + 2; ++i) {
    cudaEventRecord(begin, stream);
    gpu::check_runtime(cudaGraphLaunch(executable, stream), "launch");
    cudaEventRecord(end, stream);
    gpu::check_runtime(cudaEventSynchronize(end), "attention");
    float ms = 0;
    cudaEventElapsedTime(&ms, begin, end);
    if (i >= 2) times.push_back(ms * 1000 / kLayers);
  }
  std::sort(times.begin(), times.end());
  const double us = times[times.size() / 2];
  const double bytes = 2.0 * double(row.sequences) * context * c.kv_heads * double(c.row_bytes()) +
                       double(tokens) * (double(op.out.columns) * (8 + 5.25) + 8.0 * c.kv_heads * c.dim);
  const double keys = double(row.rows) * (row.position + (row.rows + 1) / 2.0) * row.sequences;
  const double operations = 4.0 * double(op.out.columns) * keys;
  std::printf("| %s | %s | %d x %d at %d | %.2f (%.2f .. %.2f) | %.0f | %.1f | %.0f %% | %.0f %% | %zu |%s\n",
              row.what,
              c.type == ops::KvType::kF16    ? "f16"
              : c.type == ops::KvType::kQ8_0 ? "q8_0"
                                             : "f32",
              row.sequences, row.rows, row.position, us, times.front(), times.back(), bytes / us * 1e-3,
              operations / us * 1e-6, 100 * bytes / us * 1e-3 / peaks.gigabytes,
              100 * operations / us * 1e-6 / peaks.teraflops, log.size() / kLayers, note);
  std::fflush(stdout);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaEventDestroy(begin), cudaEventDestroy(end);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace dw

int main(int argc, char** argv) {
  using dw::ops::KvType;
  const auto wanted = [&](const char* part) {
    return argc < 2 || std::strcmp(argv[1], "all") == 0 || std::strcmp(argv[1], part) == 0;
  };
  const dw::Peaks peaks = {argc > 2 ? std::atof(argv[2]) : 4800, argc > 3 ? std::atof(argv[3]) : 989};
  const dw::gpu::Limits limits = dw::test::device_limits();
  std::printf(
      "| | cache | rows | us a layer (range) | GB/s | TFLOPS | of %.0f GB/s | of %.0f TFLOPS | launches |\n"
      "|---|---|---|---|---|---|---|---|---|\n",
      peaks.gigabytes, peaks.teraflops);
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    if (!wanted("decode")) break;
    for (const int32_t position : {0, 1000, 4000, 32000, 130000})
      dw::measure({"decode", type, 1, 1, position, 30}, limits, peaks, "");
    dw::measure({"decode", type, 16, 1, 4000, 20}, limits, peaks, "");
    dw::measure({"decode", type, 64, 1, 2000, 20}, limits, peaks, "");
    for (const int32_t rows : {2, 4, 8, 16}) {
      dw::measure({"verify", type, 1, rows, 4000, 20}, limits, peaks, "");
      dw::measure({"verify", type, 1, rows, 32000, 20}, limits, peaks, "");
    }
  }
  for (const KvType type : {KvType::kF16, KvType::kQ8_0}) {
    if (!wanted("prefill")) break;
    for (const int32_t rows : {512, 2048, 8192, 32768})
      dw::measure({"prefill", type, 1, rows, 0, rows > 8192 ? 3 : 6}, limits, peaks, "");
    dw::measure({"prefill", type, 1, 512, 32000, 6}, limits, peaks, "");
    dw::measure({"prefill", type, 8, 1024, 0, 6}, limits, peaks, "");
  }
  // Variants, for choosing.
  if (!wanted("variants")) return 0;
  for (const int32_t position : {4000, 32000}) {
    for (const int32_t processors : {32, 48, 64, 96, 132, 192}) {
      dw::gpu::Limits fewer = limits;
      fewer.multiprocessors = processors;
      char note[64];
      std::snprintf(note, sizeof note, " cuts aimed at: %d", processors / 2);
      dw::measure({"decode", KvType::kF16, 1, 1, position, 20}, fewer, peaks, note);
    }
    dw::gpu::Limits apart = limits;
    apart.overlap_launches = false;
    dw::measure({"decode", KvType::kF16, 1, 1, position, 20}, apart, peaks, " launches do not overlap");
    dw::gpu::Limits portable = limits;
    portable.architecture = 800;
    dw::measure({"decode", KvType::kF16, 1, 1, position, 10}, portable, peaks, " portable kernel");
  }
  dw::gpu::Limits portable = limits;
  portable.architecture = 800;
  dw::measure({"prefill", KvType::kF16, 1, 2048, 0, 3}, portable, peaks, " portable kernel");
  dw::measure({"prefill", KvType::kF32, 1, 2048, 0, 3}, portable, peaks, " portable kernel");
  dw::measure({"decode", KvType::kF32, 1, 1, 4000, 10}, portable, peaks, " portable kernel");
  return 0;
}
