#include <gtest/gtest.h>

#include <algorithm>

#include "base/half.h"
#include "kernels/reference/reference.h"
#include "kernels/reference_support.h"

namespace dw {
namespace {

using test::normals;
using test::OwnedActivations;

struct Case {
  int32_t heads, kv_heads, dim, rope_dims, page_tokens;
  ops::KvType type;
  std::vector<int32_t> lengths;
  std::vector<float> q_norm, k_norm, q_gate, k, v;
};

Case make_case(Random& random, int32_t heads, int32_t kv_heads, int32_t dim, int32_t rope_dims,
               int32_t page_tokens, ops::KvType type, std::vector<int32_t> lengths) {
  Case c{heads, kv_heads, dim, rope_dims, page_tokens, type, std::move(lengths), {}, {}, {}, {}, {}};
  int64_t tokens = 0;
  for (int32_t length : c.lengths) tokens += length;
  c.q_norm = normals(random, dim, 0.3f, 1.5f);
  c.k_norm = normals(random, dim, 0.3f, 1.0f);
  c.q_gate = normals(random, tokens * heads * 2 * dim);
  c.k = normals(random, tokens * kv_heads * dim);
  c.v = normals(random, tokens * kv_heads * dim);
  return c;
}

// All sequences of the case at once, each cut into spans of at most `piece` tokens; pages in a shuffled
// order.
std::vector<float> run(const Case& c, int32_t piece) {
  const int64_t out_columns = c.heads * c.dim, row_bytes = ops::kv_row_bytes(c.type, c.dim);
  std::vector<std::vector<int32_t>> pages;
  int32_t page_count = 0;
  for (int32_t length : c.lengths) pages.emplace_back((length + c.page_tokens - 1) / c.page_tokens);
  for (size_t round = 0; round < 1000; ++round) {
    for (auto& list : pages) {
      if (round < list.size()) list[list.size() - 1 - round] = page_count++;
    }
  }
  std::vector<std::byte> k_cache(size_t(page_count * c.kv_heads * c.page_tokens * row_bytes),
                                 std::byte(0x7f));
  std::vector<std::byte> v_cache = k_cache;
  int64_t tokens = 0;
  for (int32_t length : c.lengths) tokens += length;
  std::vector<float> result(size_t(tokens * out_columns));
  std::vector<int32_t> done(c.lengths.size());
  for (bool more = true; more;) {
    more = false;
    std::vector<ops::Span> spans;
    std::vector<float> q_gate, k, v;
    std::vector<int64_t> origin;
    int64_t first = 0;
    for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
      const int32_t count = std::min(piece, c.lengths[s] - done[s]);
      if (count == 0) continue;
      spans.push_back({0, int32_t(origin.size()), count, done[s], pages[s].data()});
      for (int32_t t = 0; t < count; ++t) origin.push_back(first + done[s] + t);
      done[s] += count;
      more |= done[s] < c.lengths[s];
    }
    for (int64_t row : origin) {
      q_gate.insert(q_gate.end(), &c.q_gate[row * 2 * out_columns],
                    &c.q_gate[row * 2 * out_columns] + 2 * out_columns);
      const int64_t width = c.kv_heads * c.dim;
      k.insert(k.end(), &c.k[row * width], &c.k[row * width] + width);
      v.insert(v.end(), &c.v[row * width], &c.v[row * width] + width);
    }
    OwnedActivations out(int64_t(origin.size()), out_columns);
    ops::Attention op;
    op.heads = c.heads;
    op.kv_heads = c.kv_heads;
    op.key_dim = op.value_dim = c.dim;
    op.rope_dims = c.rope_dims;
    op.rope_base = 1e4f;
    op.scale = 1 / std::sqrt(float(c.dim));
    op.tokens = int64_t(origin.size());
    op.spans = spans;
    op.q_gate = q_gate.data();
    op.k = k.data();
    op.v = v.data();
    op.q_norm = c.q_norm.data();
    op.k_norm = c.k_norm.data();
    op.kv_type = c.type;
    op.page_tokens = c.page_tokens;
    op.k_cache = k_cache.data();
    op.v_cache = v_cache.data();
    op.out = out.view;
    reference::attention(op);
    for (size_t row = 0; row < origin.size(); ++row) {
      std::copy_n(&out.values[row * size_t(out_columns)], out_columns,
                  &result[size_t(origin[row] * out_columns)]);
    }
  }
  return result;
}

// What the cache does to a vector. q8_0: 32 values share an f16 scale.
std::vector<double> rounded(const Case& c, const std::vector<double>& x) {
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i) {
    if (c.type == ops::KvType::kF16) {
      y.push_back(half_to_float(float_to_half(float(x[i]))));
      continue;
    }
    float largest = 0;
    for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j)
      largest = std::max(largest, std::fabs(float(x[j])));
    const float scale = largest / 127;
    y.push_back(double(half_to_float(float_to_half(scale))) * std::round(double(float(x[i])) / scale));
  }
  return y;
}

