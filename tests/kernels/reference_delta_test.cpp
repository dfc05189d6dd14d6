#include <gtest/gtest.h>

#include <numeric>

#include "kernels/reference/reference.h"
#include "kernels/reference_support.h"

namespace dw {
namespace {

using test::normals;
using test::OwnedActivations;

// The weights and inputs of a delta mixer over several sequences, and the state of each sequence.
struct Case {
  int32_t k_heads, v_heads, k_dim, v_dim, taps;
  std::vector<int32_t> lengths;
  std::vector<float> conv_weight, dt_bias, a, norm;
  std::vector<float> qkv, z, ba;         // [all tokens, *]
  std::vector<float> conv_state, state;  // per sequence

  int64_t channels() const { return 2 * k_heads * k_dim + v_heads * v_dim; }
  int64_t tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t(0)); }
};

Case make_case(Random& random, int32_t k_heads, int32_t v_heads, int32_t k_dim, int32_t v_dim,
               std::vector<int32_t> lengths, bool empty_state = false) {
  Case c{k_heads, v_heads, k_dim, v_dim, 4, std::move(lengths), {}, {}, {}, {}, {}, {}, {}, {}, {}};
  const int64_t sequences = int64_t(c.lengths.size());
  c.conv_weight = normals(random, c.channels() * c.taps, 0.5f);
  c.dt_bias = normals(random, v_heads, 0.5f);
  for (int32_t h = 0; h < v_heads; ++h) c.a.push_back(-std::exp(random.uniform(-5.0f, 1.0f)));
  c.norm = normals(random, v_dim, 0.2f, 1.0f);
  c.qkv = normals(random, c.tokens() * c.channels());
  c.z = normals(random, c.tokens() * v_heads * v_dim);
  c.ba = normals(random, c.tokens() * 2 * v_heads);
  const float deviation = empty_state ? 0.0f : 0.5f;
  c.conv_state = normals(random, sequences * (c.taps - 1) * c.channels(), deviation);
  c.state = normals(random, sequences * v_heads * k_dim * v_dim, deviation);
  return c;
}

struct Result {
  std::vector<float> out, state, conv_state;
};

ops::DeltaMixer bind(const Case& c, Result& r) {
  ops::DeltaMixer op;
  op.k_heads = c.k_heads;
  op.v_heads = c.v_heads;
  op.k_dim = c.k_dim;
  op.v_dim = c.v_dim;
  op.conv_taps = c.taps;
  op.tokens = c.tokens();
  op.qkv = c.qkv.data();
  op.z = c.z.data();
  op.ba = c.ba.data();
  op.conv_weight = c.conv_weight.data();
  op.dt_bias = c.dt_bias.data();
  op.a = c.a.data();
  op.norm = c.norm.data();
  op.conv_state = r.conv_state.data();
  op.state = r.state.data();
  return op;
}

// Runs the case; each sequence is cut into spans of at most `piece` tokens, the n-th spans of all sequences
// in one call (0: not cut).
Result run(const Case& c, int32_t chunk, int32_t piece = 0) {
  Result r{{}, c.state, c.conv_state};
  r.out.resize(size_t(c.tokens() * c.v_heads * c.v_dim));
  const int64_t out_columns = c.v_heads * c.v_dim;
  std::vector<int32_t> first(c.lengths.size()), done(c.lengths.size());
  for (size_t s = 1; s < first.size(); ++s) first[s] = first[s - 1] + c.lengths[s - 1];

  for (bool more = true; more;) {
    more = false;
    Case part = c;
    part.qkv.clear();
    part.z.clear();
    part.ba.clear();
    std::vector<ops::Span> spans;
    std::vector<int32_t> origin;  // row of c for each row of the part
    for (size_t s = 0; s < c.lengths.size(); ++s) {
      const int32_t left = c.lengths[s] - done[s], count = piece ? std::min(piece, left) : left;
      if (count == 0) continue;
      spans.push_back({int32_t(s), int32_t(origin.size()), count, done[s], nullptr});
      for (int32_t t = 0; t < count; ++t) origin.push_back(first[s] + done[s] + t);
      done[s] += count;
      more |= done[s] < c.lengths[s];
    }
    const auto gather = [&](const std::vector<float>& from, std::vector<float>& to, int64_t width) {
      for (int32_t row : origin) to.insert(to.end(), &from[row * width], &from[row * width] + width);
    };
    gather(c.qkv, part.qkv, c.channels());
    gather(c.z, part.z, out_columns);
    gather(c.ba, part.ba, 2 * c.v_heads);

    OwnedActivations out(int64_t(origin.size()), out_columns);
    ops::DeltaMixer op = bind(part, r);
    op.tokens = int64_t(origin.size());
    op.chunk = chunk;
    op.spans = spans;
    op.out = out.view;
    reference::delta_mixer(op);
    for (size_t row = 0; row < origin.size(); ++row) {
      std::copy_n(&out.values[row * size_t(out_columns)], out_columns,
                  &r.out[size_t(origin[row] * out_columns)]);
    }
  }
  return r;
}

