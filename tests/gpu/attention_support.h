// Attention cases for the GPU tests: random spans, pages in random order, poisoned memory; run on the device
// and by the reference. The device's q8_0 rows keep quants first, then scales (kernels/gpu/attention.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "gpu/device_array.h"
#include "kernels/ops.h"

namespace dw::test {

struct AttentionSpan {
  int32_t position, rows;
};

struct AttentionCase {
  int32_t heads = 16, kv_heads = 2, dim = 256, rope_dims = 64, page_tokens = 64;
  ops::KvType type = ops::KvType::kF16;
  std::vector<AttentionSpan> spans;
  // Filled by fill(): inputs, and the caches as the reference has them.
  std::vector<float> q_gate, k, v, q_norm, k_norm;
  std::vector<std::byte> k_cache, v_cache;
  std::vector<std::vector<int32_t>> pages;
  int32_t page_count = 0;

  int64_t tokens() const {
    int64_t n = 0;
    for (const AttentionSpan& s : spans) n += s.rows;
    return n;
  }
  int32_t context() const {
    int32_t n = 0;
    for (const AttentionSpan& s : spans) n = std::max(n, s.position + s.rows);
    return n;
  }
  int32_t longest() const {
    int32_t n = 0;
    for (const AttentionSpan& s : spans) n = std::max(n, s.rows);
    return n;
  }
  int64_t row_bytes() const { return ops::kv_row_bytes(type, dim); }
  int64_t cache_row(size_t span, int64_t kv_head, int64_t position) const {
    return (int64_t(pages[span][size_t(position / page_tokens)]) * kv_heads + kv_head) * page_tokens +
           position % page_tokens;
  }
  std::string name() const {
    std::string s = std::to_string(heads) + "/" + std::to_string(kv_heads) + " heads, dim " +
                    std::to_string(dim) + ", rope " + std::to_string(rope_dims) + ", pages of " +
                    std::to_string(page_tokens) + ", type " + std::to_string(int(type)) + ", spans";
    for (size_t i = 0; i < std::min<size_t>(spans.size(), 8); ++i)
      s += " " + std::to_string(spans[i].position) + "+" + std::to_string(spans[i].rows);
    return s;
  }
};

inline std::vector<float> random_normals(std::mt19937_64& random, int64_t count, float scale,
                                         float mean = 0) {
  std::normal_distribution<float> normal(mean, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& x : values) x = normal(random);
  return values;
}

// A cached row of random values, in the file's layout.
inline void random_cache_row(std::mt19937_64& random, ops::KvType type, int64_t dim, std::byte* row) {
  std::normal_distribution<float> normal;
  if (type == ops::KvType::kQ8_0) {
    for (int64_t block = 0; block < dim / 32; ++block) {
      const uint16_t scale = float_to_half(0.005f + 0.02f * std::fabs(normal(random)));
      std::memcpy(row + 34 * block, &scale, 2);
      for (int i = 0; i < 32; ++i) row[34 * block + 2 + i] = std::byte(int8_t(int(random() % 255) - 127));
    }
    return;
  }
  for (int64_t i = 0; i < dim; ++i) {
    const float x = normal(random);
    const uint16_t half = float_to_half(x);
    if (type == ops::KvType::kF16) std::memcpy(row + 2 * i, &half, 2);
    if (type == ops::KvType::kF32) std::memcpy(row + 4 * i, &x, 4);
  }
}

inline void fill(AttentionCase& c, std::mt19937_64& random) {
  c.q_norm = random_normals(random, c.dim, 0.3f, 1.5f);
  c.k_norm = random_normals(random, c.dim, 0.3f, 1.0f);
  c.q_gate = random_normals(random, c.tokens() * c.heads * 2 * c.dim, 1);
  c.k = random_normals(random, c.tokens() * c.kv_heads * c.dim, 1);
  c.v = random_normals(random, c.tokens() * c.kv_heads * c.dim, 1);
  c.pages.clear();
  c.page_count = 1;  // page 0 belongs to nobody
  for (const AttentionSpan& s : c.spans) {
    c.pages.emplace_back(size_t((s.position + s.rows + c.page_tokens - 1) / c.page_tokens));
    c.page_count += int32_t(c.pages.back().size());
  }
  std::vector<int32_t> order(size_t(c.page_count - 1));
  std::iota(order.begin(), order.end(), 1);
  std::shuffle(order.begin(), order.end(), random);
  size_t next = 0;
  for (auto& list : c.pages)
    for (int32_t& page : list) page = order[next++];
  const size_t rows = size_t(c.page_count) * size_t(c.kv_heads) * size_t(c.page_tokens);
  c.k_cache.assign(rows * size_t(c.row_bytes()), std::byte(0xff));
  c.v_cache = c.k_cache;
  for (size_t s = 0; s < c.spans.size(); ++s)
    for (int32_t h = 0; h < c.kv_heads; ++h)
      for (int32_t p = 0; p < c.spans[s].position; ++p)
        for (auto* cache : {&c.k_cache, &c.v_cache})
          random_cache_row(random, c.type, c.dim, cache->data() + c.cache_row(s, h, p) * c.row_bytes());
}

// q8_0 rows between the layouts of the file and the device.
inline std::vector<std::byte> relaid(const AttentionCase& c, const std::vector<std::byte>& from,
                                     bool to_device) {
  if (c.type != ops::KvType::kQ8_0) return from;
  std::vector<std::byte> to(from.size());
  const size_t bytes = size_t(c.row_bytes()), dim = size_t(c.dim);
  for (size_t row = 0; row < from.size() / bytes; ++row) {
    for (size_t block = 0; block < dim / 32; ++block) {
      const size_t file = row * bytes + 34 * block, quants = row * bytes + 32 * block;
      const size_t scale = row * bytes + dim + 2 * block;
      std::memcpy(&to[to_device ? scale : file], &from[to_device ? file : scale], 2);
      std::memcpy(&to[to_device ? quants : file + 2], &from[to_device ? file + 2 : quants], 32);
    }
  }
  return to;
}

struct AttentionResult {
  std::vector<float> values, scales;
  std::vector<int8_t> quants;
  std::vector<int16_t> sums;
  std::vector<std::byte> k_cache, v_cache;  // the file's layout
};

inline ops::Attention attention_op(const AttentionCase& c) {
  ops::Attention op;
  op.heads = c.heads, op.kv_heads = c.kv_heads, op.key_dim = op.value_dim = c.dim;
  op.rope_dims = c.rope_dims, op.page_tokens = c.page_tokens, op.kv_type = c.type;
  op.scale = 1.0f / std::sqrt(float(c.dim));
  op.tokens = c.tokens();
  op.out.tokens = op.tokens;
  op.out.columns = int64_t(c.heads) * c.dim;
  return op;
}

// The case on the device, ready to be launched any number of times.
class DeviceAttention {
 public:
  DeviceAttention(const AttentionCase& c, const gpu::Limits& limits, int32_t context_slack = 0)
      : case_(c),
        op_(attention_op(c)),
        q_gate_(c.q_gate),
        k_(c.k),
        v_(c.v),
        q_norm_(c.q_norm),
        k_norm_(c.k_norm),
        k_cache_(relaid(c, c.k_cache, true)),
        v_cache_(relaid(c, c.v_cache, true)),
        values_(size_t(op_.tokens * op_.out.columns)),
        scales_(values_count() / 32),
        quants_(values_count()),
        sums_(values_count() / 16),
        spans_(c.spans.size()),
        row_span_(size_t(op_.tokens)),
        pages_(size_t(c.page_count)),
        scratch_(size_t(gpu::attention_scratch_bytes(op_, limits))) {
    std::vector<gpu::SpanEntry> spans;
    std::vector<int32_t> row_span, pages;
    int32_t first_row = 0;
    for (size_t s = 0; s < c.spans.size(); ++s) {
      spans.push_back({int32_t(s), first_row, c.spans[s].rows, c.spans[s].position, int32_t(pages.size())});
      row_span.insert(row_span.end(), size_t(c.spans[s].rows), int32_t(s));
      pages.insert(pages.end(), c.pages[s].begin(), c.pages[s].end());
      first_row += c.spans[s].rows;
    }
    spans_.set(spans);
    row_span_.set(row_span);
    pages_.set(pages);
    op_.q_gate = q_gate_.data(), op_.k = k_.data(), op_.v = v_.data();
    op_.q_norm = q_norm_.data(), op_.k_norm = k_norm_.data();
    op_.k_cache = k_cache_.data(), op_.v_cache = v_cache_.data();
    op_.out.values = values_.data(), op_.out.scales = scales_.data();
    op_.out.quants = quants_.data(), op_.out.sums = sums_.data();
    context_.limits = limits;
    context_.batch = {spans_.data(),
                      row_span_.data(),
                      pages_.data(),
                      int32_t(c.spans.size()),
                      int32_t(op_.tokens),
                      c.longest(),
                      c.context() + context_slack};
    context_.scratch = scratch_.data();
    context_.scratch_bytes = gpu::attention_scratch_bytes(op_, limits);
  }
  gpu::Context& context() { return context_; }
  ops::Attention& op() { return op_; }
  void launch(gpu::Stream stream = nullptr) {
    context_.stream = stream;
    gpu::attention(context_, op_);
  }
  AttentionResult result() {
    gpu::check_runtime(cudaDeviceSynchronize(), "attention");
    return {values_.values(),
            scales_.values(),
            quants_.values(),
            sums_.values(),
            relaid(case_, k_cache_.values(), false),
            relaid(case_, v_cache_.values(), false)};
  }

 private:
  size_t values_count() const { return size_t(op_.tokens * op_.out.columns); }
  const AttentionCase& case_;
  ops::Attention op_;
  gpu::Context context_;
  DeviceArray<float> q_gate_, k_, v_, q_norm_, k_norm_;
  DeviceArray<std::byte> k_cache_, v_cache_;
  DeviceArray<float> values_, scales_;
  DeviceArray<int8_t> quants_;
  DeviceArray<int16_t> sums_;
  DeviceArray<gpu::SpanEntry> spans_;
  DeviceArray<int32_t> row_span_, pages_;
  DeviceArray<std::byte> scratch_;
};

inline double squared_error(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = double(got[i]) - double(want[i]);
    if (!(std::fabs(d) < 1e30)) return 1e30;  // NaN: never written
    error += d * d;
    norm += double(want[i]) * double(want[i]);
  }
  return norm == 0 ? error : error / norm;
}

}  // namespace dw::test
