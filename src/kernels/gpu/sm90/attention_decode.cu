// Attention of short spans (decode, and verification of drafts) on tensor cores, head dim 256, f16 or q8_0
// cache: norms, rotation, the cache write, and one cut of the keys a block.
//
// Everything is transposed: scores^T = K q^T, out^T += V^T weights^T, so that the eight query heads of a KV
// head are the eight columns of a product and every cached row is read once for all of them. Queries and
// weights are split in two halves each (value + residual), which makes the products exact to fp32. A warp has
// a column group of eight packed rows; kGroups groups share a stream of key tiles, 4 / kGroups streams (of
// every 4 / kGroups-th tile) run side by side and are merged at the end.
//
// Copies of older rows of the cache begin before wait_for_previous(): they, and the batch's tables, were
// written before this step's first kernel began.
#include <type_traits>

#include "kernels/gpu/attention.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/mma.h"

namespace dw::gpu::sm90 {
namespace {

constexpr int kDim = 256;
constexpr int kKeys = 16;  // of a tile

// Half a tile: the keys, or the values, of kKeys positions.
template <ops::KvType kType>
struct Half {
  static constexpr int kRowBytes = kType == ops::KvType::kF16 ? 512 : 272;
  static constexpr int kPieces = kRowBytes / 16;
  static constexpr int kBytes = kKeys * kRowBytes;
  // Where piece `piece` of row `row` lies. Rows of f16 would all begin in the same bank.
  static __device__ __forceinline__ int key_offset(int row, int piece) {
    return row * kRowBytes + (kType == ops::KvType::kF16 ? piece ^ ((row & 1) * 4) : piece) * 16;
  }
  static __device__ __forceinline__ int value_offset(int row, int piece) {
    return row * kRowBytes + (kType == ops::KvType::kF16 ? piece ^ (row & 6) : piece) * 16;
  }
};

// kShallow: half the memory, so that two blocks share a multiprocessor, for grids of many blocks. The
// arithmetic is the same.
template <int kColumnGroups, bool kShallow>
struct Shape {
  static constexpr int kGroups = kColumnGroups;
  static constexpr int kWarps = kGroups > 4 ? kGroups : 4;
  static constexpr int kStreams = kWarps / kGroups;
  static constexpr int kAll = kGroups == 8 ? 16 : kGroups == 4 ? 22 : 24;  // halves in memory
  static constexpr int kDepth = kAll / kStreams / (kShallow ? 2 : 1);      // of a stream
  static constexpr int kQueryBytes = kGroups * 8 * kDim * 4;
  static constexpr int kMergeStride = kDim + 4;  // floats
};

template <ops::KvType kType, class S>
constexpr int shared_bytes() {
  const int ring = S::kStreams * S::kDepth * Half<kType>::kBytes;
  const int merge = S::kWarps * 8 * S::kMergeStride * 4;
  return S::kQueryBytes + (ring > merge ? ring : merge);
}

// What a block works on.
struct Cut {
  SpanEntry span;
  int context;  // positions of the span, its new rows included
  int kv_head;
  int key_begin;  // of the cut, a multiple of kKeys
  int key_end;
  int first;  // packed row of column 0
  int columns;
};

template <int kGroups>
DW_DEVICE void stream_barrier(int stream) {
  if constexpr (kGroups == 1) {
    __syncwarp();
  } else {
    asm volatile("bar.sync %0, %1;" ::"r"(stream + 1), "r"(kGroups * 32) : "memory");
  }
}

// Starts the copies of half a tile. New rows are left alone unless they are in the cache already.
template <ops::KvType kType, int kThreads>
DW_DEVICE void fetch_half(const AttentionArgs& args, const Cut& cut, int key, bool is_value, int thread,
                          bool cached, uint32_t to) {
  using H = Half<kType>;
  constexpr int kAll = kKeys * H::kPieces;
  const int64_t row = attention_cache_row(args, cut.span.first_page, cut.kv_head, key);
  const uint8_t* const from = (is_value ? args.v_cache : args.k_cache) + row * H::kRowBytes;
#pragma unroll
  for (int i = 0; i < (kAll + kThreads - 1) / kThreads; ++i) {
    const int at = thread + i * kThreads;
    if (kAll % kThreads != 0 && at >= kAll) break;
    const int r = at / H::kPieces, piece = at % H::kPieces;
    const bool valid = key + r < cut.context;
    if (!cached && valid && key + r >= cut.span.position) continue;
    copy_async(to + (is_value ? H::value_offset(r, piece) : H::key_offset(r, piece)), from + at * 16, valid);
  }
}

// Eight neighbouring columns of a lane, normed and rotated. `turns`: cos, sin of this position; `exchange`:
// 256 floats of this warp.
DW_DEVICE void norm_and_rotate(const AttentionArgs& args, float (&x)[8], const float (&weight)[8],
                               const float2* turns, float* exchange) {
  const int lane = threadIdx.x % 32;
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(x[i], x[i], sum);
  const float factor = 1.0f / sqrtf(lanes_sum(sum) / float(kDim) + args.eps);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] *= factor * weight[i];
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 8; ++i) exchange[i * 32 + lane] = x[i];
  __syncwarp();
  const int half = args.rope_dims / 2;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int d = 8 * lane + i;
    if (d >= args.rope_dims) break;
    const int pair = d < half ? d : d - half, partner = d < half ? d + half : pair;
    const float other = exchange[partner % 8 * 32 + partner / 8];
    x[i] = x[i] * turns[pair].x + (d < half ? -other : other) * turns[pair].y;
  }
}

