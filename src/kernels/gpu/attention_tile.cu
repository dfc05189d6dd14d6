// Attention with fp32 arithmetic for any head dim, page size, cache type and device: a block takes a tile of
// packed rows of one KV head against one cut of the keys (or all keys, for long spans), with the running
// maximum of flash attention (Dao et al., arXiv 2205.14135). The cache holds the batch's keys already.
#include <algorithm>

#include "kernels/gpu/attention.h"
#include "kernels/gpu/launch.h"

namespace dw::gpu {
namespace {

constexpr int kTileThreads = 256;
constexpr int kTileKeys = 16;
constexpr int kTileStride = kMaxHeadDim + 16;  // floats; 16 more: rows eight apart meet no bank conflict

// The kernel's arguments, read anew where the GPU has few scalar registers to keep them in (args must be the
// kernel's first parameter).
DW_DEVICE const AttentionArgs& reload(const AttentionArgs& args) {
#if defined(DW_GPU_HIP) && defined(__gfx906__)
  (void)args;
  uint64_t address = reinterpret_cast<uint64_t>(__builtin_amdgcn_kernarg_segment_ptr());
  asm volatile("" : "+s"(address));
  return *(const AttentionArgs*)(const __attribute__((address_space(4))) AttentionArgs*)address;
#else
  return args;
#endif
}

// Pieces of a cached row: loads, then values.
template <ops::KvType kType>
struct CachedPiece;

template <>
struct CachedPiece<ops::KvType::kF32> {
  static constexpr int kElements = 4;
  float4 raw;
  DW_DEVICE CachedPiece load(const uint8_t* row, int, int piece) {
    return {reinterpret_cast<const float4*>(row)[piece]};
  }
  __device__ __forceinline__ void unpack(float* out) const { *reinterpret_cast<float4*>(out) = raw; }
};

template <>
struct CachedPiece<ops::KvType::kF16> {
  static constexpr int kElements = 8;
  uint4 raw;
  DW_DEVICE CachedPiece load(const uint8_t* row, int, int piece) {
    return {reinterpret_cast<const uint4*>(row)[piece]};
  }
  __device__ __forceinline__ void unpack(float* out) const {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = half_bits_to_float(uint16_t(words[i]));
      out[2 * i + 1] = half_bits_to_float(uint16_t(words[i] >> 16));
    }
  }
};

template <>
struct CachedPiece<ops::KvType::kQ8_0> {
  static constexpr int kElements = 8;
  uint2 raw;
  uint16_t scale;
  DW_DEVICE CachedPiece load(const uint8_t* row, int dim, int piece) {
    CachedPiece p;
    p.scale = *reinterpret_cast<const uint16_t*>(row + dim + piece / 4 * 2);
    if (dim % 128 == 0) {  // rows are multiples of 8 bytes
      p.raw = reinterpret_cast<const uint2*>(row)[piece];
    } else {
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(row) + 4 * piece;
      p.raw = {halves[0] | uint32_t(halves[1]) << 16, halves[2] | uint32_t(halves[3]) << 16};
    }
    return p;
  }
  __device__ __forceinline__ void unpack(float* out) const {
    const float d = half_bits_to_float(scale);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[i] = float(int8_t(raw.x >> 8 * i)) * d;
      out[i + 4] = float(int8_t(raw.y >> 8 * i)) * d;
    }
  }
};

// One tile of keys or values on its way from the cache: 16 threads a row.
template <ops::KvType kType>
struct TileLoad {
  using Piece = CachedPiece<kType>;
  static constexpr int kPieces = kMaxHeadDim / Piece::kElements / 16;
  Piece pieces[kPieces];
  bool valid;

