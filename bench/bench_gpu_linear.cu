// Matrix-vector products and decode experts of the GPU: time of a launch inside a replayed graph whose
// launches overlap as a token's do, over weights that rotate through more memory than the caches hold.
//   bench_gpu_linear [--types Q4_K,Q6_K] [--tokens 1,2,4,8] [--shapes 8192x2048,2048x4096] [--norm]
//                    [--experts TYPE] [--gemm TOKENS]
// Prints md tables: us a launch, GB/s of weights, and their share of what a plain read kernel reaches.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"
#include "quant/iq_tables.h"

namespace {

using namespace dw;

constexpr size_t kPoolBytes = size_t(1) << 30;
constexpr int kRepeats = 7;

void check(cudaError_t status, const char* what) {
  gpu::check_runtime(status, what);
}

template <class T>
T* device_copy(const T* from, size_t count) {
  T* to = nullptr;
  check(cudaMalloc(&to, count * sizeof(T)), "cudaMalloc");
  check(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
  return to;
}
template <class T>
T* device_zeros(size_t count) {
  T* to = nullptr;
  check(cudaMalloc(&to, count * sizeof(T)), "cudaMalloc");
  check(cudaMemset(to, 0, count * sizeof(T)), "cudaMemset");
  return to;
}

__global__ void read_kernel(const uint4* from, size_t count, uint32_t* out) {
  uint32_t sum = 0;
  const size_t stride = size_t(gridDim.x) * blockDim.x * 4;
  for (size_t i = size_t(blockIdx.x) * blockDim.x * 4 + threadIdx.x; i < count; i += stride) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = i + j * blockDim.x < count ? from[i + j * blockDim.x] : uint4{};
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345678u) *out = sum;
}

struct Bench {
  gpu::Context context;
  std::byte* pool = nullptr;
  double peak = 0;  // bytes a second of read_kernel
  size_t place = 0;

  Bench() {
    check(cudaStreamCreate(&context.stream), "cudaStreamCreate");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    context.limits.multiprocessors = properties.multiProcessorCount;
    context.limits.shared_bytes_block = properties.sharedMemPerBlockOptin;
    context.limits.architecture = properties.major * 100 + properties.minor * 10;
    context.limits.overlap_launches = properties.major >= 9;
    context.tables = {
        device_copy(quant::kIq2xxsGrid.data(), 256), device_copy(quant::kIq2xsGrid.data(), 512),
        device_copy(quant::kIq2sGrid.data(), 1024),  device_copy(quant::kIq3xxsGrid.data(), 256),
        device_copy(quant::kIq3sGrid.data(), 512),   device_copy(quant::kIq1Grid.data(), 2048)};
    fill_pool();
    peak = double(kPoolBytes) / seconds_of([&] {
             read_kernel<<<properties.multiProcessorCount * 8, 512, 0, context.stream>>>(
                 reinterpret_cast<const uint4*>(pool), kPoolBytes / 16, nullptr);
           });
    std::printf("%s, read kernel %.0f GB/s\n\n", properties.name, peak / 1e9);
  }

  // Random bytes: a grid type's look-ups must not all hit one entry.
  void fill_pool() {
    std::vector<uint64_t> words(size_t(1) << 21);
    std::mt19937_64 random(1);
    for (auto& word : words) word = random();
    pool = device_zeros<std::byte>(kPoolBytes);
    for (size_t at = 0; at < kPoolBytes; at += words.size() * 8)
      check(cudaMemcpy(pool + at, words.data(), words.size() * 8, cudaMemcpyHostToDevice), "cudaMemcpy");
  }