DW_DEVICE void load_row(const float* row, float (&x)[8]) {
  const float4 a = reinterpret_cast<const float4*>(row)[threadIdx.x % 32 * 2];
  const float4 b = reinterpret_cast<const float4*>(row)[threadIdx.x % 32 * 2 + 1];
  x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w, x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}

// Token of its span that a column belongs to; columns past the last one count as the first.
DW_DEVICE int packed_token(const AttentionArgs& args, const Cut& cut, int column) {
  return (cut.first + (column < cut.columns ? column : 0)) / args.group;
}

DW_DEVICE void load_query(const AttentionArgs& args, const Cut& cut, int column, float (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = 0;
  if (column >= cut.columns) return;
  const int token = packed_token(args, cut, column);
  const int head = cut.kv_head * args.group + (cut.first + column) % args.group;
  load_row(args.q_gate + (int64_t(cut.span.first_row + token) * args.heads + head) * 2 * kDim, x);
}

// Key (even items) or value (odd) of the new token item / 2, if it belongs to the cut.
DW_DEVICE void load_new_row(const AttentionArgs& args, const Cut& cut, int item, float (&x)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = 0;
  const int token = item / 2, position = cut.span.position + token;
  if (token >= cut.span.row_count || position < cut.key_begin || position >= cut.key_end) return;
  load_row((item % 2 == 0 ? args.k : args.v) +
               (int64_t(cut.span.first_row + token) * args.kv_heads + cut.kv_head) * kDim,
           x);
}

// Rounds a row into the cache and, where it belongs to half a tile in flight, into its place there.
template <ops::KvType kType>
DW_DEVICE void store_row(const float (&x)[8], uint8_t* cached, uint8_t* tile, int row, bool is_key) {
  using H = Half<kType>;
  const int lane = threadIdx.x % 32;
  if constexpr (kType == ops::KvType::kF16) {
    const uint4 halves = {pack_halves(x[0], x[1]), pack_halves(x[2], x[3]), pack_halves(x[4], x[5]),
                          pack_halves(x[6], x[7])};
    reinterpret_cast<uint4*>(cached)[lane] = halves;
    if (tile != nullptr)
      *reinterpret_cast<uint4*>(tile + (is_key ? H::key_offset(row, lane) : H::value_offset(row, lane))) =
          halves;
  } else {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(x[i]));
    const float d = lanes_max<4>(largest) / 127.0f;
    uint32_t words[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int quant = d == 0 ? 0 : __float2int_rn(__fdiv_rn(x[i], d));
      words[i / 4] |= uint32_t(quant & 255) << (i % 4 * 8);
    }
    const uint16_t scale = float_to_half_bits(d);
    reinterpret_cast<uint2*>(cached)[lane] = {words[0], words[1]};
    if (lane % 4 == 0) reinterpret_cast<uint16_t*>(cached + kDim)[lane / 4] = scale;
    if (tile == nullptr) return;
    uint8_t* const to = tile + (is_key ? H::key_offset(row, 0) : H::value_offset(row, 0));
    reinterpret_cast<uint2*>(to)[lane] = {words[0], words[1]};
    if (lane % 4 == 0) reinterpret_cast<uint16_t*>(to + kDim)[lane / 4] = scale;
  }
}

