// CPU attention against the reference, at every level: shapes, pages, cache types, positions, pieces.
#include <numeric>

#include "base/half.h"
#include "kernels/mixers_support.h"
#include "kernels/reference/reference.h"
#include "quant/types.h"

namespace dw {
namespace {

using test::GuardedActivations;
using test::name_of;
using test::nmse;
using test::normals;
using test::same_bits;

// The cache rounds keys and values; a key that falls on the other side of a rounding border, because its norm
// differs in the last fp32 bit, moves the result by more than fp32 sums do.
constexpr double kBound = 1e-8;

struct Case {
  int32_t heads = 4, kv_heads = 2, dim = 64, rope_dims = 32, page_tokens = 16;
  ops::KvType type = ops::KvType::kF16;
  int32_t position = 0;  // of the first token of every sequence
  std::vector<int32_t> lengths;
  std::vector<float> q_norm, k_norm, q_gate, k, v;
  int64_t tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t(0)); }
  int64_t width() const { return heads * dim; }
  int64_t kv_width() const { return kv_heads * dim; }
};

Case make_case(Random& random, std::vector<int32_t> lengths, int32_t heads = 4, int32_t kv_heads = 2,
               int32_t dim = 64, int32_t rope_dims = 32, int32_t page_tokens = 16,
               ops::KvType type = ops::KvType::kF16) {
  Case c{heads, kv_heads, dim, rope_dims, page_tokens, type, 0, std::move(lengths), {}, {}, {}, {}, {}};
  c.q_norm = normals(random, dim, 0.3f, 1.5f);
  c.k_norm = normals(random, dim, 0.3f, 1.0f);
  c.q_gate = normals(random, c.tokens() * 2 * c.width());
  c.k = normals(random, c.tokens() * c.kv_width());
  c.v = normals(random, c.tokens() * c.kv_width());
  return c;
}

Case sequence_of(const Case& c, size_t s) {
  Case one = c;
  one.lengths = {c.lengths[s]};
  const int64_t first = std::accumulate(c.lengths.begin(), c.lengths.begin() + int64_t(s), int64_t(0));
  const auto cut = [&](std::vector<float>& x, int64_t width) {
    x = std::vector<float>(x.begin() + first * width, x.begin() + (first + c.lengths[s]) * width);
  };
  cut(one.q_gate, 2 * c.width());
  cut(one.k, c.kv_width());
  cut(one.v, c.kv_width());
  return one;
}

struct Result {
  std::vector<float> out;
  std::vector<std::byte> k_cache, v_cache;
};

// All sequences at once, each cut into spans of at most `piece` tokens; pages in a shuffled order.
template <class Run>
Result run(const Case& c, int32_t piece, const Run& run_op) {
  const int64_t row_bytes = ops::kv_row_bytes(c.type, c.dim);
  std::vector<std::vector<int32_t>> pages;
  for (int32_t length : c.lengths) {
    pages.emplace_back(size_t((c.position + length + c.page_tokens - 1) / c.page_tokens));
  }
  int32_t page_count = 1;  // page 0 belongs to nobody
  for (size_t round = 0; round < 100000; ++round) {
    bool any = false;
    for (auto& list : pages) {
      if (round >= list.size()) continue;
      list[list.size() - 1 - round] = page_count++;
      any = true;
    }
    if (!any) break;
  }
  Result r;
  r.k_cache.assign(size_t(page_count * c.kv_heads * c.page_tokens * row_bytes), std::byte(0));
  r.v_cache = r.k_cache;
  r.out.resize(size_t(c.tokens() * c.width()));
  const int32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
  for (int32_t begin = 0; begin < longest; begin += piece) {
    std::vector<ops::Span> spans;
    std::vector<float> q_gate, k, v;
    std::vector<int64_t> origin;
    int64_t first = 0;
    for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
      const int32_t end = std::min(c.lengths[s], begin + piece);
      if (begin >= end) continue;
      spans.push_back({0, int32_t(origin.size()), end - begin, c.position + begin, pages[s].data()});
      for (int64_t row = first + begin; row < first + end; ++row) {
        origin.push_back(row);
        const auto add = [row](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
          to.insert(to.end(), &from[size_t(row * width)], &from[size_t(row * width)] + width);
        };
        add(q_gate, c.q_gate, 2 * c.width());
        add(k, c.k, c.kv_width());
        add(v, c.v, c.kv_width());
      }
    }
    GuardedActivations out(int64_t(origin.size()), c.width());
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
    op.k_cache = r.k_cache.data();
    op.v_cache = r.v_cache.data();
    op.out = out.view;
    run_op(op);
    out.check("attention");
    for (size_t i = 0; i < origin.size(); ++i) {
      std::copy_n(out.view.values + int64_t(i) * c.width(), c.width(), &r.out[size_t(origin[i] * c.width())]);
    }
  }
  return r;
}

Result run_reference(const Case& c) {
  return run(c, 1 << 20, [](const ops::Attention& op) { reference::attention(op); });
}

Result run_cpu(const Case& c, CpuLevel level, int threads, int32_t piece = 1 << 20) {
  ThreadPool pool(threads);
  return run(c, piece, [&](const ops::Attention& op) { cpu::attention({level, &pool}, op); });
}

std::vector<float> cache_values(const Case& c, const std::vector<std::byte>& cache) {
  const int64_t rows = int64_t(cache.size()) / ops::kv_row_bytes(c.type, c.dim);
  std::vector<float> values(size_t(rows * c.dim));
  const quant::Type type = c.type == ops::KvType::kF16 ? quant::Type::F16 : quant::Type::Q8_0;
  quant::type_info(type).dequantize(cache.data(), values.data(), rows * c.dim);
  return values;
}