  __device__ __forceinline__ void load(const AttentionArgs& args, const uint8_t* cache, int first_page,
                                       int kv_head, int key, int key_end) {
    valid = key < key_end;
    if (!valid) return;
    const uint8_t* row =
        cache + attention_cache_row(args, first_page, kv_head, key) * attention_row_bytes<kType>(args.dim);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int piece = int(threadIdx.x % 16) + 16 * i;
      if (piece * Piece::kElements < args.dim) pieces[i] = Piece::load(row, args.dim, piece);
    }
  }
  __device__ __forceinline__ void store(int dim, float* tile) const {
    float* row = tile + threadIdx.x / 16 * kTileStride;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int column = (int(threadIdx.x % 16) + 16 * i) * Piece::kElements;
      if (column >= dim) break;
      float values[Piece::kElements];
      if (valid) {
        pieces[i].unpack(values);
      } else {
#pragma unroll
        for (int j = 0; j < Piece::kElements; ++j) values[j] = 0;
      }
#pragma unroll
      for (int j = 0; j < Piece::kElements; j += 4)
        *reinterpret_cast<float4*>(row + column + j) = {values[j], values[j + 1], values[j + 2],
                                                        values[j + 3]};
    }
  }
};

// Normed and rotated queries of the tile, times the scale; rows past the span's end are zeros. 16 threads a
// row; `tile` also serves as the exchange of rotated pairs.
template <int kRows>
DW_DEVICE void load_queries(const AttentionArgs& args, const RopeTable& rope, const SpanEntry& span,
                            int kv_head, int first, float* tile) {
  const int r = threadIdx.x / 16, lane = threadIdx.x % 16, dim = args.dim;
  const int token = (first + r) / args.group, head = kv_head * args.group + (first + r) % args.group;
  const bool valid = r < kRows && token < span.row_count;
  float values[kMaxHeadDim / 16], sum = 0;
  const int64_t at = (int64_t(span.first_row + token) * args.heads + head) * 2 * dim;
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 16; ++j) {
    const int d = 16 * j + lane;
    values[j] = valid && d < dim ? args.q_gate[at + d] : 0.0f;
    sum += values[j] * values[j];
  }
  const float factor = 1.0f / sqrtf(lanes_sum<16>(sum) / float(dim) + args.eps);
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 16; ++j) {
    const int d = 16 * j + lane;
    if (d >= dim || r >= kRows) continue;
    values[j] *= factor * args.q_norm[d];
    tile[r * kTileStride + d] = values[j];
  }
  __syncthreads();
  const int half = args.rope_dims / 2;
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 16; ++j) {
    const int d = 16 * j + lane;
    if (d >= args.rope_dims || r >= kRows) continue;
    const int pair = d < half ? d : d - half;
    const float2 turn = rope_cos_sin(rope.turns[pair], span.position + token);
    const float other = tile[r * kTileStride + (d < half ? d + half : pair)];
    values[j] = values[j] * turn.x + (d < half ? -other : other) * turn.y;
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 16; ++j) {
    const int d = 16 * j + lane;
    if (d < dim && r < kRows) tile[r * kTileStride + d] = values[j] * args.scale;
  }
}

DW_DEVICE float dot(float4 a, float4 b, float c) {
  return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, c))));
}

