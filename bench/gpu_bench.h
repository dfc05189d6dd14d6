// What the benches of GPU kernels share: a context, weights that rotate through more memory than the caches
// hold, and the time of a replayed graph.
#pragma once

#include <algorithm>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"
#include "kernels/random_blocks.h"
#include "quant/iq_tables.h"

namespace dw::bench {

inline constexpr size_t kPoolBytes = size_t(1) << 30;
inline constexpr int kRepeats = 7;

inline void check(cudaError_t status, const char* what) {
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

inline float* device_normals(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return device_copy(values.data(), count);
}

static __global__ void read_kernel(const uint4* from, size_t count, uint32_t* out) {
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
  // Random values, as a file of that type would hold them.
  ops::Matrix fair_matrix(quant::Type type, int64_t rows, int64_t columns) {
    Random random(6);
    const std::vector<std::byte> file = test::random_weights(type, rows, columns, random);
    ops::Matrix m = {type, nullptr, rows, columns, 1, gpu::device_row_bytes(type, columns)};
    std::byte* data = device_zeros<std::byte>(m.matrix_bytes());
    std::byte* staged = device_copy(file.data(), file.size());
    gpu::repack(context, type, columns, rows, staged, data);
    check(cudaStreamSynchronize(context.stream), "repack");
    cudaFree(staged);
    m.data = data;
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

}  // namespace dw::bench