// Queries as the products' right operand: [group][pair of steps][value, residual][lane][16 bytes]; lane 4n +
// t has the dims 32 pair + 8t .. + 7 of column n.
DW_DEVICE void store_query(const float (&x)[8], uint8_t* queries, int column) {
  const int lane = threadIdx.x % 32;
  uint8_t* const to = queries + ((column / 8 * 8 + lane / 4) * 2 * 32 + column % 8 * 4 + lane % 4) * 16;
  uint32_t high[4], low[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    high[i] = pack_halves(x[2 * i], x[2 * i + 1]);
    low[i] = pack_residuals(high[i], x[2 * i], x[2 * i + 1]);
  }
  *reinterpret_cast<uint4*>(to) = {high[0], high[1], high[2], high[3]};
  *reinterpret_cast<uint4*>(to + 512) = {low[0], low[1], low[2], low[3]};
}

// scores^T of a tile for a column group: lane has keys g, g + 8 of columns 2t, 2t + 1.
DW_DEVICE void tile_scores(const uint8_t* tile, const uint8_t* queries, float (&scores)[4],
                           std::integral_constant<ops::KvType, ops::KvType::kF16>) {
  using H = Half<ops::KvType::kF16>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float sums[4][4] = {};
#pragma unroll
  for (int pair = 0; pair < 8; ++pair) {
    const uint4 a = *reinterpret_cast<const uint4*>(tile + H::key_offset(g, 4 * pair + t));
    const uint4 b = *reinterpret_cast<const uint4*>(tile + H::key_offset(g + 8, 4 * pair + t));
    const uint4 q = *reinterpret_cast<const uint4*>(queries + pair * 1024 + lane * 16);
    const uint4 r = *reinterpret_cast<const uint4*>(queries + pair * 1024 + 512 + lane * 16);
    mma_f16(sums[0], a.x, b.x, a.y, b.y, q.x, q.y);
    mma_f16(sums[1], a.z, b.z, a.w, b.w, q.z, q.w);
    mma_f16(sums[2], a.x, b.x, a.y, b.y, r.x, r.y);
    mma_f16(sums[3], a.z, b.z, a.w, b.w, r.z, r.w);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) scores[i] = (sums[0][i] + sums[1][i]) + (sums[2][i] + sums[3][i]);
}
DW_DEVICE void tile_scores(const uint8_t* tile, const uint8_t* queries, float (&scores)[4],
                           std::integral_constant<ops::KvType, ops::KvType::kQ8_0>) {
  using H = Half<ops::KvType::kQ8_0>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const uint8_t* const row0 = tile + H::key_offset(g, 0);
  const uint8_t* const row1 = tile + H::key_offset(g + 8, 0);
  const __half2 one = __float2half2_rn(1.0f);
#pragma unroll
  for (int i = 0; i < 4; ++i) scores[i] = 0;
#pragma unroll
  for (int pair = 0; pair < 8; ++pair) {
    uint2 a = *reinterpret_cast<const uint2*>(row0 + 32 * pair + 8 * t);
    uint2 b = *reinterpret_cast<const uint2*>(row1 + 32 * pair + 8 * t);
    const float scale0 = half_bits_to_float(reinterpret_cast<const uint16_t*>(row0 + kDim)[pair]);
    const float scale1 = half_bits_to_float(reinterpret_cast<const uint16_t*>(row1 + kDim)[pair]);
    const uint4 q = *reinterpret_cast<const uint4*>(queries + pair * 1024 + lane * 16);
    const uint4 r = *reinterpret_cast<const uint4*>(queries + pair * 1024 + 512 + lane * 16);
    a.x ^= 0x80808080u, a.y ^= 0x80808080u, b.x ^= 0x80808080u, b.y ^= 0x80808080u;
    const uint32_t a0 = scaled_halves(a.x, 0x4140, one), a1 = scaled_halves(a.x, 0x4342, one);
    const uint32_t a2 = scaled_halves(a.y, 0x4140, one), a3 = scaled_halves(a.y, 0x4342, one);
    const uint32_t b0 = scaled_halves(b.x, 0x4140, one), b1 = scaled_halves(b.x, 0x4342, one);
    const uint32_t b2 = scaled_halves(b.y, 0x4140, one), b3 = scaled_halves(b.y, 0x4342, one);
    float sums[2][4] = {};
    mma_f16(sums[0], a0, b0, a1, b1, q.x, q.y);
    mma_f16(sums[1], a0, b0, a1, b1, r.x, r.y);
    mma_f16(sums[0], a2, b2, a3, b3, q.z, q.w);
    mma_f16(sums[1], a2, b2, a3, b3, r.z, r.w);
    scores[0] = fmaf(scale0, sums[0][0] + sums[1][0], scores[0]);
    scores[1] = fmaf(scale0, sums[0][1] + sums[1][1], scores[1]);
    scores[2] = fmaf(scale1, sums[0][2] + sums[1][2], scores[2]);
    scores[3] = fmaf(scale1, sums[0][3] + sums[1][3], scores[3]);
  }
}