void compare_everywhere(const Case& c, std::vector<int32_t> pieces = {1 << 20, 5, 1}) {
  const Result want = run_reference(c);
  const double bound = c.type == ops::KvType::kF16 ? kBound : 1e-6;
  for (CpuLevel level : test::available_levels()) {
    for (int32_t piece : pieces) {
      const Result got = run_cpu(c, level, 2, piece);
      const std::string what = name_of(level, 2) + ", pieces of " + std::to_string(piece);
      EXPECT_LE(nmse(got.out, want.out), bound) << what;
      EXPECT_LE(nmse(cache_values(c, got.k_cache), cache_values(c, want.k_cache)), bound) << what;
      EXPECT_LE(nmse(cache_values(c, got.v_cache), cache_values(c, want.v_cache)), bound) << what;
    }
  }
}

TEST(CpuAttention, MatchesReferenceOnRandomShapes) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int32_t kv_heads = 1 + int32_t(random.below(3)), ratio = 1 + int32_t(random.below(8));
    const int32_t dim = 32 * (1 + int32_t(random.below(8)));
    std::vector<int32_t> lengths(size_t(1 + random.below(3)));
    for (int32_t& length : lengths) length = 1 + int32_t(random.below(70));
    compare_everywhere(make_case(random, lengths, kv_heads * ratio, kv_heads, dim,
                                 2 * int32_t(random.below(dim / 2 + 1)), 1 + int32_t(random.below(40)),
                                 random.below(2) == 0 ? ops::KvType::kF16 : ops::KvType::kQ8_0));
  }
}

TEST(CpuAttention, MatchesReferenceAtTheModelsHeadSize) {
  Random random(20);
  compare_everywhere(make_case(random, {70, 1, 20}, 16, 2, 256, 64, 32));
  compare_everywhere(make_case(random, {70}, 8, 1, 256, 64, 64, ops::KvType::kQ8_0));
}

TEST(CpuAttention, PageBorders) {
  for (int32_t page_tokens : {1, 7, 16, 64}) {
    for (int32_t length : {1, 15, 16, 17, 63, 64, 65}) {
      SCOPED_TRACE("page of " + std::to_string(page_tokens) + ", length " + std::to_string(length));
      Random random(uint64_t(1000 * page_tokens + length));
      compare_everywhere(make_case(random, {length}, 3, 3, 32, 16, page_tokens), {1 << 20, 16});
    }
  }
}

// Long enough that a single token's positions are cut, and that tiles lie before, on and after a cut.
TEST(CpuAttention, PositionsInSeveralPartitions) {
  Random random(30);
  Case c = make_case(random, {620, 515}, 2, 1, 32, 32, 48);
  compare_everywhere(c, {1 << 20, 100, 3});
}

TEST(CpuAttention, LargePositionsKeepTheirAngles) {
  Random random(31);
  Case c = make_case(random, {6}, 2, 1, 32, 32, 4096);
  const Result near = run_cpu(c, CpuLevel::kPortable, 1);
  c.position = 100000;  // cached zeros before, which the reference sees too
  compare_everywhere(c, {6, 2});
  EXPECT_GT(nmse(run_cpu(c, CpuLevel::kPortable, 1).out, near.out), 1e-3);
}

// One key far above the rest: the running maximum jumps in the middle of the tiles.
TEST(CpuAttention, LargeScores) {
  Random random(32);
  Case c = make_case(random, {200}, 2, 1, 32, 8, 16);
  for (float& w : c.q_norm) w *= 12.0f;
  for (float& w : c.k_norm) w *= 12.0f;
  // Scores of several hundred turn an f16 key that rounds the other way into a visible change.
  const Result want = run_reference(c);
  for (CpuLevel level : test::available_levels()) {
    for (int32_t piece : {200, 1}) EXPECT_LE(nmse(run_cpu(c, level, 2, piece).out, want.out), 1e-4);
  }
}

TEST(CpuAttention, ThreadCountChangesNoBit) {
  Random random(40);
  const Case c = make_case(random, {150, 3, 1}, 4, 2, 64, 32, 16);
  Case deep = make_case(random, {2, 1}, 4, 1, 32, 32, 64);
  deep.position = 2000;
  for (const Case* x : std::initializer_list<const Case*>{&c, &deep}) {
    for (CpuLevel level : test::available_levels()) {
      const Result one = run_cpu(*x, level, 1);
      for (int threads : {2, 3, 8}) {
        const Result many = run_cpu(*x, level, threads);
        EXPECT_TRUE(same_bits(many.out, one.out)) << name_of(level, threads);
        EXPECT_TRUE(same_bits(many.k_cache, one.k_cache) && same_bits(many.v_cache, one.v_cache));
      }
    }
  }
}

TEST(CpuAttention, BatchEqualsEachSequenceAlone) {
  Random random(41);
  const Case c = make_case(random, {150, 3, 1, 40}, 4, 2, 64, 32, 16);
  Case deep = make_case(random, {2, 1, 20}, 4, 1, 32, 32, 64);
  deep.position = 2000;
  for (const Case* x : std::initializer_list<const Case*>{&c, &deep}) {
    for (CpuLevel level : test::available_levels()) {
      const Result all = run_cpu(*x, level, 3);
      int64_t first = 0;
      for (size_t s = 0; s < x->lengths.size(); first += x->lengths[s++]) {
        const Result one = run_cpu(sequence_of(*x, s), level, 2);
        const auto begin = all.out.begin() + first * x->width();
        EXPECT_TRUE(same_bits(std::vector<float>(begin, begin + int64_t(one.out.size())), one.out))
            << name_of(level, 3) << ", sequence " << s;
      }
    }
  }
}

}  // namespace
}  // namespace dw