// One head's output without any state matrix: the rank-one updates are kept in a list,
//   S_t = e^{G_t} S_0 + sum_{j <= t} e^{G_t - G_j} k_j d_j^T,
// in fp64 throughout.
struct UpdateList {
  const float* start;  // [k_dim, v_dim]
  int64_t k_dim, v_dim;
  std::vector<std::vector<double>> k, d;
  std::vector<double> log_decay;  // G_j

  // (S^T x) at accumulated decay G
  std::vector<double> read(const std::vector<double>& x, double G) const {
    std::vector<double> y(size_t(v_dim), 0.0);
    for (int64_t c = 0; c < v_dim; ++c) {
      for (int64_t i = 0; i < k_dim; ++i) y[c] += std::exp(G) * start[i * v_dim + c] * x[i];
    }
    for (size_t j = 0; j < k.size(); ++j) {
      const double overlap = std::inner_product(k[j].begin(), k[j].end(), x.begin(), 0.0);
      for (int64_t c = 0; c < v_dim; ++c) y[c] += std::exp(G - log_decay[j]) * overlap * d[j][c];
    }
    return y;
  }
};

// u_t[channel] with history from the conv state
double conv_silu(const Case& c, int64_t sequence, int64_t first, int64_t t, int64_t channel) {
  double sum = 0;
  for (int64_t back = 0; back < c.taps; ++back) {
    const int64_t at = t - back;
    const double x = at >= 0
                         ? c.qkv[(first + at) * c.channels() + channel]
                         : c.conv_state[(sequence * (c.taps - 1) + c.taps - 1 + at) * c.channels() + channel];
    sum += x * c.conv_weight[channel * c.taps + (c.taps - 1 - back)];
  }
  return sum / (1 + std::exp(-sum));
}

void closed_form_head(const Case& c, int64_t sequence, int64_t first, int64_t h, std::vector<double>& out) {
  const int64_t ratio = c.v_heads / c.k_heads, kh = h / ratio, heads_out = c.v_heads * c.v_dim;
  UpdateList updates{&c.state[(sequence * c.v_heads + h) * c.k_dim * c.v_dim], c.k_dim, c.v_dim, {}, {}, {}};
  double G = 0;
  for (int64_t t = 0; t < c.lengths[size_t(sequence)]; ++t) {
    std::vector<double> q, k;
    double qq = 1e-6, kk = 1e-6;
    for (int64_t i = 0; i < c.k_dim; ++i) {
      q.push_back(conv_silu(c, sequence, first, t, kh * c.k_dim + i));
      k.push_back(conv_silu(c, sequence, first, t, (c.k_heads + kh) * c.k_dim + i));
      qq += q.back() * q.back();
      kk += k.back() * k.back();
    }
    for (double& x : q) x /= std::sqrt(qq);
    for (double& x : k) x /= std::sqrt(kk);
    const float* ba = &c.ba[(first + t) * 2 * c.v_heads];
    const double b = ba[kh * 2 * ratio + h % ratio], a = ba[kh * 2 * ratio + ratio + h % ratio];
    G += c.a[h] * std::log(1 + std::exp(a + c.dt_bias[h]));
    const std::vector<double> recalled = updates.read(k, G);
    std::vector<double> d;
    for (int64_t i = 0; i < c.v_dim; ++i) {
      const double v = conv_silu(c, sequence, first, t, 2 * c.k_heads * c.k_dim + h * c.v_dim + i);
      d.push_back((v - recalled[i]) / (1 + std::exp(-b)));
    }
    updates.k.push_back(k);
    updates.d.push_back(d);
    updates.log_decay.push_back(G);
    std::vector<double> o = updates.read(q, G);
    double power = 0;
    for (double& x : o) {
      x /= std::sqrt(double(c.k_dim));
      power += x * x / double(c.v_dim);
    }
    for (int64_t i = 0; i < c.v_dim; ++i) {
      const int64_t at = (first + t) * heads_out + h * c.v_dim + i;
      const double z = c.z[at];
      out[at] = o[i] / std::sqrt(power + 1e-6) * c.norm[i] * z / (1 + std::exp(-z));
    }
  }
}