// Rows 2t, 2t + 1 of eight neighbouring dims, interleaved: element i has dim i of both.
DW_DEVICE void load_value_pairs(const uint8_t* tile, int row, int chunk, int g, uint32_t (&pairs)[8],
                                std::integral_constant<ops::KvType, ops::KvType::kF16>) {
  using H = Half<ops::KvType::kF16>;
  const uint4 a = *reinterpret_cast<const uint4*>(tile + H::value_offset(row, 8 * chunk + g));
  const uint4 b = *reinterpret_cast<const uint4*>(tile + H::value_offset(row + 1, 8 * chunk + g));
  const uint32_t x[4] = {a.x, a.y, a.z, a.w}, y[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = __byte_perm(x[i], y[i], 0x5410);
    pairs[2 * i + 1] = __byte_perm(x[i], y[i], 0x7632);
  }
}
DW_DEVICE void load_value_pairs(const uint8_t* tile, int row, int chunk, int g, uint32_t (&pairs)[8],
                                std::integral_constant<ops::KvType, ops::KvType::kQ8_0>) {
  using H = Half<ops::KvType::kQ8_0>;
  const uint8_t* const row0 = tile + H::value_offset(row, 0);
  const uint8_t* const row1 = tile + H::value_offset(row + 1, 0);
  const uint2 a = *reinterpret_cast<const uint2*>(row0 + 64 * chunk + 8 * g);
  const uint2 b = *reinterpret_cast<const uint2*>(row1 + 64 * chunk + 8 * g);
  const int block = 2 * chunk + g / 4;
  const __half2 scales = __halves2half2(reinterpret_cast<const __half*>(row0 + kDim)[block],
                                        reinterpret_cast<const __half*>(row1 + kDim)[block]);
  const uint32_t x[2] = {a.x ^ 0x80808080u, a.y ^ 0x80808080u};
  const uint32_t y[2] = {b.x ^ 0x80808080u, b.y ^ 0x80808080u};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t low = __byte_perm(x[i], y[i], 0x5140), high = __byte_perm(x[i], y[i], 0x7362);
    pairs[4 * i] = scaled_halves(low, 0x4140, scales);
    pairs[4 * i + 1] = scaled_halves(low, 0x4342, scales);
    pairs[4 * i + 2] = scaled_halves(high, 0x4140, scales);
    pairs[4 * i + 3] = scaled_halves(high, 0x4342, scales);
  }
}

// The running state of a warp's column group: columns 2t, 2t + 1 in a lane.
struct Running {
  float out[16][4];  // [4 chunk + i]: dims 64 chunk + 8g + 2i, + 1 (rows) of the columns
  float largest[2];  // of all lanes
  float sum[2];      // of this lane's keys
};

// Weights of a tile as the right operand: values and residuals.
struct TileWeights {
  uint32_t high[2], low[2];
};