  // Median time of a replay of what `queue` queues.
  double seconds_of(const std::function<void()>& queue) {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    check(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeGlobal), "capture");
    queue();
    check(cudaStreamEndCapture(context.stream, &graph), "capture");
    check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin), "event");
    check(cudaEventCreate(&end), "event");
    std::vector<double> times;
    for (int i = 0; i < kRepeats + 2; ++i) {
      check(cudaEventRecord(begin, context.stream), "event");
      check(cudaGraphLaunch(exec, context.stream), "cudaGraphLaunch");
      check(cudaEventRecord(end, context.stream), "event");
      check(cudaStreamSynchronize(context.stream), "replay");
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin, end), "event");
      if (i >= 2) times.push_back(double(ms) * 1e-3);
    }
    cudaEventDestroy(begin), cudaEventDestroy(end);
    cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  const std::byte* next_weights(size_t bytes) {
    if (place + bytes > kPoolBytes) place = 0;
    const std::byte* at = pool + place;
    place += (bytes + 255) / 256 * 256;
    return at;
  }
  ops::Matrix next_matrix(quant::Type type, int64_t rows, int64_t columns, int64_t count = 1) {
    ops::Matrix m = {type, nullptr, rows, columns, count, gpu::device_row_bytes(type, columns)};
    m.data = next_weights(size_t(count) * m.matrix_bytes());
    return m;
  }
  ops::Activations activations(int64_t tokens, int64_t columns) {
    const size_t n = size_t(tokens * columns);
    return {tokens,
            columns,
            device_zeros<float>(n),
            device_zeros<int8_t>(n),
            device_zeros<float>(n / 32),
            device_zeros<int16_t>(n / 16)};
  }

  void row(const char* what, int64_t tokens, double seconds, double bytes) {
    std::printf("| %s | %d | %.2f | %.0f | %.0f |\n", what, int(tokens), seconds * 1e6, bytes / seconds / 1e9,
                100 * bytes / seconds / peak);
  }
};

struct Shape {
  int64_t rows, columns;
};

void bench_linear(Bench& bench, quant::Type type, Shape shape, int64_t tokens, bool with_norm, bool gemm) {
  const ops::Matrix first = bench.next_matrix(type, shape.rows, shape.columns);
  const double bytes = double(first.matrix_bytes());
  const int launches = int(std::clamp(4e8 / bytes, 3.0, 100.0));
  const ops::Activations x = bench.activations(tokens, shape.columns);
  float* out = device_zeros<float>(size_t(tokens * shape.rows));
  ops::Norm norm;
  norm.x = device_zeros<float>(size_t(tokens * shape.columns));
  norm.weight = device_zeros<float>(size_t(shape.columns));
  norm.out = x;
  const double seconds = bench.seconds_of([&] {
    for (int i = 0; i < launches; ++i) {
      const ops::Linear call[] = {
          {bench.next_matrix(type, shape.rows, shape.columns), out, shape.rows, false}};
      if (gemm)
        gpu::gemm_dot4(bench.context, x, call[0]);
      else
        gpu::gemv(bench.context, x, call, with_norm ? &norm : nullptr);
    }
  });
  const std::string name = std::string(quant::type_info(type).name) + " " + std::to_string(shape.rows) + "x" +
                           std::to_string(shape.columns) + (with_norm ? " + norm" : "");
  bench.row(name.c_str(), tokens, seconds / launches, bytes);
  for (void* p : {(void*)x.values, (void*)x.quants, (void*)x.scales, (void*)x.sums, (void*)out, (void*)norm.x,
                  (void*)norm.weight})
    cudaFree(p);
}

