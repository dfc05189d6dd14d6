// GPU attention against the reference: shapes, pages, cache types, positions, batches; every path of the
// launcher (tensor cores, portable kernel, cut and whole spans).
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "gpu/attention_support.h"
#include "kernels/reference/reference.h"
#include "quant/types.h"

namespace dw {
namespace {

using namespace test;
using ops::KvType;

uint64_t seed() {
  static const uint64_t value = [] {
    const char* text = std::getenv("DW_TEST_SEED");
    const uint64_t s = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
    std::printf("seed: DW_TEST_SEED=%llu\n", static_cast<unsigned long long>(s));
    return s;
  }();
  return value;
}

AttentionResult run_reference(const AttentionCase& c) {
  AttentionResult r;
  ops::Attention op = attention_op(c);
  r.k_cache = c.k_cache, r.v_cache = c.v_cache;
  r.values.resize(size_t(op.tokens * op.out.columns));
  r.scales.resize(r.values.size() / 32);
  r.quants.resize(r.values.size());
  r.sums.resize(r.values.size() / 16);
  op.out.values = r.values.data(), op.out.scales = r.scales.data();
  op.out.quants = r.quants.data(), op.out.sums = r.sums.data();
  op.q_gate = c.q_gate.data(), op.k = c.k.data(), op.v = c.v.data();
  op.q_norm = c.q_norm.data(), op.k_norm = c.k_norm.data();
  op.k_cache = r.k_cache.data(), op.v_cache = r.v_cache.data();
  std::vector<ops::Span> spans;
  int32_t row = 0;
  for (size_t s = 0; s < c.spans.size(); ++s) {
    spans.push_back({int32_t(s), row, c.spans[s].rows, c.spans[s].position, c.pages[s].data()});
    row += c.spans[s].rows;
  }
  op.spans = spans;
  reference::attention(op);
  return r;
}

std::vector<float> dequantised(const AttentionCase& c, const std::vector<std::byte>& cache, size_t span) {
  std::vector<float> all;
  for (int32_t p = c.spans[span].position; p < c.spans[span].position + c.spans[span].rows; ++p) {
    for (int32_t h = 0; h < c.kv_heads; ++h) {
      const std::byte* row = cache.data() + c.cache_row(span, h, p) * c.row_bytes();
      std::vector<float> x(size_t(c.dim));
      if (c.type == KvType::kQ8_0) quant::type_info(quant::Type::Q8_0).dequantize(row, x.data(), c.dim);
      for (size_t i = 0; i < x.size(); ++i) {
        if (c.type == KvType::kF16) x[i] = half_to_float(load_unaligned<uint16_t>(row + 2 * i));
        if (c.type == KvType::kF32) x[i] = load_unaligned<float>(row + 4 * i);
      }
      all.insert(all.end(), x.begin(), x.end());
    }
  }
  return all;
}

// New rows nearly equal, every other byte as it was.
void check_cache(const AttentionCase& c, std::vector<std::byte> got, const std::vector<std::byte>& want,
                 const std::vector<std::byte>& before) {
  for (size_t s = 0; s < c.spans.size(); ++s) {
    // A value next to a rounding border may fall on the other side of it.
    EXPECT_LE(squared_error(dequantised(c, got, s), dequantised(c, want, s)),
              c.type == KvType::kF32 ? 1e-11 : 1e-6)
        << "cache of span " << s;
    for (int32_t p = c.spans[s].position; p < c.spans[s].position + c.spans[s].rows; ++p)
      for (int32_t h = 0; h < c.kv_heads; ++h) {
        const int64_t at = c.cache_row(s, h, p) * c.row_bytes();
        std::memcpy(got.data() + at, before.data() + at, size_t(c.row_bytes()));
      }
  }
  EXPECT_TRUE(got == before) << "wrote other rows of the cache";
}

// The quantised part is exactly what ops.h says of the values.
void check_quants(const AttentionResult& r) {
  for (size_t group = 0; group < r.scales.size(); ++group) {
    const float* x = r.values.data() + 32 * group;
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f;
    ASSERT_EQ(r.scales[group], scale) << "group " << group;
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (size_t i = 32 * group + 16 * size_t(half), end = i + 16; i < end; ++i) {
        ASSERT_EQ(r.quants[i], scale == 0 ? 0 : std::lrint(r.values[i] / scale)) << "value " << i;
        sum += r.quants[i];
      }
      ASSERT_EQ(r.sums[2 * group + size_t(half)], sum) << "group " << group;
    }
  }
}

double bound_of(const AttentionCase& c) {
  if (c.type == KvType::kF32) return 1e-9;
  return 1e-5;
}

struct Way {
  const char* name;
  int32_t architecture;  // 0: the device's
  int32_t multiprocessors;
  bool overlap;
};
constexpr Way kWays[] = {
    {"tensor cores", 0, 0, true}, {"portable", 800, 0, false}, {"few cuts", 0, 6, false}};

gpu::Limits limits_of(const Way& way) {
  gpu::Limits limits = device_limits();
  if (way.architecture != 0) limits.architecture = way.architecture;
  if (way.multiprocessors != 0) limits.multiprocessors = way.multiprocessors;
  limits.overlap_launches = limits.overlap_launches && way.overlap;
  return limits;
}

void check_case(AttentionCase c, std::mt19937_64& random) {
  fill(c, random);
  const AttentionResult want = run_reference(c);
  for (const Way& way : kWays) {
    if (way.architecture == 800 && c.type == KvType::kF32) continue;  // the same kernel
    SCOPED_TRACE(c.name() + ", " + way.name);
    DeviceAttention device(c, limits_of(way), int32_t(random() % 3) * 200);
    device.launch();
    const AttentionResult got = device.result();
    const double error = squared_error(got.values, want.values);
    EXPECT_LE(error, bound_of(c));
    std::printf("%.1e %s, %s\n", error, way.name, c.name().c_str());
    check_cache(c, got.k_cache, want.k_cache, c.k_cache);
    check_cache(c, got.v_cache, want.v_cache, c.v_cache);
    check_quants(got);
    if (::testing::Test::HasFailure()) return;
  }
}

constexpr KvType kTypes[] = {KvType::kF16, KvType::kQ8_0, KvType::kF32};

TEST(GpuAttention, DecodesLikeTheReference) {
  std::mt19937_64 random(seed());
  for (KvType type : kTypes) {
    for (const std::vector<AttentionSpan>& spans :
         std::vector<std::vector<AttentionSpan>>{{{0, 1}},
                                                 {{1, 1}},
                                                 {{15, 1}, {16, 1}, {17, 1}},
                                                 {{63, 1}, {64, 1}, {127, 1}, {300, 1}},
                                                 {{1000, 1}, {0, 1}, {517, 1}},
                                                 {{2100, 1}}}) {
      AttentionCase c;
      c.type = type, c.spans = spans;
      check_case(c, random);
    }
  }
}

TEST(GpuAttention, VerifiesDraftsLikeTheReference) {
  std::mt19937_64 random(seed() + 1);
  for (KvType type : kTypes) {
    for (const std::vector<AttentionSpan>& spans :
         std::vector<std::vector<AttentionSpan>>{{{0, 2}},
                                                 {{130, 2}, {62, 1}},
                                                 {{333, 3}, {60, 4}},
                                                 {{100, 5}, {7, 8}, {250, 1}},
                                                 {{190, 16}, {3, 9}}}) {
      AttentionCase c;
      c.type = type, c.spans = spans;
      check_case(c, random);
    }
  }
}

TEST(GpuAttention, PrefillsLikeTheReference) {
  std::mt19937_64 random(seed() + 2);
  for (KvType type : kTypes) {
    for (const std::vector<AttentionSpan>& spans : std::vector<std::vector<AttentionSpan>>{
             {{0, 17}}, {{0, 64}}, {{0, 129}}, {{77, 50}, {0, 33}}, {{200, 40}, {90, 1}, {0, 18}, {64, 3}}}) {
      AttentionCase c;
      c.type = type, c.spans = spans;
      check_case(c, random);
    }
  }
}

TEST(GpuAttention, TakesOtherShapes) {
  std::mt19937_64 random(seed() + 3);
  struct Shape {
    int32_t heads, kv_heads, dim, rope_dims, page_tokens;
  };
  for (const Shape& s :
       {Shape{1, 1, 256, 64, 64}, Shape{2, 1, 256, 32, 16}, Shape{16, 1, 256, 64, 128},
        Shape{24, 2, 256, 64, 64}, Shape{2, 2, 256, 256, 32}, Shape{4, 2, 64, 64, 16}, Shape{6, 2, 96, 24, 7},
        Shape{4, 4, 32, 8, 3}, Shape{8, 1, 128, 128, 64}, Shape{16, 2, 256, 0, 24}}) {
    for (KvType type : kTypes) {
      for (const std::vector<AttentionSpan>& spans : std::vector<std::vector<AttentionSpan>>{
               {{90, 1}, {7, 1}}, {{40, 3}, {149, 6}}, {{70, 45}, {33, 2}}}) {
        AttentionCase c;
        c.heads = s.heads, c.kv_heads = s.kv_heads, c.dim = s.dim, c.rope_dims = s.rope_dims;
        c.page_tokens = s.page_tokens, c.type = type, c.spans = spans;
        check_case(c, random);
      }
    }
  }
}

AttentionCase only(const AttentionCase& c, size_t s) {
  AttentionCase one = c;
  one.spans = {c.spans[s]};
  one.pages = {c.pages[s]};
  int64_t first = 0;
  for (size_t i = 0; i < s; ++i) first += c.spans[i].rows;
  const auto cut = [&](std::vector<float>& x, int64_t width) {
    x = {x.begin() + first * width, x.begin() + (first + c.spans[s].rows) * width};
  };
  cut(one.q_gate, int64_t(c.heads) * 2 * c.dim);
  cut(one.k, int64_t(c.kv_heads) * c.dim);
  cut(one.v, int64_t(c.kv_heads) * c.dim);
  return one;
}

// Bit for bit: how a span is cut depends on itself alone.
TEST(GpuAttention, ASequenceInABatchIsTheSequenceAlone) {
  std::mt19937_64 random(seed() + 4);
  for (KvType type : kTypes) {
    for (int32_t rows : {1, 3, 40}) {
      AttentionCase c;
      c.type = type;
      for (int i = 0; i < (rows == 1 ? 40 : 6); ++i) c.spans.push_back({int32_t(random() % 700), rows});
      fill(c, random);
      DeviceAttention together(c, device_limits());
      together.launch();
      const AttentionResult all = together.result();
      int64_t row = 0;
      for (size_t s = 0; s < c.spans.size(); ++s) {
        const AttentionCase one = only(c, s);
        DeviceAttention alone(one, device_limits());
        alone.launch();
        const AttentionResult got = alone.result();
        EXPECT_EQ(std::memcmp(got.values.data(), all.values.data() + row * c.heads * c.dim,
                              got.values.size() * sizeof(float)),
                  0)
            << c.name() << ", span " << s;
        row += c.spans[s].rows;
      }
    }
  }
}

// Long contexts, where the reference would take too long: a few rows in double, from the cache that the
// device left.
TEST(GpuAttention, LongSpansAgreeWithSampledRows) {
  std::mt19937_64 random(seed() + 5);
  for (KvType type : {KvType::kF16, KvType::kQ8_0}) {
    for (const std::vector<AttentionSpan>& spans : std::vector<std::vector<AttentionSpan>>{
             {{0, 2048}}, {{3000, 700}, {5000, 1}, {900, 333}}, {{20000, 1}}}) {
      AttentionCase c;
      c.type = type, c.spans = spans, c.heads = 8, c.kv_heads = 1;
      fill(c, random);
      DeviceAttention device(c, device_limits());
      device.launch();
      const AttentionResult got = device.result();
      check_quants(got);
      int64_t first = 0;
      for (size_t s = 0; s < spans.size(); ++s) {
        for (int sample = 0; sample < (spans[s].rows > 1 ? 6 : 1); ++sample) {
          const int32_t token = sample == 0 ? spans[s].rows - 1 : int32_t(random() % uint64_t(spans[s].rows));
          // The row alone, at its position: its own key and value are in the cache already, and are
          // written again.
          AttentionCase one = c;
          one.spans = {{spans[s].position + token, 1}};
          one.pages = {c.pages[s]};
          one.k_cache = got.k_cache, one.v_cache = got.v_cache;
          const auto cut = [&](std::vector<float>& x, int64_t width) {
            x = {x.begin() + (first + token) * width, x.begin() + (first + token + 1) * width};
          };
          cut(one.q_gate, int64_t(c.heads) * 2 * c.dim);
          cut(one.k, int64_t(c.kv_heads) * c.dim);
          cut(one.v, int64_t(c.kv_heads) * c.dim);
          const AttentionResult want = run_reference(one);
          const int64_t width = int64_t(c.heads) * c.dim;
          const std::vector<float> row(got.values.begin() + (first + token) * width,
                                       got.values.begin() + (first + token + 1) * width);
          EXPECT_LE(squared_error(row, want.values), 1e-5) << c.name() << ", token " << token;
        }
        first += spans[s].rows;
      }
    }
  }
}

// The same graph again and again: nothing is left behind that changes the next step.
TEST(GpuAttention, RunsAgainWithTheSameBits) {
  std::mt19937_64 random(seed() + 6);
  AttentionCase c;
  c.spans = {{700, 1}, {20, 1}, {123, 1}};
  fill(c, random);
  DeviceAttention device(c, device_limits());
  cudaStream_t stream;
  gpu::check_runtime(cudaStreamCreate(&stream), "cudaStreamCreate");
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  gpu::check_runtime(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (int i = 0; i < 3; ++i) device.launch(stream);
  gpu::check_runtime(cudaStreamEndCapture(stream, &graph), "capture");
  gpu::check_runtime(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  gpu::check_runtime(cudaGraphLaunch(executable, stream), "launch");
  const AttentionResult first = device.result();
  for (int i = 0; i < 20; ++i) gpu::check_runtime(cudaGraphLaunch(executable, stream), "launch");
  const AttentionResult later = device.result();
  EXPECT_TRUE(first.values == later.values && first.k_cache == later.k_cache);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace dw