template <ops::KvType kType>
DW_DEVICE TileWeights add_keys(const uint8_t* tile, const uint8_t* queries, int key, const int (&position)[2],
                               Running& state) {
  constexpr std::integral_constant<ops::KvType, kType> kTag;
  const int g = threadIdx.x % 32 / 4;
  float scores[4];
  tile_scores(tile, queries, scores, kTag);
  float shrink[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    if (key + g > position[c]) scores[c] = -INFINITY;
    if (key + g + 8 > position[c]) scores[c + 2] = -INFINITY;
    float now = fmaxf(scores[c], scores[c + 2]);
    now = fmaxf(now, lane_xor(now, 4));
    now = fmaxf(now, lane_xor(now, 8));
    now = fmaxf(now, lane_xor(now, 16));
    now = fmaxf(now, state.largest[c]);
    shrink[c] = now == -INFINITY ? 1.0f : fast_exp2(state.largest[c] - now);
    scores[c] = now == -INFINITY ? 0.0f : fast_exp2(scores[c] - now);
    scores[c + 2] = now == -INFINITY ? 0.0f : fast_exp2(scores[c + 2] - now);
    state.sum[c] = fmaf(state.sum[c], shrink[c], scores[c] + scores[c + 2]);
    state.largest[c] = now;
  }
  if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      state.out[i][0] *= shrink[0], state.out[i][1] *= shrink[1];
      state.out[i][2] *= shrink[0], state.out[i][3] *= shrink[1];
    }
  }
  const uint32_t high0 = pack_halves(scores[0], scores[1]), high1 = pack_halves(scores[2], scores[3]);
  return {{transpose_halves(high0), transpose_halves(high1)},
          {transpose_halves(pack_residuals(high0, scores[0], scores[1])),
           transpose_halves(pack_residuals(high1, scores[2], scores[3]))}};
}

template <ops::KvType kType>
DW_DEVICE void add_values(const uint8_t* tile, const TileWeights& weights, Running& state) {
  constexpr std::integral_constant<ops::KvType, kType> kTag;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    uint32_t first[8], second[8];
    load_value_pairs(tile, 2 * t, chunk, g, first, kTag);
    load_value_pairs(tile, 2 * t + 8, chunk, g, second, kTag);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      mma_f16(state.out[4 * chunk + i], first[2 * i], first[2 * i + 1], second[2 * i], second[2 * i + 1],
              weights.high[0], weights.high[1]);
#pragma unroll
    for (int i = 0; i < 4; ++i)
      mma_f16(state.out[4 * chunk + i], first[2 * i], first[2 * i + 1], second[2 * i], second[2 * i + 1],
              weights.low[0], weights.low[1]);
  }
}

// The streams' states through shared memory, merged and written: partial results, or the op's output.
template <class S>
DW_DEVICE void finish_block(const AttentionArgs& args, const Cut& cut, int span_index, Running& state,
                            float* merge, float2* extremes) {
  constexpr int kGroups = S::kGroups;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = threadIdx.x / 32;
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float sum = state.sum[c];
    sum += lane_xor(sum, 4);
    sum += lane_xor(sum, 8);
    sum += lane_xor(sum, 16);
    // Dims 64 chunk + 8g + 2i, + 1 go to 64 chunk + 16i + 2g, + 1: no bank conflicts.
    float* const column = merge + (warp * 8 + 2 * t + c) * S::kMergeStride;
#pragma unroll
    for (int i = 0; i < 16; ++i)
      *reinterpret_cast<float2*>(column + 64 * (i / 4) + 16 * (i % 4) + 2 * g) = {state.out[i][c],
                                                                                  state.out[i][c + 2]};
    if (g == 0) extremes[warp * 8 + 2 * t + c] = {state.largest[c], sum};
  }
  __syncthreads();
  const int partial_row = args.splits > 1 ? attention_partial_row(args, span_index) : 0;
  for (int column = warp; column < cut.columns; column += S::kWarps) {
    float largest = -INFINITY, sum = 0, weights[S::kStreams];
#pragma unroll
    for (int s = 0; s < S::kStreams; ++s) largest = fmaxf(largest, extremes[s * kGroups * 8 + column].x);
#pragma unroll
    for (int s = 0; s < S::kStreams; ++s) {
      const float2 e = extremes[s * kGroups * 8 + column];
      weights[s] = e.x == -INFINITY ? 0.0f : fast_exp2(e.x - largest);
      sum += weights[s] * e.y;
    }
    const int token = (cut.first + column) / args.group;
    const int head = cut.kv_head * args.group + (cut.first + column) % args.group;
    const int64_t at = (int64_t(partial_row + token) * args.heads + head) * args.splits + blockIdx.x;
    if (args.splits > 1 && lane == 0) args.extremes[at] = {largest, sum};
    float sums[8] = {};
#pragma unroll
    for (int s = 0; s < S::kStreams; ++s) {
      const float* from = merge + (s * kGroups * 8 + column) * S::kMergeStride + lane / 8 * 64 + lane % 8 * 2;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 pair = *reinterpret_cast<const float2*>(from + 16 * i);
        sums[2 * i] += weights[s] * pair.x;
        sums[2 * i + 1] += weights[s] * pair.y;
      }
    }
    if (args.splits > 1) {
      float4* const to = reinterpret_cast<float4*>(args.partials + at * kDim) + 2 * lane;
      to[0] = {sums[0], sums[1], sums[2], sums[3]};
      to[1] = {sums[4], sums[5], sums[6], sums[7]};
    } else {
      float gates[8];
      load_gates(args, cut.span.first_row + token, head, lane, gates);
      finish_attention_row(args, cut.span.first_row + token, head, lane, sums, gates, sum);
    }
  }
}

