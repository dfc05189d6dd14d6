// The arguments of every op of the model: what an op reads, what it writes, in which shapes. The reference,
// the CPU and the GPU kernels all take these structs; the pointers are addresses of the device that runs the
// op (host memory for the reference and the CPU). Shapes are slowest dimension first. Formulas: Qwen3-Next
// (transformers modeling_qwen3_next.py), Gated DeltaNet (arXiv 2412.06464).
//
// A batch is ragged: `tokens` rows, cut into spans, one span a sequence. Rows of a span are consecutive
// tokens of that sequence; spans lie one after the other and cover all rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/types.h"

namespace dw::ops {

// A weight matrix, or `count` of them (experts) one after the other. Each has rows x columns elements; a row
// is quant::row_bytes(type, columns) bytes in the file's layout. On a device that repacks, data is its own
// layout.
struct Matrix {
  quant::Type type = quant::Type::F32;
  const std::byte* data = nullptr;  // nullptr: the tensor is absent
  int64_t rows = 0;                 // outputs
  int64_t columns = 0;              // inputs
  int64_t count = 1;                // experts
  uint64_t stride_bytes = 0;        // of a row; 0: the file's, row_bytes(type, columns)

  explicit operator bool() const { return data != nullptr; }
  uint64_t row_stride() const {
    return stride_bytes != 0 ? stride_bytes : quant::row_bytes(type, uint64_t(columns));
  }
  uint64_t matrix_bytes() const { return uint64_t(rows) * row_stride(); }
  Matrix expert(int64_t e) const {
    return {type, data + uint64_t(e) * matrix_bytes(), rows, columns, 1, stride_bytes};
  }
  Matrix slice(int64_t first_row, int64_t row_count) const {
    return {type, data + uint64_t(first_row) * row_stride(), row_count, columns, 1, stride_bytes};
  }
};

// Activations that feed matrices: fp32 and, where columns is a multiple of 32, quantised to int8. 32
// consecutive columns share a scale d = max|x| / 127; quants = x / d rounded to nearest, ties to even (a
// group of zeros: d = 0, quants 0; multiplying by 127 / max|x| instead may move a quant by one at a tie);
// sums are those of quants over each 16 columns. A device may refine the quantised part with its residual
// (values - d quants), as the CPU does for fine types of weights: it is computed from values. Whoever writes
// `values` of an Activations writes the quantised part too.
struct Activations {
  int64_t tokens = 0;  // rows in use
  int64_t columns = 0;
  float* values = nullptr;   // [tokens, columns]
  int8_t* quants = nullptr;  // [tokens, columns]; nullptr when columns % 32 != 0
  float* scales = nullptr;   // [tokens, columns / 32]
  int16_t* sums = nullptr;   // [tokens, columns / 16]
};

// One sequence's rows in the batch.
struct Span {
  int32_t slot = 0;                // recurrent-state slot of the sequence
  int32_t first_row = 0;           // in the batch
  int32_t row_count = 0;           // >= 1
  int32_t position = 0;            // of the first row in its sequence: how many tokens came before
  const int32_t* pages = nullptr;  // host: KV page numbers, page i holds positions [i, i+1) * page_tokens
};

// What a device must know of a batch before its ops come (Device::begin_batch). All pointers: host.
struct Batch {
  std::span<const int32_t> ids;         // [tokens]
  std::span<const Span> spans;          // cover the rows in order
  std::span<const int32_t> logit_rows;  // rows that Norm will select for the output head
  int32_t page_tokens = 0;              // of Span::pages
};

// out[t] = row ids[t] of the table.
struct Embed {
  Matrix table;                  // [vocabulary, hidden]
  const int32_t* ids = nullptr;  // host, [tokens], each in [0, vocabulary)
  int64_t tokens = 0;
  float* out = nullptr;  // [tokens, hidden]
};

// out = x * rsqrt(mean(x^2) + eps) * weight, row by row, optionally of selected rows.
struct Norm {
  const float* x = nullptr;       // [*, columns]
  const int32_t* rows = nullptr;  // host, [out.tokens]: rows of x to take; nullptr: row t for t
  const float* weight = nullptr;  // [columns]
  float eps = 1e-6f;
  Activations out;  // tokens, columns set
};

// The k largest of each row of logits, largest first, ties to the lower index; and of each row its maximum m
// and the sum of exp(logit - m), so that a sampler needs no more. A row with a value that is not finite has a
// maximum or sum that is not finite.
struct TopLogits {
  const float* logits = nullptr;  // [rows, vocabulary]
  int64_t rows = 0;
  int64_t vocabulary = 0;
  int32_t k = 0;                 // 1 .. min(256, vocabulary)
  int32_t* ids = nullptr;        // [rows, k]
  float* values = nullptr;       // [rows, k]
  float* max_and_sum = nullptr;  // [rows, 2]
};

// out[t, n] (+)= sum_k W[n, k] x[t, k].
struct Linear {
  Matrix weight;
  float* out = nullptr;    // [tokens, out_stride], the first weight.rows of each row
  int64_t out_stride = 0;  // floats; 0: weight.rows
  bool add = false;        // accumulate into out (residual)
};

// The Gated DeltaNet mixer between its projections:
//   u = silu(causal_conv(qkv)); q, k = l2norm(u_q), l2norm(u_k) (eps 1e-6); beta = sigmoid(b);
//   g = a * softplus(alpha + dt_bias); per V head h with K head h / (v_heads / k_heads):
//   S <- e^g S; d = beta (v - S^T k); S <- S + k d^T; o = S^T q / sqrt(k_dim);
//   out = rmsnorm(o) * norm * silu(z).
struct DeltaMixer {
  int32_t k_heads = 0, v_heads = 0, k_dim = 0, v_dim = 0;  // v_heads % k_heads == 0
  int32_t conv_taps = 4;
  int32_t chunk = 0;               // tokens a chunk in prefill; 0: token by token
  int32_t min_chunked_tokens = 1;  // spans shorter than this run token by token whatever `chunk` says
  int64_t tokens = 0;
  std::span<const Span> spans;
  const float* qkv = nullptr;  // [tokens, channels]: q [k_heads, k_dim] | k the same | v [v_heads, v_dim]
  const float* z = nullptr;    // [tokens, v_heads, v_dim]
  const float* ba = nullptr;   // [tokens, k_heads, 2 r], r = v_heads / k_heads: b of r heads, then a
  const float* conv_weight = nullptr;  // [channels, conv_taps], last tap = newest token
  const float* dt_bias = nullptr;      // [v_heads]
  const float* a = nullptr;            // [v_heads], <= 0
  const float* norm = nullptr;         // [v_dim]
  float eps = 1e-6f;
  float* conv_state = nullptr;  // [slots, conv_taps - 1, channels]: the last raw rows, oldest first
  float* state = nullptr;       // [slots, v_heads, k_dim, v_dim]
  Activations out;              // [tokens, v_heads * v_dim]

