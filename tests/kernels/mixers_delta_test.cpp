// The CPU delta mixer against the reference (token by token, fp64 sums), at every level, in every chunk size.
#include <numeric>

#include "kernels/mixers_support.h"
#include "kernels/reference/reference.h"

namespace dw {
namespace {

using test::Guarded;
using test::GuardedActivations;
using test::name_of;
using test::nmse;
using test::normals;
using test::same_bits;

constexpr double kBound = 1e-10;  // fp32 sums against fp64 sums

struct Case {
  int32_t k_heads = 2, v_heads = 4, k_dim = 32, v_dim = 32, taps = 4;
  std::vector<int32_t> lengths;
  std::vector<float> conv_weight, dt_bias, a, norm;
  std::vector<float> qkv, z, ba;         // [all tokens, *]
  std::vector<float> conv_state, state;  // per sequence

  int64_t channels() const { return 2 * k_heads * k_dim + v_heads * v_dim; }
  int64_t tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t(0)); }
  int64_t width() const { return v_heads * v_dim; }
};

void fill(Case& c, Random& random) {
  const int64_t sequences = int64_t(c.lengths.size());
  c.conv_weight = normals(random, c.channels() * c.taps, 0.5f);
  c.dt_bias = normals(random, c.v_heads, 0.5f);
  for (int32_t h = 0; h < c.v_heads; ++h) c.a.push_back(-std::exp(random.uniform(-5.0f, 1.0f)));
  c.norm = normals(random, c.v_dim, 0.2f, 1.0f);
  c.qkv = normals(random, c.tokens() * c.channels());
  c.z = normals(random, c.tokens() * c.width());
  c.ba = normals(random, c.tokens() * 2 * c.v_heads);
  c.conv_state = normals(random, sequences * (c.taps - 1) * c.channels(), 0.5f);
  c.state = normals(random, sequences * c.v_heads * c.k_dim * c.v_dim, 0.5f);
}

Case make_case(Random& random, std::vector<int32_t> lengths, int32_t k_heads = 2, int32_t v_heads = 4,
               int32_t k_dim = 32, int32_t v_dim = 32, int32_t taps = 4) {
  Case c;
  c.k_heads = k_heads;
  c.v_heads = v_heads;
  c.k_dim = k_dim;
  c.v_dim = v_dim;
  c.taps = taps;
  c.lengths = std::move(lengths);
  fill(c, random);
  return c;
}

// Sequence s of a case, alone.
Case sequence_of(const Case& c, size_t s) {
  Case one = c;
  one.lengths = {c.lengths[s]};
  const int64_t first = std::accumulate(c.lengths.begin(), c.lengths.begin() + int64_t(s), int64_t(0));
  const auto cut = [&](std::vector<float>& x, int64_t from, int64_t count) {
    x = std::vector<float>(x.begin() + from, x.begin() + from + count);
  };
  cut(one.qkv, first * c.channels(), c.lengths[s] * c.channels());
  cut(one.z, first * c.width(), c.lengths[s] * c.width());
  cut(one.ba, first * 2 * c.v_heads, c.lengths[s] * 2 * c.v_heads);
  const int64_t conv = (c.taps - 1) * c.channels(), state = c.v_heads * c.k_dim * c.v_dim;
  cut(one.conv_state, int64_t(s) * conv, conv);
  cut(one.state, int64_t(s) * state, state);
  return one;
}

struct Result {
  std::vector<float> out, state, conv_state;
  bool operator==(const Result& other) const {
    return same_bits(out, other.out) && same_bits(state, other.state) &&
           same_bits(conv_state, other.conv_state);
  }
};

// Runs rows [begin, begin + count) of every sequence (clipped to its length), spans in one call; the slots of
// the sequences are in reverse order.
template <class Run>
void run_piece(const Case& c, int32_t begin, int32_t count, int32_t chunk, Result& r, const Run& run_op) {
  std::vector<ops::Span> spans;
  std::vector<float> qkv, z, ba;
  std::vector<int64_t> origin;
  int64_t first = 0;
  for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
    const int32_t end = std::min(c.lengths[s], begin + count);
    if (begin >= end) continue;
    const int32_t slot = int32_t(c.lengths.size() - 1 - s);
    spans.push_back({slot, int32_t(origin.size()), end - begin, begin, nullptr});
    for (int64_t row = first + begin; row < first + end; ++row) {
      origin.push_back(row);
      qkv.insert(qkv.end(), &c.qkv[row * c.channels()], &c.qkv[row * c.channels()] + c.channels());
      z.insert(z.end(), &c.z[row * c.width()], &c.z[row * c.width()] + c.width());
      ba.insert(ba.end(), &c.ba[row * 2 * c.v_heads], &c.ba[row * 2 * c.v_heads] + 2 * c.v_heads);
    }
  }
  GuardedActivations out(int64_t(origin.size()), c.width());
  ops::DeltaMixer op;
  op.k_heads = c.k_heads;
  op.v_heads = c.v_heads;
  op.k_dim = c.k_dim;
  op.v_dim = c.v_dim;
  op.conv_taps = c.taps;
  op.chunk = chunk;
  op.tokens = int64_t(origin.size());
  op.spans = spans;
  op.qkv = qkv.data();
  op.z = z.data();
  op.ba = ba.data();
  op.conv_weight = c.conv_weight.data();
  op.dt_bias = c.dt_bias.data();
  op.a = c.a.data();
  op.norm = c.norm.data();
  op.conv_state = r.conv_state.data();
  op.state = r.state.data();
  op.out = out.view;
  run_op(op);
  out.check("delta mixer");
  for (size_t i = 0; i < origin.size(); ++i) {
    std::copy_n(out.view.values + int64_t(i) * c.width(), c.width(), &r.out[size_t(origin[i] * c.width())]);
  }
}