// scores[row][key] of a tile: a thread sums a quarter of the dims of kRows / 8 rows and 2 keys.
template <int kRows>
DW_DEVICE void tile_scores(int dim, const float* queries, const float* keys, float (*scores)[kTileKeys + 1]) {
  constexpr int kPer = kRows / 8;
  const int quarter = threadIdx.x % 4, key = threadIdx.x / 4 % 8, row = threadIdx.x / 32 * kPer;
  float sums[kPer][2] = {};
  for (int d = 4 * quarter; d < dim; d += 16) {
    const float4 k0 = *reinterpret_cast<const float4*>(keys + key * kTileStride + d);
    const float4 k1 = *reinterpret_cast<const float4*>(keys + (key + 8) * kTileStride + d);
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const float4 q = *reinterpret_cast<const float4*>(queries + (row + i) * kTileStride + d);
      sums[i][0] = dot(q, k0, sums[i][0]);
      sums[i][1] = dot(q, k1, sums[i][1]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
    const float s0 = lanes_sum<4>(sums[i][0]), s1 = lanes_sum<4>(sums[i][1]);
    if (quarter == 0) scores[row + i][key] = s0;
    if (quarter == 1) scores[row + i][key + 8] = s1;
  }
}

struct TileWork {
  SpanEntry span;
  int span_index;
  int first;      // packed row
  int key_begin;  // of this block's cut
  int key_end;
};

template <ops::KvType kType, int kRows>
DW_DEVICE void run_tile(const AttentionArgs& args, const RopeTable& rope, const TileWork& work, int kv_head,
                        bool partial) {
  constexpr int kPer = kRows / 4;  // rows of a thread's sums of values
  __shared__ __align__(16) float queries[kRows * kTileStride];
  __shared__ __align__(16) float tile[kTileKeys * kTileStride];
  __shared__ float scores[kRows][kTileKeys + 1];
  __shared__ __align__(16) float weights[kTileKeys][kRows];
  __shared__ float rescale[kRows], row_largest[kRows], row_sum[kRows];
  const SpanEntry& span = work.span;
  const int dim = args.dim;
  const int key_of_thread = threadIdx.x / 16;
  TileLoad<kType> keys, values;
  keys.load(reload(args), args.k_cache, span.first_page, kv_head, work.key_begin + key_of_thread,
            work.key_end);
  load_queries<kRows>(reload(args), rope, span, kv_head, work.first, queries);

  // Softmax: 16 lanes a row.
  const int row = threadIdx.x / 16, lane = threadIdx.x % 16;
  const int position = span.position + (work.first + row) / args.group;
  float largest = -INFINITY, sum = 0;
  // Sums of values: a wave's lanes side by side along the columns.
  const int column = threadIdx.x % 64 * 4, first_row = threadIdx.x / 64 * kPer;
  float4 out[kPer];
#pragma unroll
  for (int i = 0; i < kPer; ++i) out[i] = {0, 0, 0, 0};

  for (int key = work.key_begin; key < work.key_end; key += kTileKeys) {
    keys.store(dim, tile);
    __syncthreads();
    values.load(reload(args), args.v_cache, span.first_page, kv_head, key + key_of_thread, work.key_end);
    tile_scores<kRows>(dim, queries, tile, scores);
    __syncthreads();
    keys.load(reload(args), args.k_cache, span.first_page, kv_head, key + kTileKeys + key_of_thread,
              work.key_end);
    if (row < kRows) {
      const bool seen = key + lane < work.key_end && key + lane <= position;
      const float score = seen ? scores[row][lane] : -INFINITY;
      const float now = fmaxf(largest, lanes_max<16>(score));
      const float weight = now == -INFINITY ? 0.0f : exp2f(score - now);
      const float shrink = now == -INFINITY ? 1.0f : exp2f(largest - now);
      sum = sum * shrink + weight;
      largest = now;
      weights[lane][row] = weight;
      if (lane == 0) rescale[row] = shrink;
    }
    values.store(dim, tile);
    __syncthreads();
    if (column < dim) {
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        const float shrink = rescale[first_row + i];
        out[i].x *= shrink, out[i].y *= shrink, out[i].z *= shrink, out[i].w *= shrink;
      }
#pragma unroll
      for (int j = 0; j < kTileKeys; ++j) {
        const float4 v = *reinterpret_cast<const float4*>(tile + j * kTileStride + column);
#pragma unroll
        for (int i = 0; i < kPer; ++i) {
          const float w = weights[j][first_row + i];
          out[i].x = fmaf(w, v.x, out[i].x), out[i].y = fmaf(w, v.y, out[i].y);
          out[i].z = fmaf(w, v.z, out[i].z), out[i].w = fmaf(w, v.w, out[i].w);
        }
      }
    }
    __syncthreads();
  }
  sum = lanes_sum<16>(sum);
  if (row < kRows && lane == 0) row_largest[row] = largest, row_sum[row] = sum;
  __syncthreads();

  if (partial) {
    const AttentionArgs& late = reload(args);
    const int partial_row = attention_partial_row(late, work.span_index);
#pragma unroll
    for (int i = 0; i < kPer; ++i) {
      const int r = first_row + i, token = (work.first + r) / late.group;
      if (token >= span.row_count) break;
      const int head = kv_head * late.group + (work.first + r) % late.group;
      const int64_t at = (int64_t(partial_row + token) * late.heads + head) * late.splits + blockIdx.z;
      if (column < dim) *reinterpret_cast<float4*>(late.partials + at * dim + column) = out[i];
      if (column == 0) late.extremes[at] = {row_largest[r], row_sum[r]};
    }
    return;
  }
  // Through shared memory, so that 32 lanes hold 32 neighbouring columns.
#pragma unroll
  for (int i = 0; i < kPer; ++i)
    if (column < dim) *reinterpret_cast<float4*>(queries + (first_row + i) * kTileStride + column) = out[i];
  __syncthreads();
  const int d = threadIdx.x;
#pragma unroll 1
  for (int r = 0; r < kRows; ++r) {
    const AttentionArgs& late = reload(args);
    const int token = (work.first + r) / late.group;
    if (token >= span.row_count || d >= dim) break;
    const int head = kv_head * late.group + (work.first + r) % late.group;
    finish_attention(late, span.first_row + token, head, d, queries[r * kTileStride + d], row_sum[r],
                     gate_of(late, span.first_row + token, head, d));
  }
}

