// The k likeliest tokens on the device against a sort on the host, ties and all.
#include <gtest/gtest.h>

#include <cstdio>

#include "gpu/attention_support.h"

namespace dw {
namespace {

using namespace test;

struct Shape {
  int64_t rows, vocabulary;
  int32_t k;
  int kind;  // 0: normal, 1: rounded (ties), 2: rising by id, 3: all equal, 4: mostly minus infinity
};

std::vector<float> make_logits(const Shape& s, std::mt19937_64& random) {
  std::vector<float> logits = random_normals(random, s.rows * s.vocabulary, 3);
  for (size_t i = 0; i < logits.size(); ++i) {
    const int64_t id = int64_t(i) % s.vocabulary;
    if (s.kind == 1) logits[i] = std::round(logits[i]) * (id % 2 == 0 ? 1.0f : -1.0f);
    if (s.kind == 2) logits[i] = float(id) * 1e-3f;
    if (s.kind == 3) logits[i] = -2.5f;
    if (s.kind == 4 && id != s.vocabulary / 2 && random() % 16 != 0) logits[i] = -INFINITY;
  }
  return logits;
}

void check(const Shape& s, std::mt19937_64& random) {
  SCOPED_TRACE(std::to_string(s.rows) + " x " + std::to_string(s.vocabulary) + ", k " + std::to_string(s.k) +
               ", kind " + std::to_string(s.kind));
  const std::vector<float> logits = make_logits(s, random);
  DeviceArray<float> device(logits), values(size_t(s.rows * s.k)), sums(size_t(s.rows * 2));
  DeviceArray<int32_t> ids(size_t(s.rows * s.k));
  gpu::Context context;
  context.limits = device_limits();
  context.scratch_bytes = gpu::top_logits_scratch_bytes(s.rows, s.vocabulary);
  DeviceArray<std::byte> scratch(context.scratch_bytes);
  context.scratch = scratch.data();
  gpu::top_logits(context, device.data(), s.rows, s.vocabulary, s.k, ids.data(), values.data(), sums.data());
  gpu::check_runtime(cudaDeviceSynchronize(), "top_logits");
  const std::vector<int32_t> got_ids = ids.values();
  const std::vector<float> got_values = values.values(), got_sums = sums.values();
  for (int64_t row = 0; row < s.rows; ++row) {
    const float* x = logits.data() + row * s.vocabulary;
    std::vector<int32_t> order(size_t(s.vocabulary));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + s.k, order.end(),
                      [&](int32_t a, int32_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; });
    double sum = 0;
    for (int64_t i = 0; i < s.vocabulary; ++i) sum += std::exp(double(x[i]) - x[order[0]]);
    for (int32_t i = 0; i < s.k; ++i) {
      ASSERT_EQ(got_ids[size_t(row * s.k + i)], order[size_t(i)]) << "row " << row << ", place " << i;
      ASSERT_EQ(got_values[size_t(row * s.k + i)], x[order[size_t(i)]]);
    }
    ASSERT_EQ(got_sums[size_t(2 * row)], x[order[0]]);
    ASSERT_NEAR(got_sums[size_t(2 * row + 1)] / sum, 1, 1e-5);
  }
}

TEST(GpuSample, FindsTheLikeliestTokens) {
  const uint64_t seed = std::random_device()();
  std::printf("seed: %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int kind = 0; kind < 5; ++kind) {
    for (const auto& [rows, vocabulary, k] : {std::tuple<int64_t, int64_t, int32_t>{1, 151936, 1},
                                              {3, 151936, 64},
                                              {2, 151936, 256},
                                              {5, 1000, 20},
                                              {2, 257, 256},
                                              {1, 1, 1},
                                              {2, 37, 37},
                                              {1, 300001, 100},
                                              {1, 33000, 256}}) {
      check({rows, vocabulary, k, kind}, random);
    }
  }
}

TEST(GpuSample, IsFast) {
  std::mt19937_64 random(1);
  for (const auto& [rows, k] : {std::pair<int64_t, int32_t>{1, 1}, {1, 64}, {1, 256}, {64, 64}}) {
    const Shape s{rows, 151936, k, 0};
    const std::vector<float> logits = make_logits(s, random);
    DeviceArray<float> device(logits), values(size_t(s.rows * s.k)), sums(size_t(s.rows * 2));
    DeviceArray<int32_t> ids(size_t(s.rows * s.k));
    gpu::Context context;
    context.limits = device_limits();
    context.scratch_bytes = gpu::top_logits_scratch_bytes(s.rows, s.vocabulary);
    DeviceArray<std::byte> scratch(context.scratch_bytes);
    context.scratch = scratch.data();
    cudaEvent_t begin, end;
    cudaEventCreate(&begin), cudaEventCreate(&end);
    float ms = 0;
    for (int round = 0; round < 2; ++round) {
      cudaEventRecord(begin);
      for (int i = 0; i < 50; ++i)
        gpu::top_logits(context, device.data(), s.rows, s.vocabulary, s.k, ids.data(), values.data(),
                        sums.data());
      cudaEventRecord(end);
      gpu::check_runtime(cudaEventSynchronize(end), "top_logits");
      cudaEventElapsedTime(&ms, begin, end);
    }
    std::printf("top_logits: %lld rows, k %d: %.2f us\n", static_cast<long long>(rows), k, ms * 20);
    EXPECT_LT(ms * 20, 1000);
    cudaEventDestroy(begin), cudaEventDestroy(end);
  }
}

}  // namespace
}  // namespace dw