  // The chunk that a span runs with; 0: token by token.
  int32_t chunk_of(const Span& span) const { return span.row_count >= min_chunked_tokens ? chunk : 0; }
  int64_t channels() const { return 2 * int64_t(k_heads) * k_dim + int64_t(v_heads) * v_dim; }
};

// Gated softmax attention between its projections: q, k <- rmsnorm * weight; RoPE (NEOX pairs i, i +
// rope_dims/2) on the first rope_dims; K and V into the cache; causal attention over the whole cache of the
// sequence; out = attention * sigmoid(gate).
// A key (after norm and RoPE) or value is rounded once, when it enters the cache: to the nearest f16, or to
// q8_0 blocks (32 values: f16 scale, 32 int8) quantised as Activations are, the scale rounded to f16 last.
// Attention reads the rounded values, of the batch's own tokens too.
enum class KvType : uint8_t { kF16, kQ8_0, kF32 };
struct Attention {
  int32_t heads = 0, kv_heads = 0, key_dim = 0, value_dim = 0;  // heads % kv_heads == 0
  int32_t rope_dims = 0;
  float rope_base = 1e7f;
  float eps = 1e-6f;
  float scale = 0;  // 1 / sqrt(key_dim)
  int64_t tokens = 0;
  std::span<const Span> spans;
  const float* q_gate = nullptr;  // [tokens, heads, 2, key_dim]: query, then gate (value_dim == key_dim)
  const float* k = nullptr;       // [tokens, kv_heads, key_dim]
  const float* v = nullptr;       // [tokens, kv_heads, value_dim]
  const float* q_norm = nullptr;  // [key_dim]
  const float* k_norm = nullptr;  // [key_dim]
  KvType kv_type = KvType::kF16;
  int32_t page_tokens = 0;
  std::byte* k_cache = nullptr;  // [pages, kv_heads, page_tokens, key_dim] of f16 or q8_0 blocks
  std::byte* v_cache = nullptr;  // [pages, kv_heads, page_tokens, value_dim]
  Activations out;               // [tokens, heads * value_dim]
};

// Bytes of one cached row (one KV head, one token) of `dim` elements; dim % 32 == 0 for q8_0.
inline int64_t kv_row_bytes(KvType type, int64_t dim) {
  return type == KvType::kF16 ? 2 * dim : type == KvType::kF32 ? 4 * dim : dim / 32 * 34;
}

// Mixture of experts, added to the residual:
//   p = softmax(router x); the top_k largest; w = p_sel / max(sum p_sel, 6.1e-5) (when normalise);
//   x_out += sum_e w_e down_e(silu(gate_e x) * up_e x) + sigmoid(shared_router . x) * down_s(silu(gate_s x) *
//   up_s x)
// Ties in the top-k go to the lower expert index.
struct Moe {
  int32_t expert_count = 0, top_k = 0;
  bool normalise = true;
  Activations x;          // [tokens, hidden], after the norm
  Matrix router;          // [expert_count, hidden]
  Matrix gate, up, down;  // [width, hidden] x experts, the same, [hidden, width] x experts
  Matrix gate_up;         // merged: [2 width, hidden] x experts, gate rows first; then gate and up are absent
  Matrix shared_gate, shared_up, shared_down;  // absent: no shared expert
  const float* shared_router = nullptr;        // [hidden]; nullptr: shared expert is added with weight 1
  float* out = nullptr;                        // [tokens, hidden], accumulated into
};

}  // namespace dw::ops