std::vector<double> closed_form(const Case& c) {
  std::vector<double> out(size_t(c.tokens() * c.v_heads * c.v_dim));
  int64_t first = 0;
  for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
    for (int64_t h = 0; h < c.v_heads; ++h) closed_form_head(c, int64_t(s), first, h, out);
  }
  return out;
}

void expect_same_by_all_ways(const Case& c) {
  const Result recurrent = run(c, 0);
  EXPECT_TRUE(test::all_finite(recurrent.out));
  EXPECT_LE(test::nmse(recurrent.out, closed_form(c)), 1e-10);
  for (int32_t chunk : {1, 2, 3, 5, 16, 32, 64, 128}) {
    const Result chunked = run(c, chunk);
    EXPECT_LE(test::nmse(chunked.out, recurrent.out), 1e-10) << "chunk " << chunk;
    EXPECT_LE(test::nmse(chunked.state, recurrent.state), 1e-10) << "chunk " << chunk;
    EXPECT_EQ(chunked.conv_state, recurrent.conv_state) << "chunk " << chunk;
  }
}

TEST(ReferenceDelta, RandomShapesMatchTheClosedForm) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int32_t k_heads = 1 + int32_t(random.below(3)), ratio = 1 + int32_t(random.below(3));
    std::vector<int32_t> lengths(size_t(1 + random.below(3)));
    for (int32_t& length : lengths) length = 1 + int32_t(random.below(70));
    expect_same_by_all_ways(make_case(random, k_heads, k_heads * ratio, 8 + int32_t(random.below(25)),
                                      8 + int32_t(random.below(25)), lengths, seed % 3 == 0));
  }
}

TEST(ReferenceDelta, FewerTokensThanConvTaps) {
  Random random(21);
  expect_same_by_all_ways(make_case(random, 2, 4, 16, 16, {1, 2, 3}));
  expect_same_by_all_ways(make_case(random, 2, 2, 16, 16, {3}, true));
}

TEST(ReferenceDelta, LengthsAroundTheChunk) {
  Random random(22);
  expect_same_by_all_ways(make_case(random, 1, 2, 16, 16, {63, 64, 65, 129}));
}

TEST(ReferenceDelta, DecayFarBelowTheRangeOfExpInOneChunk) {
  Random random(23);
  Case c = make_case(random, 1, 2, 16, 16, {100});
  c.a = {-20.0f, -3.0f};
  c.dt_bias = {3.0f, 3.0f};  // about -60 and -9 a token: e^{-G} overflows after two and ten tokens
  expect_same_by_all_ways(c);
}

TEST(ReferenceDelta, DecayInBurstsWithLongMemoryBetween) {
  Random random(24);
  Case c = make_case(random, 1, 1, 16, 16, {128});
  c.a = {-8.0f};
  c.dt_bias = {0.0f};
  for (int64_t t = 0; t < 128; ++t) c.ba[2 * t + 1] = t % 20 == 7 ? 12.0f : -12.0f;  // -96 or -5e-5
  expect_same_by_all_ways(c);
}

TEST(ReferenceDelta, RepeatedKeysWithBetaNearOne) {
  Random random(25);
  Case c = make_case(random, 1, 2, 16, 16, {130});
  c.a = {-1e-4f, -1e-3f};
  const int64_t channels = c.channels();
  for (int64_t t = 0; t < 130; ++t) {
    for (int64_t i = 0; i < 16; ++i)
      c.qkv[t * channels + 16 + i] = 1.0f + 0.1f * float(i % 3);  // the same key
    for (int64_t h = 0; h < 2; ++h) c.ba[t * 4 + h] = 15.0f;      // beta = 1 - 3e-7
  }
  expect_same_by_all_ways(c);
}