// Grid: cuts, KV heads, spans x column blocks.
template <ops::KvType kType, class S>
__global__ void __launch_bounds__(S::kWarps * 32, 1)
    attention_decode_kernel(AttentionArgs args, const __grid_constant__ RopeTable rope, int column_blocks) {
  using H = Half<kType>;
  constexpr int kGroups = S::kGroups;
  constexpr int kColumns = 8 * kGroups, kTokens = kShortSpan;
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float2 turns[kTokens][kMaxHeadDim / 2 / 4];  // rope_dims <= 64; see attention_decode_fits
  __shared__ float exchange[S::kWarps][kDim];
  __shared__ float2 extremes[S::kWarps * 8];
  uint8_t* const queries = shared;
  uint8_t* const ring = shared + S::kQueryBytes;
  const int warp = threadIdx.x / 32, stream = warp / kGroups, group = warp % kGroups;

  Cut cut;
  const int span_index = blockIdx.z / column_blocks;
  cut.span = args.spans[span_index];
  cut.context = cut.span.position + cut.span.row_count;
  cut.kv_head = blockIdx.y;
  const int split_keys = attention_split_keys(cut.context, args.max_splits);
  cut.key_begin = int(blockIdx.x) * split_keys;
  cut.first = blockIdx.z % column_blocks * kColumns;
  cut.columns = cut.span.row_count * args.group - cut.first;
  cut.columns = cut.columns < kColumns ? cut.columns : kColumns;
  if (cut.span.row_count > kShortSpan || cut.columns <= 0 || cut.key_begin >= cut.context) {
    wait_for_previous();
    allow_next();
    return;
  }
  cut.key_end = cut.key_begin + split_keys < cut.context ? cut.key_begin + split_keys : cut.context;

  // Tile i of a stream begins at key_begin + (i * kStreams + stream) * kKeys.
  const int stream_thread = threadIdx.x % (kGroups * 32);
  uint8_t* const stream_ring = ring + stream * S::kDepth * H::kBytes;
  const int first_key = cut.key_begin + stream * kKeys;
  const int tiles = (cut.key_end - first_key + S::kStreams * kKeys - 1) / (S::kStreams * kKeys);
  auto fetch = [&](int half, bool cached) {
    if (half < 2 * tiles)
      fetch_half<kType, kGroups * 32>(args, cut, first_key + half / 2 * S::kStreams * kKeys, half % 2 == 1,
                                      stream_thread, cached,
                                      shared_address(stream_ring + half % S::kDepth * H::kBytes));
    copy_commit();
  };
  // Half h of the stream has come and may be read; half h - 1 has been read, and its place is filled anew.
  auto next = [&](int half) {
    copy_wait<S::kDepth - 2>();
    stream_barrier<kGroups>(stream);
    fetch(half + S::kDepth - 1, true);
    return stream_ring + half % S::kDepth * H::kBytes;
  };
  for (int i = 0; i < S::kDepth - 1; ++i) fetch(i, false);

  // cos, sin of the new positions.
  const int half = args.rope_dims / 2;
  for (int i = threadIdx.x; i < cut.span.row_count * half; i += S::kWarps * 32)
    turns[i / half][i % half] = rope_cos_sin(rope.turns[i % half], cut.span.position + i / half);
  __syncthreads();

  float q_norm[8], k_norm[8];
  load_row(args.q_norm, q_norm);
  load_row(args.k_norm, k_norm);

  wait_for_previous();
  allow_next();
  // All first loads before the first use: the new key or value of this warp, two queries at a time.
  constexpr int kAhead = 2;
  float fresh[8];
  load_new_row(args, cut, warp, fresh);
#pragma unroll 1
  for (int base = warp; base < kColumns; base += kAhead * S::kWarps) {
    float x[kAhead][8];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) load_query(args, cut, base + i * S::kWarps, x[i]);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int column = base + i * S::kWarps;
      norm_and_rotate(args, x[i], q_norm, turns[packed_token(args, cut, column)], exchange[warp]);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[i][j] *= args.scale;
      store_query(x[i], queries, column);
    }
  }
  // New keys and values of this cut: into the cache, and into the tiles that are in flight.
  for (int item = warp; item < 2 * cut.span.row_count; item += S::kWarps) {
    const int position = cut.span.position + item / 2;
    const bool is_key = item % 2 == 0;
    if (item != warp) load_new_row(args, cut, item, fresh);
    if (position < cut.key_begin || position >= cut.key_end) continue;
    if (is_key) norm_and_rotate(args, fresh, k_norm, turns[item / 2], exchange[warp]);
    const int tile = (position - cut.key_begin) / kKeys;
    const int owner = tile % S::kStreams, half_index = tile / S::kStreams * 2 + (is_key ? 0 : 1);
    const bool in_flight = half_index < S::kDepth - 1;
    uint8_t* const place = in_flight ? ring + (owner * S::kDepth + half_index) * H::kBytes : nullptr;
    uint8_t* const cached =
        (is_key ? args.k_cache : args.v_cache) +
        attention_cache_row(args, cut.span.first_page, cut.kv_head, position) * H::kRowBytes;
    store_row<kType>(fresh, cached, place, (position - cut.key_begin) % kKeys, is_key);
    if (!in_flight) __threadfence();  // this block's copies read it
  }
  __syncthreads();

  Running state = {};
  int position[2];
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    state.largest[c] = -INFINITY;
    position[c] = cut.span.position + (cut.first + group * 8 + threadIdx.x % 4 * 2 + c) / args.group;
  }
  const uint8_t* const own_queries = queries + group * 8 * kDim * 4;
  for (int i = 0; i < tiles; ++i) {
    const TileWeights weights =
        add_keys<kType>(next(2 * i), own_queries, first_key + i * S::kStreams * kKeys, position, state);
    add_values<kType>(next(2 * i + 1), weights, state);
  }
  copy_wait<0>();
  __syncthreads();
  finish_block<S>(args, cut, span_index, state, reinterpret_cast<float*>(ring), extremes);
}

