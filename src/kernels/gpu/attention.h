// What the attention kernels share: their arguments, how a span's context is cut, rotary angles, cached rows,
// the gated epilogue. Device layout of the cache: [pages, kv_heads, page_tokens, dim] as ops.h has it; a q8_0
// row holds its quants first, then the f16 scales of its blocks (the same bytes in another order, so that
// quants can be loaded 16 bytes at a time).
//
// Spans of at most kShortSpan rows ("short") are cut along the sequence: partial results of each cut go to
// scratch, a second kernel merges them. How a span is cut depends on its own context only, as long as the
// batch's short rows are at most kPartialRows. Longer spans are cut into tiles of packed rows; packed row r
// of a span and KV head is token r / group, head r % group of the KV head.
#pragma once

#include "kernels/gpu/activations.h"
#include "kernels/gpu/context.h"

namespace dw::gpu {

inline constexpr int kMaxHeadDim = 256;
inline constexpr int kShortSpan = 16;
inline constexpr int kPartialRows = 128;
inline constexpr int kMaxSplits = 96;
inline constexpr int kSplitKeys = 128;  // fewest keys of a cut
inline constexpr int kSplitAlign = 32;  // keys of a cut are a multiple
inline constexpr int kUncutKeys = 256;  // a context of no more is one cut: no merge

// Angle of pair i at position p: p * turns[i] / 2^64 turns; the product wraps at whole turns, so that the
// angle is exact to 2^-32 turns at any position.
struct RopeTable {
  uint64_t turns[kMaxHeadDim / 2];
};

struct AttentionArgs {
  const float *q_gate, *k, *v, *q_norm, *k_norm;
  uint8_t *k_cache, *v_cache;
  const SpanEntry* spans;
  const int32_t* row_span;
  const int32_t* pages;
  ops::Activations out;
  float* partials;   // [short rows, heads, splits, dim]: weighted sums of values
  float2* extremes;  // [short rows, heads, splits]: largest score (base 2), sum of weights
  int32_t heads, kv_heads, group, dim, rope_dims, page_tokens;
  int32_t span_count, tokens;
  int32_t max_splits;  // that the cut aims at
  int32_t splits;      // stride of the partials, >= the cuts of any span; 1: no partials, write `out`
  bool mixed;          // short and long spans in one batch
  float eps;
  float scale;  // of the scores, times log2(e): weights are powers of two
};

inline __host__ __device__ int attention_split_keys(int context, int max_splits) {
  if (context <= kUncutKeys) return kUncutKeys;
  const int even = (context + max_splits - 1) / max_splits;
  const int keys = (even + kSplitAlign - 1) / kSplitAlign * kSplitAlign;
  return keys < kSplitKeys ? kSplitKeys : keys;
}

// Bytes of a cached row.
template <ops::KvType kType>
inline __host__ __device__ int attention_row_bytes(int dim) {
  return kType == ops::KvType::kF16 ? 2 * dim : kType == ops::KvType::kF32 ? 4 * dim : dim / 32 * 34;
}

// Launchers of attention_tile.cu (any shape, any device) and sm90/ (tensor cores; see their conditions).
struct AttentionPlan {
  AttentionArgs args;
  RopeTable rope;
  ops::KvType kv_type;
  int32_t longest_span;
  Work work;
};
void attention_tiles(Context& context, const AttentionPlan& plan, bool short_spans, bool long_spans);
namespace sm90 {
bool attention_decode_fits(const AttentionPlan& plan);
void attention_decode(Context& context, const AttentionPlan& plan);  // writes the cache of short spans too
bool attention_prefill_fits(const AttentionPlan& plan);
void attention_prefill(Context& context, const AttentionPlan& plan);
}  // namespace sm90

// ---- device ----

// Index of the cached row (of any cache) that holds a position of a span.
DW_DEVICE int64_t attention_cache_row(const AttentionArgs& args, int first_page, int kv_head, int position) {
  const int page = position / args.page_tokens;
  return (int64_t(args.pages[first_page + page]) * args.kv_heads + kv_head) * args.page_tokens + position -
         page * args.page_tokens;
}

// cos, sin of pair `turns` at a position.
DW_DEVICE float2 rope_cos_sin(uint64_t turns, int position) {
  const int top = int(uint32_t((turns * uint64_t(position)) >> 32));
  float2 r;
  sincospif(float(top) * 0x1p-31f, &r.y, &r.x);
  return r;
}

// First of the partial rows of a span.
DW_DEVICE int attention_partial_row(const AttentionArgs& args, int span) {
  if (!args.mixed) return args.spans[span].first_row;
  int row = 0;
  for (int i = 0; i < span; ++i) {
    const int count = args.spans[i].row_count;
    row += count <= kShortSpan ? count : 0;
  }
  return row;
}

// Column `d` of (row, head) from the weighted sum of values and the sum of weights. Called by the 32 lanes of
// a group, d = group * 32 + lane.
DW_DEVICE float gate_of(const AttentionArgs& args, int64_t row, int head, int d) {
  return args.q_gate[((row * args.heads + head) * 2 + 1) * args.dim + d];
}
DW_DEVICE void finish_attention(const AttentionArgs& args, int64_t row, int head, int d, float sum,
                                float weights, float gate) {
  store_activation(args.out, row, head * args.dim + d, sum / weights * sigmoid(gate));
}

// The gates of eight neighbouring columns, 8 lane .. + 7 of 256, of (row, head).
DW_DEVICE void load_gates(const AttentionArgs& args, int64_t row, int head, int lane, float (&gates)[8]) {
  const float4* from =
      reinterpret_cast<const float4*>(args.q_gate + ((row * args.heads + head) * 2 + 1) * kMaxHeadDim) +
      2 * lane;
  const float4 a = from[0], b = from[1];
  gates[0] = a.x, gates[1] = a.y, gates[2] = a.z, gates[3] = a.w;
  gates[4] = b.x, gates[5] = b.y, gates[6] = b.z, gates[7] = b.w;
}

// finish_attention() of eight neighbouring columns a lane; four lanes share a group. Head dim 256.
DW_DEVICE void finish_attention_row(const AttentionArgs& args, int64_t row, int head, int lane,
                                    const float (&sums)[8], const float (&gates)[8], float weights) {
  float x[8], largest = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x[i] = sums[i] / weights * sigmoid(gates[i]);
    largest = fmaxf(largest, fabsf(x[i]));
  }
  const float d = lanes_max<4>(largest) / 127.0f;
  uint32_t words[2] = {0, 0};
  int total = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int quant = d == 0 ? 0 : __float2int_rn(__fdiv_rn(x[i], d));
    words[i / 4] |= uint32_t(quant & 255) << (i % 4 * 8);
    total += quant;
  }
  total += lane_xor(total, 1);
  const int64_t at = row * args.out.columns + head * kMaxHeadDim + 8 * lane;
  float4* const to = reinterpret_cast<float4*>(args.out.values + at);
  to[0] = {x[0], x[1], x[2], x[3]};
  to[1] = {x[4], x[5], x[6], x[7]};
  *reinterpret_cast<uint2*>(args.out.quants + at) = {words[0], words[1]};
  if (lane % 2 == 0) args.out.sums[at / 16] = int16_t(total);
  if (lane % 4 == 0) args.out.scales[at / 32] = d;
}

// The span and tile of packed rows that a block works on; tiles of a span come last first (they see most
// keys), long spans only where the batch is mixed. span < 0: none.
struct AttentionTile {
  int span;
  int first;  // packed row
};
DW_DEVICE AttentionTile find_attention_tile(const AttentionArgs& args, int index, int tile_rows,
                                            bool short_spans, bool long_spans) {
  for (int i = 0; i < args.span_count; ++i) {
    const int rows = args.spans[i].row_count;
    if (rows <= kShortSpan ? !short_spans : !long_spans) continue;
    const int tiles = (rows * args.group + tile_rows - 1) / tile_rows;
    if (index < tiles) return {i, (tiles - 1 - index) * tile_rows};
    index -= tiles;
  }
  return {-1, 0};
}

}  // namespace dw::gpu