// Per sequence arrays in reverse slot order and back.
std::vector<float> reversed_slots(const std::vector<float>& x, size_t slots) {
  std::vector<float> y(x.size());
  const size_t each = x.size() / slots;
  for (size_t s = 0; s < slots; ++s) {
    std::copy_n(x.begin() + int64_t(s * each), each, y.begin() + int64_t((slots - 1 - s) * each));
  }
  return y;
}

template <class Run>
Result run(const Case& c, int32_t chunk, int32_t piece, const Run& run_op) {
  const size_t slots = c.lengths.size();
  Result r{std::vector<float>(size_t(c.tokens() * c.width())), reversed_slots(c.state, slots),
           reversed_slots(c.conv_state, slots)};
  const int32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
  for (int32_t begin = 0; begin < longest; begin += piece) run_piece(c, begin, piece, chunk, r, run_op);
  r.state = reversed_slots(r.state, slots);
  r.conv_state = reversed_slots(r.conv_state, slots);
  return r;
}

Result run_reference(const Case& c) {
  return run(c, 0, 1 << 20, [](const ops::DeltaMixer& op) { reference::delta_mixer(op); });
}

Result run_cpu(const Case& c, CpuLevel level, int threads, int32_t chunk, int32_t piece = 1 << 20) {
  ThreadPool pool(threads);
  return run(c, chunk, piece, [&](const ops::DeltaMixer& op) { cpu::delta_mixer({level, &pool}, op); });
}

void expect_near(const Result& got, const Result& want, double bound, const std::string& what) {
  EXPECT_LE(nmse(got.out, want.out), bound) << what << ", output";
  EXPECT_LE(nmse(got.state, want.state), bound) << what << ", state";
  EXPECT_TRUE(same_bits(got.conv_state, want.conv_state)) << what << ", conv state";
}

void compare_everywhere(const Case& c, double bound = kBound) {
  const Result want = run_reference(c);
  for (CpuLevel level : test::available_levels()) {
    for (int32_t chunk : {0, 16, 32, 64, 128, 24}) {
      expect_near(run_cpu(c, level, 2, chunk), want, bound,
                  name_of(level, 2) + ", chunk " + std::to_string(chunk));
    }
  }
}

TEST(CpuDelta, MatchesReferenceOnRandomShapes) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int32_t ratio = 1 + int32_t(random.below(3)), k_heads = 1 + int32_t(random.below(4));
    std::vector<int32_t> lengths(size_t(1 + random.below(3)));
    for (int32_t& length : lengths) length = 1 + int32_t(random.below(150));
    compare_everywhere(make_case(random, lengths, k_heads, k_heads * ratio,
                                 32 * (1 + int32_t(random.below(4))), 32 * (1 + int32_t(random.below(4))),
                                 2 + int32_t(random.below(4))));
  }
}

TEST(CpuDelta, MatchesReferenceAtTheModelsHeadSize) {
  Random random(20);
  compare_everywhere(make_case(random, {200, 1, 3}, 2, 4, 128, 128));
  compare_everywhere(make_case(random, {40}, 1, 1, 256, 256, 5));
}

TEST(CpuDelta, LengthsAroundChunksAndTaps) {
  for (int32_t length : {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129}) {
    SCOPED_TRACE("length " + std::to_string(length));
    Random random(uint64_t(100 + length));
    compare_everywhere(make_case(random, {length}));
  }
}

TEST(CpuDelta, DecayFarBelowTheRangeOfExp) {
  Random random(30);
  Case c = make_case(random, {130}, 2, 4, 64, 64);
  for (size_t h = 0; h < c.a.size(); ++h) c.a[h] = h % 2 == 0 ? -6.0f : -0.01f;  // sums to below -300 a chunk
  for (float& x : c.ba) x += 1.5f;
  compare_everywhere(c);
}

TEST(CpuDelta, LargeGateInputsTakeTheLinearBranchOfSoftplus) {
  Random random(31);
  Case c = make_case(random, {20});
  for (size_t i = 0; i < c.ba.size(); ++i) c.ba[i] *= 60.0f;
  for (float& a : c.a) a = -1e-3f;
  compare_everywhere(c);
}

