// Times the GPU's delta mixer as CUDA graphs: decode (a token a sequence, draft tokens) and prefill in every
// chunk size, beside the machine's copy speed measured in the same run. Prints a table in markdown.
//   bench_gpu_delta [decode|prefill]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/gpu/delta.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace {

using dw::gpu::check_runtime;

constexpr int32_t kKHeads = 16, kVHeads = 32, kDim = 128, kTaps = 4;
constexpr int64_t kChannels = 2 * kKHeads * kDim + kVHeads * kDim, kWidth = kVHeads * kDim;

__global__ void fill_kernel(float* to, int64_t count, float scale, float mean, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * blockDim.x) {
    uint32_t x = uint32_t(i) * 2654435761u + seed;
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    to[i] = mean + scale * (float(x >> 8) * 0x1p-23f - 1.0f) * 1.7f;
  }
}

struct Memory {
  std::vector<void*> all;
  template <class T>
  T* take(int64_t count) {
    void* p = nullptr;
    check_runtime(cudaMalloc(&p, size_t(count) * sizeof(T)), "cudaMalloc");
    all.push_back(p);
    return static_cast<T*>(p);
  }
  float* random(int64_t count, float scale, float mean = 0) {
    float* p = take<float>(count);
    fill_kernel<<<1024, 256>>>(p, count, scale, mean, uint32_t(all.size()));
    return p;
  }
  ~Memory() {
    for (void* p : all) cudaFree(p);
  }
};

