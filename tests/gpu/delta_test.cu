// The GPU's delta mixer against the reference (token by token, fp64 sums): every kind of kernel, every chunk
// size, the cases that broke other engines.
#include <gtest/gtest.h>

#include "delta_support.h"

namespace dw::test {
namespace {

struct Path {
  const char* name;
  gpu::DeltaPlan plan;
  double bound;
};
constexpr double kExact = 1e-9, kHalf = 1e-5;
constexpr int32_t kAllRows = 1;  // even the shortest span runs in chunks

const gpu::Limits& limits() {
  static const gpu::Limits kLimits = device_limits();
  return kLimits;
}

bool fits_hopper(const DeltaCase& c) {
  if (limits().architecture < 900) return false;
  const int32_t ratio = c.v_heads / c.k_heads;
  return c.k_dim == 128 && c.v_dim == 128 && c.taps == 4 && (ratio == 1 || ratio == 2 || ratio == 4);
}

std::vector<Path> paths_of(const DeltaCase& c) {
  std::vector<Path> paths = {{"portable, token by token", {0, 1, false}, kExact}};
  if (c.k_dim == 128 && c.v_dim == 128) {
    paths.push_back({"portable, chunks of 16", {16, kAllRows, false}, kExact});
    paths.push_back({"portable, chunks of 32", {32, kAllRows, false}, kExact});
    paths.push_back({"portable, mixed", {32, 20, false}, kExact});
  }
  if (!fits_hopper(c)) return paths;
  paths.push_back({"sm_90, token by token", {0, 1, true}, kExact});
  paths.push_back({"sm_90, chunks of 16", {16, kAllRows, true}, kHalf});
  paths.push_back({"sm_90, chunks of 32", {32, kAllRows, true}, kHalf});
  paths.push_back({"sm_90, chunks of 64", {64, kAllRows, true}, kHalf});
  paths.push_back({"sm_90, mixed", {64, 33, true}, kHalf});
  return paths;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_near(const DeltaResult& got, const DeltaResult& want, const Path& path) {
  EXPECT_EQ(got.trouble, "") << path.name;
  EXPECT_LE(nmse_of(got.out, want.out), path.bound) << path.name << ", output";
  EXPECT_LE(nmse_of(got.state, want.state), path.bound) << path.name << ", state";
  EXPECT_TRUE(same_bits(got.conv_state, want.conv_state)) << path.name << ", conv state";
  if (std::getenv("DELTA_ERRORS") != nullptr) {
    std::printf("  %-26s out %.2e state %.2e\n", path.name, nmse_of(got.out, want.out),
                nmse_of(got.state, want.state));
  }
}

void compare_everywhere(const DeltaCase& c, double slack = 1) {
  const DeltaResult want = run_reference(c);
  for (Path path : paths_of(c)) {
    path.bound *= slack;
    expect_near(run_gpu(c, limits(), path.plan), want, path);
  }
}

TEST(GpuDelta, RatiosOfHeadsAndSlotsInRandomOrder) {
  for (const auto& [k_heads, v_heads] :
       {std::pair(2, 2), std::pair(2, 4), std::pair(1, 4), std::pair(1, 3)}) {
    SCOPED_TRACE("seed " + std::to_string(v_heads));
    Random random{uint64_t(v_heads)};
    compare_everywhere(make_delta_case(random, {70, 1, 3, 64, 33}, k_heads, v_heads));
  }
}

TEST(GpuDelta, LengthsAroundChunksAndTaps) {
  for (int32_t length : {1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 700}) {
    SCOPED_TRACE("length and seed " + std::to_string(length));
    Random random{uint64_t(100 + length)};
    compare_everywhere(make_delta_case(random, {length}, 1, 2));
  }
}

// Everything that goes round in a ring has gone round.
TEST(GpuDelta, SpansOfManyChunks) {
  Random random(8);
  compare_everywhere(make_delta_case(random, {900, 2, 450}, 2, 4));
}

TEST(GpuDelta, OtherHeadSizesAndTaps) {
  Random random(7);
  compare_everywhere(make_delta_case(random, {20, 3}, 2, 4, 64, 64));
  compare_everywhere(make_delta_case(random, {9}, 2, 2, 24, 16, 3));
  compare_everywhere(make_delta_case(random, {9}, 1, 1, 256, 256, 5));
  compare_everywhere(make_delta_case(random, {40}, 1, 2, 128, 128, 2));
}

TEST(GpuDelta, DecayFarBelowTheRangeOfExp) {
  Random random(30);
  DeltaCase c = make_delta_case(random, {130}, 1, 2);
  for (size_t h = 0; h < c.a.size(); ++h) c.a[h] = h % 2 == 0 ? -6.0f : -0.01f;  // below -80 in 16 tokens
  for (float& x : c.ba) x += 1.5f;
  compare_everywhere(c);
}

TEST(GpuDelta, LargeGateInputsTakeTheLinearBranchOfSoftplus) {
  Random random(31);
  DeltaCase c = make_delta_case(random, {40}, 1, 2);
  for (float& x : c.ba) x *= 60.0f;
  for (float& a : c.a) a = -1e-3f;
  compare_everywhere(c);
}

// The same key again and again with beta near 1: the triangular system is as far from diagonal as it gets.
TEST(GpuDelta, RepeatedKeysWithBetaNearOne) {
  Random random(32);
  DeltaCase c = make_delta_case(random, {128}, 1, 2);
  for (int64_t t = 1; t < c.tokens(); ++t)
    std::copy_n(c.qkv.begin() + 128, 128, c.qkv.begin() + t * c.channels() + 128);
  for (int64_t t = 0; t < c.tokens(); ++t) {
    for (int64_t h = 0; h < 2; ++h) {
      c.ba[size_t(t * 4 + h)] = 12.0f;
      c.ba[size_t(t * 4 + 2 + h)] = -8.0f;
    }
  }
  compare_everywhere(c, 10);
}

TEST(GpuDelta, ZeroInputsStayFinite) {
  Random random(33);
  DeltaCase c = make_delta_case(random, {40}, 1, 2);
  std::fill(c.qkv.begin(), c.qkv.end(), 0.0f);
  std::fill(c.conv_state.begin(), c.conv_state.end(), 0.0f);
  compare_everywhere(c);
}

TEST(GpuDelta, SpansInPiecesEqualTheWhole) {
  Random random(40);
  const DeltaCase c = make_delta_case(random, {97, 30, 5}, 1, 2);
  const DeltaResult want = run_reference(c);
  for (const Path& path : paths_of(c)) {
    for (int32_t piece : {1, 2, 17, 40}) {
      SCOPED_TRACE("pieces of " + std::to_string(piece));
      expect_near(run_gpu(c, limits(), path.plan, piece), want, path);
    }
  }
}

TEST(GpuDelta, TokenByTokenDoesNotDependOnThePieces) {
  Random random(41);
  const DeltaCase c = make_delta_case(random, {45, 20}, 1, 2);
  for (bool hopper : {false, true}) {
    if (hopper && !fits_hopper(c)) continue;
    const gpu::DeltaPlan plan = {0, 1, hopper};
    const DeltaResult whole = run_gpu(c, limits(), plan);
    for (int32_t piece : {1, 7}) {
      const DeltaResult pieces = run_gpu(c, limits(), plan, piece);
      EXPECT_TRUE(same_bits(pieces.out, whole.out) && same_bits(pieces.state, whole.state))
          << hopper << piece;
    }
  }
}

// Sequence s of a case, alone.
DeltaCase sequence_of(const DeltaCase& c, size_t s) {
  DeltaCase one = c;
  one.lengths = {c.lengths[s]};
  one.slots = {0};
  const int64_t first = std::accumulate(c.lengths.begin(), c.lengths.begin() + int64_t(s), int64_t(0));
  const auto cut = [](std::vector<float>& x, int64_t from, int64_t count) {
    x = std::vector<float>(x.begin() + from, x.begin() + from + count);
  };
  cut(one.qkv, first * c.channels(), c.lengths[s] * c.channels());
  cut(one.z, first * c.width(), c.lengths[s] * c.width());
  cut(one.ba, first * 2 * c.v_heads, c.lengths[s] * 2 * c.v_heads);
  cut(one.conv_state, c.slots[s] * c.conv_cells(), c.conv_cells());
  cut(one.state, c.slots[s] * c.state_cells(), c.state_cells());
  return one;
}

TEST(GpuDelta, BatchEqualsEachSequenceAloneBitForBit) {
  Random random(43);
  const DeltaCase c = make_delta_case(random, {70, 1, 129, 2, 33}, 2, 4);
  for (const Path& path : paths_of(c)) {
    const DeltaResult all = run_gpu(c, limits(), path.plan);
    int64_t first = 0;
    for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
      const DeltaCase alone = sequence_of(c, s);
      const DeltaResult one = run_gpu(alone, limits(), path.plan);
      const auto same = [&](const std::vector<float>& x, int64_t from, const std::vector<float>& part) {
        return std::memcmp(x.data() + from, part.data(), part.size() * sizeof(float)) == 0;
      };
      EXPECT_TRUE(same(all.out, first * c.width(), one.out)) << path.name << " " << s;
      EXPECT_TRUE(same(all.state, c.slots[s] * c.state_cells(), one.state)) << path.name << " " << s;
      EXPECT_TRUE(same(all.conv_state, c.slots[s] * c.conv_cells(), one.conv_state)) << path.name << s;
    }
  }
}

// The launcher's own choice, for both kinds of spans at once.
TEST(GpuDelta, ThePlanOfTheDeviceMatchesReference) {
  Random random(44);
  const DeltaCase c = make_delta_case(random, {17, 1, 200, 1, 90, 2}, 2, 4);
  ops::DeltaMixer op = delta_op(c, c.tokens());
  op.chunk = gpu::delta_default_chunk(limits());
  const gpu::DeltaPlan plan = gpu::plan_delta(limits(), op);
  EXPECT_EQ(plan.hopper, fits_hopper(c));
  EXPECT_LE(gpu::delta_scratch_bytes(op, plan), gpu::delta_scratch_bytes(op));
  expect_near(run_gpu(c, limits(), plan), run_reference(c), {"the device's plan", plan, kHalf});
}

}  // namespace
}  // namespace dw::test