TEST(ReferenceDelta, StateOfZerosAndZeroInputsStayFinite) {
  Random random(26);
  Case c = make_case(random, 1, 2, 16, 16, {10}, true);
  std::fill(c.qkv.begin(), c.qkv.end(), 0.0f);
  const Result r = run(c, 4);
  EXPECT_EQ(r.out, std::vector<float>(r.out.size(), 0.0f));
  EXPECT_EQ(r.state, c.state);
}

TEST(ReferenceDelta, BatchEqualsEachSequenceAloneBitForBit) {
  Random random(27);
  const Case c = make_case(random, 2, 4, 16, 24, {5, 1, 70});
  for (int32_t chunk : {0, 16}) {
    const Result together = run(c, chunk);
    int64_t first = 0;
    std::vector<float> out, state, conv_state;
    for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
      Case alone = c;
      const auto part = [](const std::vector<float>& all, int64_t from, int64_t count, int64_t width) {
        return std::vector<float>(all.begin() + from * width, all.begin() + (from + count) * width);
      };
      alone.lengths = {c.lengths[s]};
      alone.qkv = part(c.qkv, first, c.lengths[s], c.channels());
      alone.z = part(c.z, first, c.lengths[s], c.v_heads * c.v_dim);
      alone.ba = part(c.ba, first, c.lengths[s], 2 * c.v_heads);
      alone.state = part(c.state, int64_t(s), 1, c.v_heads * c.k_dim * c.v_dim);
      alone.conv_state = part(c.conv_state, int64_t(s), 1, (c.taps - 1) * c.channels());
      const Result r = run(alone, chunk);
      out.insert(out.end(), r.out.begin(), r.out.end());
      state.insert(state.end(), r.state.begin(), r.state.end());
      conv_state.insert(conv_state.end(), r.conv_state.begin(), r.conv_state.end());
    }
    EXPECT_EQ(together.out, out);
    EXPECT_EQ(together.state, state);
    EXPECT_EQ(together.conv_state, conv_state);
  }
}

TEST(ReferenceDelta, CutAnywhereEqualsWhole) {
  Random random(28);
  const Case c = make_case(random, 2, 4, 16, 16, {70, 33});
  const Result whole = run(c, 0);
  for (int32_t piece : {1, 2, 3, 7, 16, 69}) {
    const Result cut = run(c, 0, piece);
    EXPECT_EQ(cut.out, whole.out) << piece;  // token by token: bit for bit
    EXPECT_EQ(cut.state, whole.state) << piece;
    EXPECT_EQ(cut.conv_state, whole.conv_state) << piece;
    const Result chunked = run(c, 16, piece);
    EXPECT_LE(test::nmse(chunked.out, whole.out), 1e-10) << piece;
    EXPECT_LE(test::nmse(chunked.state, whole.state), 1e-10) << piece;
    EXPECT_EQ(chunked.conv_state, whole.conv_state) << piece;
  }
}

TEST(ReferenceDelta, ShortSpansRunTokenByToken) {
  Random random(30);
  Case c = make_case(random, 1, 2, 16, 16, {7, 8});
  Result mixed{{}, c.state, c.conv_state};
  OwnedActivations out(15, 32);
  const ops::Span spans[] = {{0, 0, 7, 0, nullptr}, {1, 7, 8, 0, nullptr}};
  ops::DeltaMixer op = bind(c, mixed);
  op.spans = spans;
  op.chunk = 4;
  op.min_chunked_tokens = 8;
  op.out = out.view;
  reference::delta_mixer(op);
  const Result recurrent = run(c, 0), chunked = run(c, 4);
  ASSERT_NE(recurrent.out, chunked.out);  // they differ in rounding, so the choice shows
  for (size_t i = 0; i < out.values.size(); ++i) {
    EXPECT_EQ(out.values[i], (i < 7 * 32 ? recurrent : chunked).out[i]) << i;
  }
}

TEST(ReferenceDelta, OtherTapCounts) {
  Random random(29);
  for (int32_t taps : {1, 2, 6}) {
    Case c = make_case(random, 1, 2, 16, 16, {9});
    c.taps = taps;
    c.conv_weight = normals(random, c.channels() * taps, 0.5f);
    c.conv_state = normals(random, (taps - 1) * c.channels());
    expect_same_by_all_ways(c);
  }
}

}  // namespace
}  // namespace dw