// The median of `runs` graph launches, microseconds; the graph holds what `body` queues.
double time_graph(cudaStream_t stream, int runs, const std::function<void()>& body) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check_runtime(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  body();
  check_runtime(cudaStreamEndCapture(stream, &graph), "end of capture");
  check_runtime(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  cudaEvent_t begin, end;
  check_runtime(cudaEventCreate(&begin), "event"), check_runtime(cudaEventCreate(&end), "event");
  std::vector<double> times;
  for (int run = 0; run < runs + 2; ++run) {
    check_runtime(cudaEventRecord(begin, stream), "event");
    check_runtime(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    check_runtime(cudaEventRecord(end, stream), "event");
    check_runtime(cudaEventSynchronize(end), "run");
    float ms = 0;
    check_runtime(cudaEventElapsedTime(&ms, begin, end), "event");
    if (run >= 2) times.push_back(ms * 1e3);
  }
  cudaGraphExecDestroy(executable), cudaGraphDestroy(graph);
  cudaEventDestroy(begin), cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[size_t(runs / 2)];
}

struct Setup {
  Memory memory;
  dw::gpu::Context context;
  dw::ops::DeltaMixer op;
  int64_t layers, spans;

  Setup(const dw::gpu::Limits& limits, cudaStream_t stream, int64_t span_count, int64_t rows,
        int64_t layer_count, const dw::gpu::DeltaPlan& plan)
      : layers(layer_count), spans(span_count) {
    const int64_t tokens = span_count * rows;
    std::vector<dw::gpu::SpanEntry> entries;
    std::vector<int32_t> row_span;
    for (int32_t s = 0; s < span_count; ++s) {
      entries.push_back({s, int32_t(s * rows), int32_t(rows), 0, 0});
      row_span.insert(row_span.end(), size_t(rows), s);
    }
    auto* device_entries = memory.take<dw::gpu::SpanEntry>(span_count);
    auto* device_row_span = memory.take<int32_t>(tokens);
    cudaMemcpy(device_entries, entries.data(), entries.size() * sizeof(entries[0]), cudaMemcpyHostToDevice);
    cudaMemcpy(device_row_span, row_span.data(), row_span.size() * 4, cudaMemcpyHostToDevice);
    context.stream = stream;
    context.limits = limits;
    context.batch = {device_entries,  device_row_span, nullptr, int32_t(span_count),
                     int32_t(tokens), int32_t(rows),   1 << 20};
    op.k_heads = kKHeads, op.v_heads = kVHeads, op.k_dim = op.v_dim = kDim, op.conv_taps = kTaps;
    op.chunk = plan.chunk;
    op.tokens = op.out.tokens = tokens;
    op.out.columns = kWidth;
    op.qkv = memory.random(tokens * kChannels, 1);
    op.z = memory.random(tokens * kWidth, 1);
    op.ba = memory.random(tokens * 2 * kVHeads, 1);
    op.conv_weight = memory.random(kChannels * kTaps, 0.5f);
    op.dt_bias = memory.random(kVHeads, 0.5f);
    op.a = memory.random(kVHeads, 0.1f, -0.25f);
    op.norm = memory.random(kDim, 0.1f, 1);
    op.conv_state = memory.random(layers * spans * (kTaps - 1) * kChannels, 1);
    op.state = memory.random(layers * spans * kVHeads * kDim * kDim, 0.3f);
    op.out.values = memory.take<float>(tokens * kWidth);
    op.out.quants = memory.take<int8_t>(tokens * kWidth);
    op.out.scales = memory.take<float>(tokens * kWidth / 32);
    op.out.sums = memory.take<int16_t>(tokens * kWidth / 16);
    context.scratch_bytes = dw::gpu::delta_scratch_bytes(op, plan);
    context.scratch = memory.take<std::byte>(int64_t(context.scratch_bytes));
    check_runtime(cudaDeviceSynchronize(), "set up");
  }
  dw::ops::DeltaMixer layer(int64_t i) const {
    dw::ops::DeltaMixer one = op;
    one.conv_state += i * spans * (kTaps - 1) * kChannels;
    one.state += i * spans * kVHeads * kDim * kDim;
    return one;
  }
  double run(const dw::gpu::DeltaPlan& plan, int64_t launches, int runs) {
    return time_graph(context.stream, runs,
                      [&] {
                        for (int64_t i = 0; i < launches; ++i)
                          dw::gpu::run_delta(context, layer(i % layers), plan);
                      }) /
           double(launches);
  }
};

double copy_gigabytes_per_second(cudaStream_t stream) {
  Memory memory;
  constexpr int64_t kBytes = int64_t(2) << 30;
  auto* from = memory.take<std::byte>(kBytes);
  auto* to = memory.take<std::byte>(kBytes);
  const double us =
      time_graph(stream, 9, [&] { cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream); });
  return 2 * double(kBytes) / us * 1e-3;
}

void print_row(const char* what, const char* kind, double us, double bytes, double operations, double peak) {
  const double rate = bytes / us * 1e-3;
  std::printf("| %s | %s | %.2f | %.0f | %.0f%% | %.2f |\n", what, kind, us, rate, 100 * rate / peak,
              operations / us * 1e-6);
  std::fflush(stdout);
}

// Bytes that must move, each once: inputs, outputs, states read and written.
double decode_bytes(double spans, double rows) {
  return spans * (2.0 * kVHeads * kDim * kDim * 4 + 6.0 * kChannels * 4) +
         spans * rows * (kChannels * 4 + kWidth * 4 + kWidth * 5.25);
}

void bench_decode(const dw::gpu::Limits& limits, cudaStream_t stream, double peak) {
  struct Row {
    int64_t spans, rows;
  };
  for (const bool overlap : {false, true}) {
    for (const Row& r : {Row{1, 1}, Row{4, 1}, Row{16, 1}, Row{64, 1}, Row{1, 4}, Row{1, 17}, Row{16, 5}}) {
      dw::gpu::Limits chosen = limits;
      chosen.overlap_launches = overlap;
      const int64_t layers = std::max<int64_t>(2, 72 / r.spans);  // more state than L2 holds
      for (const dw::gpu::DeltaPlan& plan :
           {dw::gpu::DeltaPlan{0, 1, true}, dw::gpu::DeltaPlan{0, 1, false}}) {
        Setup setup(chosen, stream, r.spans, r.rows, layers, plan);
        const double us = setup.run(plan, layers, 15);
        char what[64];
        std::snprintf(what, sizeof what, "decode %lld x %lld%s", (long long)r.spans, (long long)r.rows,
                      overlap ? ", overlapped" : "");
        print_row(what, plan.hopper ? "sm_90" : "portable", us, decode_bytes(double(r.spans), double(r.rows)),
                  double(r.spans * r.rows) * kVHeads * kDim * kDim * 7, peak);
      }
    }
  }
}

void bench_prefill(const dw::gpu::Limits& limits, cudaStream_t stream, double peak) {
  struct Row {
    int64_t spans, rows;
  };
  for (const Row& r : {Row{1, 512}, Row{1, 2048}, Row{1, 8192}, Row{1, 32768}, Row{4, 2048}, Row{8, 8192}}) {
    for (const dw::gpu::DeltaPlan& plan :
         {dw::gpu::DeltaPlan{16, 33, true}, dw::gpu::DeltaPlan{32, 33, true},
          dw::gpu::DeltaPlan{64, 33, true}, dw::gpu::DeltaPlan{32, 33, false},
          dw::gpu::DeltaPlan{16, 33, false}}) {
      if (!plan.hopper && r.spans * r.rows > 8192) continue;
      Setup setup(limits, stream, r.spans, r.rows, 1, plan);
      const double us = setup.run(plan, 3, 7);
      const double tokens = double(r.spans * r.rows);
      char what[64], kind[64];
      std::snprintf(what, sizeof what, "prefill %lld x %lld", (long long)r.spans, (long long)r.rows);
      std::snprintf(kind, sizeof kind, "%s, chunk %d", plan.hopper ? "sm_90" : "portable", plan.chunk);
      print_row(what, kind, us, decode_bytes(double(r.spans), double(r.rows)),
                tokens * kVHeads * (6.0 * kDim * kDim + 8.0 * plan.chunk * kDim), peak);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  cudaDeviceProp properties = {};
  check_runtime(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  dw::gpu::Limits limits;
  limits.multiprocessors = properties.multiProcessorCount;
  limits.shared_bytes_block = properties.sharedMemPerBlockOptin;
  limits.architecture = properties.major * 100 + properties.minor * 10;
  limits.overlap_launches = limits.architecture >= 900;
  cudaStream_t stream;
  check_runtime(cudaStreamCreate(&stream), "cudaStreamCreate");
  const double peak = copy_gigabytes_per_second(stream);
  const bool decode = argc < 2 || std::strcmp(argv[1], "decode") == 0;
  const bool prefill = argc < 2 || std::strcmp(argv[1], "prefill") == 0;
  std::printf(
      "%s, copy %.0f GB/s\n\n| case | kernels | us | GB/s | of copy | TFLOPS |\n|---|---|---|---|---|---|\n",
      properties.name, peak);
  if (decode) bench_decode(limits, stream, peak);
  if (prefill) bench_prefill(limits, stream, peak);
  return 0;
}
