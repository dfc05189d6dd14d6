#include <algorithm>

#include "base/half.h"
#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {
namespace {

// rmsnorm(x) * weight, then RoPE: pairs (i, i + rope_dims / 2) turned by position * base^(-2 i / rope_dims).
std::vector<float> norm_and_rotate(const ops::Attention& op, const float* x, const float* weight,
                                   int64_t position) {
  const double factor = inverse_rms(x, op.key_dim, op.eps);
  std::vector<double> y(size_t(op.key_dim), 0.0);
  for (int64_t i = 0; i < op.key_dim; ++i) y[size_t(i)] = x[i] * factor * weight[i];
  const int64_t half = op.rope_dims / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double angle =
        double(position) * std::pow(double(op.rope_base), -2.0 * double(i) / double(op.rope_dims));
    const double a = y[size_t(i)], b = y[size_t(i + half)];
    y[size_t(i)] = a * std::cos(angle) - b * std::sin(angle);
    y[size_t(i + half)] = b * std::cos(angle) + a * std::sin(angle);
  }
  return {y.begin(), y.end()};
}

// Address of one cached row: cache is [pages, kv_heads, page_tokens, dim].
std::byte* cache_row(const ops::Attention& op, std::byte* cache, int64_t dim, const ops::Span& span,
                     int64_t kv_head, int64_t position) {
  const int64_t page = span.pages[position / op.page_tokens];
  const int64_t row = (page * op.kv_heads + kv_head) * op.page_tokens + position % op.page_tokens;
  return cache + row * ops::kv_row_bytes(op.kv_type, dim);
}

// 32 values: f16 scale, 32 quants.
void store_q8_block(const float* values, std::byte* block) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / 127.0f;
  const uint16_t half = float_to_half(scale);
  std::memcpy(block, &half, 2);
  for (int i = 0; i < 32; ++i) {
    const float quotient = scale == 0 ? 0 : std::clamp(values[i] / scale, -127.0f, 127.0f);
    block[2 + i] = std::byte(int8_t(std::lrint(quotient)));
  }
}

// The only place where a key or value is rounded.
void store(ops::KvType type, const float* values, int64_t dim, std::byte* row) {
  if (type == ops::KvType::kQ8_0) {
    for (int64_t i = 0; i < dim / 32; ++i) store_q8_block(values + 32 * i, row + 34 * i);
    return;
  }
  if (type == ops::KvType::kF32) {
    std::memcpy(row, values, size_t(dim) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < dim; ++i) {
    const uint16_t half = float_to_half(values[i]);
    std::memcpy(row + 2 * i, &half, 2);
  }
}

std::vector<float> load(ops::KvType type, const std::byte* row, int64_t dim) {
  std::vector<float> values(static_cast<size_t>(dim));
  if (type == ops::KvType::kQ8_0) {
    quant::type_info(quant::Type::Q8_0).dequantize(row, values.data(), dim);
  } else if (type == ops::KvType::kF32) {
    std::memcpy(values.data(), row, size_t(dim) * sizeof(float));
  } else {
    for (int64_t i = 0; i < dim; ++i)
      values[size_t(i)] = half_to_float(load_unaligned<uint16_t>(row + 2 * i));
  }
  return values;
}

void write_cache(const ops::Attention& op, const ops::Span& span) {
  for (int64_t t = 0; t < span.row_count; ++t) {
    const int64_t row = span.first_row + t, position = span.position + t;
    for (int64_t h = 0; h < op.kv_heads; ++h) {
      const std::vector<float> key =
          norm_and_rotate(op, op.k + (row * op.kv_heads + h) * op.key_dim, op.k_norm, position);
      store(op.kv_type, key.data(), op.key_dim, cache_row(op, op.k_cache, op.key_dim, span, h, position));
      store(op.kv_type, op.v + (row * op.kv_heads + h) * op.value_dim, op.value_dim,
            cache_row(op, op.v_cache, op.value_dim, span, h, position));
    }
  }
}

// softmax(scale q K^T) V over positions 0 .. position.
std::vector<double> attend(const ops::Attention& op, const ops::Span& span, int64_t kv_head,
                           const std::vector<float>& query, int64_t position) {
  std::vector<double> scores;
  for (int64_t p = 0; p <= position; ++p) {
    const std::vector<float> key =
        load(op.kv_type, cache_row(op, op.k_cache, op.key_dim, span, kv_head, p), op.key_dim);
    scores.push_back(double(op.scale) * dot(query.data(), key.data(), op.key_dim));
  }
  const double largest = *std::max_element(scores.begin(), scores.end());
  std::vector<double> out(size_t(op.value_dim), 0.0);
  double total = 0;
  for (int64_t p = 0; p <= position; ++p) {
    const double weight = std::exp(scores[size_t(p)] - largest);
    const std::vector<float> value =
        load(op.kv_type, cache_row(op, op.v_cache, op.value_dim, span, kv_head, p), op.value_dim);
    for (int64_t i = 0; i < op.value_dim; ++i) out[size_t(i)] += weight * value[size_t(i)];
    total += weight;
  }
  for (double& x : out) x /= total;
  return out;
}

}  // namespace

void attention(const ops::Attention& op) {
  DW_CHECK(op.kv_heads > 0 && op.heads % op.kv_heads == 0, "query heads must be a multiple of KV heads");
  DW_CHECK(op.key_dim == op.value_dim, "the gate is as wide as the query: key_dim must equal value_dim");
  DW_CHECK(op.kv_type != ops::KvType::kQ8_0 || op.key_dim % 32 == 0, "a q8_0 cache needs a multiple of 32");
  const int64_t dim = op.key_dim;
  for (const ops::Span& span : op.spans) {
    write_cache(op, span);
    for (int64_t t = 0; t < span.row_count; ++t) {
      for (int64_t h = 0; h < op.heads; ++h) {
        const int64_t at = (span.first_row + t) * op.heads + h;
        const float* q = op.q_gate + 2 * at * dim;
        const float* gate = q + dim;
        const std::vector<float> query = norm_and_rotate(op, q, op.q_norm, span.position + t);
        const std::vector<double> mixed =
            attend(op, span, h / (op.heads / op.kv_heads), query, span.position + t);
        for (int64_t i = 0; i < dim; ++i) {
          op.out.values[at * dim + i] = float(mixed[size_t(i)] * sigmoid(gate[i]));
        }
      }
    }
  }
  quantize(op.out);
}

}  // namespace dw::reference