template <ops::KvType kType, int kGroups, bool kShallow>
void launch_decode(Context& context, const AttentionPlan& plan) {
  using S = Shape<kGroups, kShallow>;
  const AttentionArgs& args = plan.args;
  const auto kernel = attention_decode_kernel<kType, S>;
  constexpr int kBytes = shared_bytes<kType, S>();
  static const bool allowed = (allow_shared_bytes(kernel, kBytes), true);
  (void)allowed;
  const int32_t rows = plan.longest_span < kShortSpan ? plan.longest_span : kShortSpan;
  const uint32_t blocks = ceil_div(int64_t(rows) * args.group, 8 * kGroups);
  launch(context, "attention_decode_kernel", plan.work, kernel,
         dim3(uint32_t(args.splits), uint32_t(args.kv_heads), uint32_t(args.span_count) * blocks),
         dim3(S::kWarps * 32), kBytes, args, plan.rope, int(blocks));
}

template <ops::KvType kType>
void launch_groups(Context& context, const AttentionPlan& plan) {
  const int columns = (plan.longest_span < kShortSpan ? plan.longest_span : kShortSpan) * plan.args.group;
  const int64_t grid = int64_t(plan.args.splits) * plan.args.kv_heads * plan.args.span_count;
  if (columns <= 8 && grid > context.limits.multiprocessors)
    return launch_decode<kType, 1, true>(context, plan);
  if (columns <= 8) return launch_decode<kType, 1, false>(context, plan);
  if (columns <= 16) return launch_decode<kType, 2, false>(context, plan);
  if (columns <= 32) return launch_decode<kType, 4, false>(context, plan);
  launch_decode<kType, 8, false>(context, plan);
}

}  // namespace

// Head dim 256, pages of whole tiles, at most 64 rotated dims (what the shared table holds).
bool attention_decode_fits(const AttentionPlan& plan) {
  return plan.args.dim == kDim && plan.args.page_tokens % kKeys == 0 && plan.args.rope_dims <= 64 &&
         plan.kv_type != ops::KvType::kF32;
}

void attention_decode(Context& context, const AttentionPlan& plan) {
  if (plan.kv_type == ops::KvType::kF16) return launch_groups<ops::KvType::kF16>(context, plan);
  launch_groups<ops::KvType::kQ8_0>(context, plan);
}

}  // namespace dw::gpu::sm90