std::vector<double> normed_and_turned(const float* x, const std::vector<float>& weight, int64_t dim,
                                      int64_t rope_dims, int64_t position) {
  double power = 0;
  for (int64_t i = 0; i < dim; ++i) power += double(x[i]) * x[i];
  std::vector<double> y;
  for (int64_t i = 0; i < dim; ++i) y.push_back(x[i] * weight[i] / std::sqrt(power / double(dim) + 1e-6));
  std::vector<double> turned = y;
  for (int64_t i = 0; i < rope_dims; ++i) {
    const int64_t pair = i % (rope_dims / 2);
    const double angle = double(position) * std::exp(-std::log(1e4) * double(2 * pair) / double(rope_dims));
    const double other = i < rope_dims / 2 ? -y[i + rope_dims / 2] : y[i - rope_dims / 2];
    turned[i] = y[i] * std::cos(angle) + other * std::sin(angle);
  }
  return turned;
}

// One sequence of the case whose first row is `first`, the whole score row at once, fp64.
void closed_form(const Case& c, int64_t first, int64_t length, std::vector<double>& out) {
  for (int64_t h = 0; h < c.heads; ++h) {
    const int64_t kv = h * c.kv_heads / c.heads;
    std::vector<std::vector<double>> keys, values;
    for (int64_t t = 0; t < length; ++t) {
      const int64_t at = ((first + t) * c.kv_heads + kv) * c.dim;
      keys.push_back(rounded(c, normed_and_turned(&c.k[at], c.k_norm, c.dim, c.rope_dims, t)));
      values.push_back(rounded(c, std::vector<double>(&c.v[at], &c.v[at] + c.dim)));
    }
    for (int64_t t = 0; t < length; ++t) {
      const float* q = &c.q_gate[((first + t) * c.heads + h) * 2 * c.dim];
      const std::vector<double> query = normed_and_turned(q, c.q_norm, c.dim, c.rope_dims, t);
      double denominator = 0;
      std::vector<double> mixed(size_t(c.dim), 0.0);
      for (int64_t s = 0; s <= t; ++s) {
        double score = 0;
        for (int64_t i = 0; i < c.dim; ++i) score += query[i] * keys[s][i];
        const double weight = std::exp(score / std::sqrt(double(c.dim)));
        denominator += weight;
        for (int64_t i = 0; i < c.dim; ++i) mixed[i] += weight * values[s][i];
      }
      for (int64_t i = 0; i < c.dim; ++i) {
        out[((first + t) * c.heads + h) * c.dim + i] =
            mixed[i] / denominator / (1 + std::exp(-double(q[c.dim + i])));
      }
    }
  }
}

std::vector<double> closed_form(const Case& c) {
  std::vector<double> out(c.q_gate.size() / 2);
  int64_t first = 0;
  for (int32_t length : c.lengths) {
    closed_form(c, first, length, out);
    first += length;
  }
  return out;
}

TEST(ReferenceAttention, RandomShapesMatchTheClosedForm) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int32_t kv_heads = 1 + int32_t(random.below(2)), ratio = 1 + int32_t(random.below(4));
    std::vector<int32_t> lengths(size_t(1 + random.below(3)));
    for (int32_t& length : lengths) length = 1 + int32_t(random.below(40));
    const Case c =
        make_case(random, kv_heads * ratio, kv_heads, 32, 8 * int32_t(1 + random.below(4)),
                  4 + int32_t(random.below(30)), seed % 2 ? ops::KvType::kF16 : ops::KvType::kQ8_0, lengths);
    // Values near a rounding border may fall on the other side in the closed form's fp64 keys.
    const double bound = c.type == ops::KvType::kF16 ? 1e-9 : 1e-6;
    const std::vector<float> whole = run(c, 1000);
    EXPECT_LE(test::nmse(whole, closed_form(c)), bound);
    for (int32_t piece : {1, 5, 17}) EXPECT_EQ(run(c, piece), whole) << piece;
  }
}

TEST(ReferenceAttention, BatchEqualsEachSequenceAloneBitForBit) {
  Random random(31);
  const Case c = make_case(random, 4, 2, 32, 16, 8, ops::KvType::kF16, {9, 1, 20});
  const std::vector<float> together = run(c, 1000);
  std::vector<float> alone;
  int64_t first = 0;
  for (int32_t length : c.lengths) {
    Case one = c;
    one.lengths = {length};
    one.q_gate.assign(&c.q_gate[first * 4 * 2 * 32], &c.q_gate[first * 4 * 2 * 32] + length * 4 * 2 * 32);
    one.k.assign(&c.k[first * 64], &c.k[first * 64] + length * 64);
    one.v.assign(&c.v[first * 64], &c.v[first * 64] + length * 64);
    const std::vector<float> out = run(one, 1000);
    alone.insert(alone.end(), out.begin(), out.end());
    first += length;
  }
  EXPECT_EQ(together, alone);
}

TEST(ReferenceAttention, ScoresBeyondTheRangeOfExp) {
  Random random(32);
  Case c = make_case(random, 1, 1, 32, 8, 8, ops::KvType::kF16, {12});
  for (float& w : c.q_norm) w *= 100;
  EXPECT_TRUE(test::all_finite(run(c, 1000)));
  EXPECT_EQ(run(c, 1000), run(c, 3));
}

}  // namespace
}  // namespace dw