// Experts of Qwen3-Next's sizes: hidden 2048, width 512, 10 of them and a shared one.
void bench_experts(Bench& bench, quant::Type gate_up, quant::Type down, int64_t tokens) {
  const int64_t hidden = 2048, width = 512;
  constexpr int kTopK = 10, kExperts = 128;
  const ops::Activations x = bench.activations(tokens, hidden);
  float* out = device_zeros<float>(size_t(tokens * hidden));
  float* scratch = device_zeros<float>(size_t(tokens * (kTopK + 1) * width));
  std::vector<int32_t> ids;
  std::mt19937 random(7);
  for (int i = 0; i < tokens * kTopK; ++i) ids.push_back(int32_t(random() % kExperts));
  const int32_t* device_ids = device_copy(ids.data(), ids.size());
  const float* weights = device_zeros<float>(ids.size());
  const float* shared_weight = device_zeros<float>(size_t(tokens));
  double bytes = 0;
  const int launches = 40;
  const double seconds = bench.seconds_of([&] {
    for (int i = 0; i < launches; ++i) {
      ops::Moe op;
      op.expert_count = kExperts, op.top_k = kTopK;
      op.x = x;
      op.gate = bench.next_matrix(gate_up, width, hidden, kExperts);
      op.up = bench.next_matrix(gate_up, width, hidden, kExperts);
      op.down = bench.next_matrix(down, hidden, width, kExperts);
      op.shared_gate = bench.next_matrix(gate_up, width, hidden);
      op.shared_up = bench.next_matrix(gate_up, width, hidden);
      op.shared_down = bench.next_matrix(down, hidden, width);
      op.out = out;
      bytes = double(tokens) * (kTopK + 1) *
              double(op.gate.matrix_bytes() + op.up.matrix_bytes() + op.down.matrix_bytes());
      gpu::moe_decode(bench.context, op, {device_ids, weights, shared_weight}, scratch);
    }
  });
  const std::string name = "experts " + std::string(quant::type_info(gate_up).name) + " / " +
                           std::string(quant::type_info(down).name) + " (2 launches)";
  bench.row(name.c_str(), tokens, seconds / launches, bytes);
  for (const void* p : {(const void*)x.values, (const void*)x.quants, (const void*)x.scales,
                        (const void*)x.sums, (const void*)out, (const void*)scratch, (const void*)device_ids,
                        (const void*)weights, (const void*)shared_weight})
    cudaFree(const_cast<void*>(p));
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin <= list.size()) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (end > begin) parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

struct Options {
  std::vector<std::string> types = {"Q4_K"}, shapes = {"8192x2048"};
  std::vector<int64_t> tokens = {1, 2, 4, 8};
  std::vector<std::string> experts;  // "Q4_K/Q6_K"
  bool norm = false, gemm = false;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--norm") {
      options.norm = true;
    } else if (flag == "--gemm") {
      options.gemm = true;
    } else if (i + 1 < argc) {
      const std::vector<std::string> values = split(argv[++i]);
      if (flag == "--types")
        options.types = values;
      else if (flag == "--shapes")
        options.shapes = values;
      else if (flag == "--experts")
        options.experts = values;
      else if (flag == "--tokens") {
        options.tokens.clear();
        for (const auto& v : values) options.tokens.push_back(std::atoll(v.c_str()));
      } else
        return false;
    } else {
      return false;
    }
  }
  return true;
}

quant::Type type_of(const std::string& name) {
  const quant::TypeInfo* info = quant::find_type(name);
  if (info == nullptr) {
    std::fprintf(stderr, "unknown type %s\n", name.c_str());
    std::exit(2);
  }
  return info->type;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: bench_gpu_linear [--types Q4_K,Q6_K] [--tokens 1,8] [--shapes 8192x2048] [--norm] "
                 "[--gemm] [--experts Q4_K/Q6_K]\n");
    return 2;
  }
  Bench bench;
  std::printf("| matrix | tokens | us | GB/s | %% of read |\n|---|---|---|---|---|\n");
  if (options.experts.empty()) {
    for (const auto& shape : options.shapes)
      for (const auto& type : options.types)
        for (int64_t tokens : options.tokens) {
          Shape s = {};
          if (std::sscanf(shape.c_str(), "%ldx%ld", &s.rows, &s.columns) != 2) return 2;
          bench_linear(bench, type_of(type), s, tokens, options.norm, options.gemm);
        }
  }
  for (const auto& pair : options.experts)
    for (int64_t tokens : options.tokens) {
      const size_t slash = pair.find('/');
      const std::string down = slash == std::string::npos ? pair : pair.substr(slash + 1);
      bench_experts(bench, type_of(pair.substr(0, slash)), type_of(down), tokens);
    }
  return 0;
}