// The same key again and again with beta near 1: the triangular system is as far from diagonal as it gets.
TEST(CpuDelta, RepeatedKeysWithBetaNearOne) {
  Random random(32);
  Case c = make_case(random, {128}, 1, 2, 64, 64);
  for (int64_t t = 1; t < c.tokens(); ++t) {
    std::copy_n(&c.qkv[64], 64, &c.qkv[size_t(t * c.channels() + 64)]);
  }
  for (int64_t t = 0; t < c.tokens(); ++t) {
    for (int32_t h = 0; h < 2; ++h) {
      c.ba[size_t(t * 4 + h)] = 12.0f;
      c.ba[size_t(t * 4 + 2 + h)] = -8.0f;
    }
  }
  compare_everywhere(c, 1e-9);
}

TEST(CpuDelta, ZeroInputsStayFinite) {
  Random random(33);
  Case c = make_case(random, {40});
  std::fill(c.qkv.begin(), c.qkv.end(), 0.0f);
  std::fill(c.conv_state.begin(), c.conv_state.end(), 0.0f);
  compare_everywhere(c);
}

TEST(CpuDelta, SpansInPiecesEqualTheWhole) {
  Random random(40);
  const Case c = make_case(random, {97, 30, 5}, 2, 4, 64, 32, 4);
  const Result want = run_reference(c);
  for (CpuLevel level : test::available_levels()) {
    for (int32_t piece : {1, 2, 3, 8, 31}) {
      expect_near(run_cpu(c, level, 2, 32, piece), want, kBound,
                  name_of(level, 2) + ", pieces of " + std::to_string(piece));
    }
  }
}

TEST(CpuDelta, TokenByTokenDoesNotDependOnThePieces) {
  Random random(41);
  const Case c = make_case(random, {45, 20}, 2, 4, 64, 64);
  for (CpuLevel level : test::available_levels()) {
    const Result whole = run_cpu(c, level, 2, 0);
    for (int32_t piece : {1, 7}) EXPECT_TRUE(run_cpu(c, level, 2, 0, piece) == whole) << name_of(level, 2);
  }
}

TEST(CpuDelta, ThreadCountChangesNoBit) {
  Random random(42);
  for (const Case& c : {make_case(random, {70, 3}, 1, 4, 64, 64), make_case(random, {1}, 1, 2, 128, 128),
                        make_case(random, {33, 1, 90}, 2, 2, 32, 64)}) {
    for (CpuLevel level : test::available_levels()) {
      for (int32_t chunk : {0, 64}) {
        const Result one = run_cpu(c, level, 1, chunk);
        for (int threads : {2, 3, 8}) {
          EXPECT_TRUE(run_cpu(c, level, threads, chunk) == one) << name_of(level, threads);
        }
      }
    }
  }
}

TEST(CpuDelta, BatchEqualsEachSequenceAlone) {
  Random random(43);
  const Case c = make_case(random, {70, 1, 12, 2, 33}, 2, 4, 32, 64, 3);
  for (CpuLevel level : test::available_levels()) {
    for (int32_t chunk : {0, 32}) {
      const Result all = run_cpu(c, level, 3, chunk);
      int64_t first = 0;
      for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
        const Result one = run_cpu(sequence_of(c, s), level, 2, chunk);
        const auto part = [&](const std::vector<float>& x, size_t from, size_t count) {
          return std::vector<float>(x.begin() + int64_t(from), x.begin() + int64_t(from + count));
        };
        EXPECT_TRUE(same_bits(part(all.out, size_t(first * c.width()), one.out.size()), one.out)) << s;
        EXPECT_TRUE(same_bits(part(all.state, s * one.state.size(), one.state.size()), one.state)) << s;
        EXPECT_TRUE(
            same_bits(part(all.conv_state, s * one.conv_state.size(), one.conv_state.size()), one.conv_state))
            << s;
      }
    }
  }
}

// All a sequence is lies in conv_state and state: copies of them, put back, continue alike.
TEST(CpuDelta, SnapshotAndRestoreArePlainCopies) {
  Random random(44);
  const Case c = make_case(random, {50}, 2, 4, 64, 64);
  ThreadPool pool(2);
  for (CpuLevel level : test::available_levels()) {
    const auto op_run = [&](const ops::DeltaMixer& op) { cpu::delta_mixer({level, &pool}, op); };
    Result r{std::vector<float>(size_t(c.tokens() * c.width())), c.state, c.conv_state};
    run_piece(c, 0, 30, 16, r, op_run);
    const Result snapshot = r;
    run_piece(c, 30, 20, 16, r, op_run);
    Result again = snapshot;
    run_piece(c, 30, 20, 16, again, op_run);
    EXPECT_TRUE(again == r) << name_of(level, 2);
  }
}

}  // namespace
}  // namespace dw