// Grid: tiles of all spans, KV heads, cuts.
template <ops::KvType kType, int kRows>
__global__ void __launch_bounds__(kTileThreads, kWave == 32 ? 2 : 1)
    attention_tile_kernel(AttentionArgs args, RopeTable rope, bool short_spans) {
  wait_for_previous();
  allow_next();
  const AttentionTile place = find_attention_tile(args, blockIdx.x, kRows, short_spans, !short_spans);
  if (place.span < 0) return;
  TileWork work = {args.spans[place.span], place.span, place.first, 0, 0};
  const SpanEntry& span = work.span;
  const int context = span.position + span.row_count;
  const int last = (place.first + kRows - 1) / args.group;
  const int seen = span.position + (last < span.row_count ? last + 1 : span.row_count);
  work.key_end = seen;
  if (short_spans) {
    const int keys = attention_split_keys(context, args.max_splits);
    work.key_begin = int(blockIdx.z) * keys;
    if (work.key_begin >= seen) return;
    work.key_end = work.key_begin + keys < seen ? work.key_begin + keys : seen;
  }
  run_tile<kType, kRows>(args, rope, work, int(blockIdx.y), short_spans && args.splits > 1);
}

template <ops::KvType kType>
void launch_tiles(Context& context, const AttentionPlan& plan, bool short_spans) {
  const AttentionArgs& args = plan.args;
  const int64_t rows = int64_t(args.tokens) * args.group;
  const bool few = short_spans && int64_t(plan.longest_span) * args.group <= 8;
  const uint32_t tiles = ceil_div(rows, few ? 8 : 16) + uint32_t(args.span_count);
  const dim3 grid(tiles, uint32_t(args.kv_heads), short_spans ? uint32_t(args.splits) : 1);
  launch(context, "attention_tile_kernel", plan.work,
         few ? attention_tile_kernel<kType, 8> : attention_tile_kernel<kType, 16>, grid, dim3(kTileThreads),
         0, args, plan.rope, short_spans);
}

}  // namespace

void attention_tiles(Context& context, const AttentionPlan& plan, bool short_spans, bool long_spans) {
  for (const bool is_short : {true, false}) {
    if (is_short ? !short_spans : !long_spans) continue;
    switch (plan.kv_type) {
      case ops::KvType::kF16:
        launch_tiles<ops::KvType::kF16>(context, plan, is_short);
        break;
      case ops::KvType::kQ8_0:
        launch_tiles<ops::KvType::kQ8_0>(context, plan, is_short);
        break;
      case ops::KvType::kF32:
        launch_tiles<ops::KvType::kF32>(context, plan, is_short);
        break;
    }
  }
}

}  // namespace dw::gpu
