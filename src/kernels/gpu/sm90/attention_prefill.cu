// Attention of long spans (prefill) on Hopper's warpgroup products, head dim 256, f16 or q8_0 cache, which
// holds the batch's keys already. A block takes 128 packed rows of one KV head: one warpgroup brings tiles of
// 64 keys and values into shared memory (from whatever pages; q8_0 becomes f16 on the way), two warpgroups of
// 64 rows each compute. As in FlashAttention-3 (Shah et al., arXiv 2407.08608) the scores of the next tile
// are on their way while the weights of this one are computed and summed.
#include "kernels/gpu/attention.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/attention_wgmma.h"
#include "kernels/gpu/sm90/mma.h"

namespace dw::gpu::sm90 {
namespace {

constexpr int kDim = 256;
constexpr int kRows = 128;
constexpr int kKeys = 64;
constexpr int kThreads = 384;
constexpr int kTileBytes = kKeys * kDim * 2;  // as many as the queries of a warpgroup
constexpr int kKeyStages = 3;
constexpr int kValueStages = 2;
constexpr int kStages = kKeyStages + kValueStages;
constexpr int kSharedBytes = 1024 + (2 + kStages) * kTileBytes + 2 * 8 * kStages;

template <ops::KvType kType>
struct Budget {  // registers; 504 in all
  static constexpr int kProducer = kType == ops::KvType::kF16 ? 40 : 72;
  static constexpr int kConsumer = (504 - kProducer) / 2;
};

// Addresses in shared memory. Tiles of keys go round kKeyStages stages, tiles of values round the others.
struct Layout {
  uint32_t queries;   // [2][kTileBytes]
  uint32_t tiles;     // [kStages][kTileBytes]: keys, then values
  uint32_t barriers;  // [full, empty][kStages]
  __device__ __forceinline__ int stage(bool is_value, int tile) const {
    return is_value ? kKeyStages + tile % kValueStages : tile % kKeyStages;
  }
  __device__ __forceinline__ uint32_t parity(bool is_value, int tile) const {
    return uint32_t(is_value ? tile / kValueStages : tile / kKeyStages) & 1;
  }
  __device__ __forceinline__ uint32_t address(int stage) const { return tiles + stage * kTileBytes; }
  __device__ __forceinline__ uint32_t full(int stage) const { return barriers + 8 * stage; }
  __device__ __forceinline__ uint32_t empty(int stage) const { return barriers + 8 * (kStages + stage); }
  // Until a tile has come; copies of other threads must be seen by the matrix units.
  __device__ __forceinline__ void await(bool is_value, int tile) const {
    barrier_wait(full(stage(is_value, tile)), parity(is_value, tile));
    publish_shared();
  }
  __device__ __forceinline__ void release(bool is_value, int tile) const {
    if (threadIdx.x % 32 == 0) barrier_arrive(empty(stage(is_value, tile)));
  }
};

struct Block {
  SpanEntry span;
  int kv_head;
  int first;    // packed row
  int context;  // positions of the span
  int tiles;    // of keys
};

DW_DEVICE void store_shared(uint32_t address, uint4 x) {
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w)
               : "memory");
}

// Rows beyond the context become zeros: their weights are zero, and what lies there may be anything.
template <ops::KvType kType>
DW_DEVICE void load_tile(const AttentionArgs& args, const Block& block, const uint8_t* cache, int key,
                         uint32_t to) {
  const int thread = threadIdx.x;
  const bool one_page = args.page_tokens % kKeys == 0;
  const int64_t first_row = attention_cache_row(args, block.span.first_page, block.kv_head, key);
  if constexpr (kType == ops::KvType::kF16) {
    const int piece = thread % 32;
#pragma unroll
    for (int i = 0; i < kKeys / 4; ++i) {
      const int r = thread / 32 + 4 * i;
      const bool valid = key + r < block.context;
      const int64_t row = one_page ? first_row + r
                          : valid  ? attention_cache_row(args, block.span.first_page, block.kv_head, key + r)
                                   : first_row;
      copy_async(to + swizzled_offset<kKeys>(r, piece), cache + (valid ? row : first_row) * 512 + piece * 16,
                 valid);
    }
  } else {
    // Half a row a thread: four blocks.
    const int r = thread / 2, half = thread % 2;
    const bool valid = key + r < block.context;
    const int64_t row = one_page || !valid
                            ? first_row + (valid ? r : 0)
                            : attention_cache_row(args, block.span.first_page, block.kv_head, key + r);
    const uint8_t* const from = cache + row * (kDim / 32 * 34);
    uint4 quants[8];
    uint2 scales = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i)
      quants[i] = valid ? reinterpret_cast<const uint4*>(from)[8 * half + i] : uint4{0, 0, 0, 0};
    if (valid) scales = reinterpret_cast<const uint2*>(from + kDim)[half];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t pair = i < 4 ? scales.x : scales.y;
      const __half2 scale = __half2half2(__ushort_as_half(uint16_t(i / 2 % 2 == 0 ? pair : pair >> 16)));
      const uint32_t words[4] = {quants[i].x, quants[i].y, quants[i].z, quants[i].w};
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const uint32_t a = words[2 * j] ^ 0x80808080u, b = words[2 * j + 1] ^ 0x80808080u;
        store_shared(to + swizzled_offset<kKeys>(r, 16 * half + 2 * i + j),
                     {scaled_halves(a, 0x4140, scale), scaled_halves(a, 0x4342, scale),
                      scaled_halves(b, 0x4140, scale), scaled_halves(b, 0x4342, scale)});
      }
    }
  }
}

// The producing warpgroup: keys 0, keys 1, values 0, keys 2, values 1, ... values n - 1.
template <ops::KvType kType>
DW_DEVICE void produce(const AttentionArgs& args, const Block& block, const Layout& at) {
  for (int unit = 0; unit < 2 * block.tiles; ++unit) {
    const bool is_value = unit == 2 * block.tiles - 1 || (unit > 1 && unit % 2 == 0);
    const int tile = is_value ? (unit == 2 * block.tiles - 1 ? block.tiles - 1 : unit / 2 - 1)
                              : (unit == 0 ? 0 : (unit + 1) / 2);
    const int stage = at.stage(is_value, tile);
    barrier_wait(at.empty(stage), at.parity(is_value, tile) ^ 1);
    load_tile<kType>(args, block, is_value ? args.v_cache : args.k_cache, tile * kKeys, at.address(stage));
    if constexpr (kType == ops::KvType::kF16) {
      barrier_arrive_after_copies(at.full(stage));
    } else {
      publish_shared();
      barrier_arrive(at.full(stage));
    }
  }
  copy_wait_all();
}

// Queries of a warpgroup: normed, rotated, scaled, rounded to f16. Each warp takes its 16 rows; a lane has
// eight neighbouring dims.
DW_DEVICE void load_queries(const AttentionArgs& args, const RopeTable& rope, const Block& block, int first,
                            uint32_t to) {
  constexpr int kAhead = 4;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  const int half = args.rope_dims / 2;
  const int partner = 8 * lane < half ? lane + half / 8 : lane - half / 8;
  const bool rotated = 8 * lane < args.rope_dims, low = 8 * lane < half;
  const float4 w0 = reinterpret_cast<const float4*>(args.q_norm)[2 * lane];
  const float4 w1 = reinterpret_cast<const float4*>(args.q_norm)[2 * lane + 1];
  const float weights[8] = {w0.x, w0.y, w0.z, w0.w, w1.x, w1.y, w1.z, w1.w};
  float2 turns[8];
  int turned = -1;
#pragma unroll 1
  for (int base = 16 * warp; base < 16 * warp + 16; base += kAhead) {
    float4 raw[kAhead][2];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int token = (first + base + i) / args.group;
      const int head = block.kv_head * args.group + (first + base + i) % args.group;
      const float4* from = reinterpret_cast<const float4*>(
          args.q_gate + (int64_t(block.span.first_row + token) * args.heads + head) * 2 * kDim);
      const bool valid = token < block.span.row_count;
      raw[i][0] = valid ? from[2 * lane] : float4{0, 0, 0, 0};
      raw[i][1] = valid ? from[2 * lane + 1] : float4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int token = (first + base + i) / args.group;
      if (token != turned) {
        turned = token;
#pragma unroll
        for (int j = 0; j < 8; ++j)
          turns[j] = rotated ? rope_cos_sin(rope.turns[(low ? 8 * lane : 8 * lane - half) + j],
                                            block.span.position + token)
                             : float2{1, 0};
      }
      float x[8] = {raw[i][0].x, raw[i][0].y, raw[i][0].z, raw[i][0].w,
                    raw[i][1].x, raw[i][1].y, raw[i][1].z, raw[i][1].w};
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) sum = fmaf(x[j], x[j], sum);
      const float factor = args.scale / sqrtf(lanes_sum(sum) / float(kDim) + args.eps);
#pragma unroll
      for (int j = 0; j < 8; ++j) x[j] *= factor * weights[j];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float other = lane_read(x[j], partner & 31);
        if (rotated) x[j] = x[j] * turns[j].x + (low ? -other : other) * turns[j].y;
      }
      store_shared(to + swizzled_offset<64>(base + i, lane),
                   {pack_halves(x[0], x[1]), pack_halves(x[2], x[3]), pack_halves(x[4], x[5]),
                    pack_halves(x[6], x[7])});
    }
  }
}

// The running state of a warpgroup; a lane has rows g, g + 8 of its warp's 16.
struct Running {
  float largest[2];
  float sum[2];  // of this lane's keys
};

// Scores -> weights of a tile; returns what older sums shrink by.
DW_DEVICE void soften(float (&scores)[32], bool masked, int key, const int (&position)[2], Running& state,
                      float (&shrink)[2]) {
  const int t = threadIdx.x % 4;
  if (masked) {
#pragma unroll
    for (int i = 0; i < 32; ++i)
      if (key + i / 4 * 8 + 2 * t + i % 2 > position[i / 2 % 2]) scores[i] = -INFINITY;
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float now = fmaxf(scores[2 * r], scores[2 * r + 1]);
#pragma unroll
    for (int i = 4; i < 32; i += 4) now = fmaxf(now, fmaxf(scores[i + 2 * r], scores[i + 2 * r + 1]));
    now = fmaxf(now, lane_xor(now, 1));
    now = fmaxf(now, lane_xor(now, 2));
    now = fmaxf(now, state.largest[r]);  // finite: every row sees the first key
    shrink[r] = fast_exp2(state.largest[r] - now);
    state.largest[r] = now;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 32; i += 4) {
      scores[i + 2 * r] = fast_exp2(scores[i + 2 * r] - now);
      scores[i + 2 * r + 1] = fast_exp2(scores[i + 2 * r + 1] - now);
      sum += scores[i + 2 * r] + scores[i + 2 * r + 1];
    }
    state.sum[r] = fmaf(state.sum[r], shrink[r], sum);
  }
}

DW_DEVICE void start_scores(float (&scores)[32], uint32_t queries, uint32_t keys) {
  group_fence();
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    const uint32_t offset = k / 4 * 8192 + k % 4 * 32;
    group_mma_64x64(scores, operand_descriptor(queries + offset, 16, 1024),
                    operand_descriptor(keys + offset, 16, 1024), k > 0);
  }
  group_commit();
}

DW_DEVICE void start_sums(float (&out)[128], const uint32_t (&weights)[16], uint32_t values) {
  group_fence();
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k)
    group_mma_64x256(out, weights[4 * k], weights[4 * k + 1], weights[4 * k + 2], weights[4 * k + 3],
                     operand_descriptor(values + k * 2048, 8192, 1024));
  group_commit();
}

DW_DEVICE void pack_weights(const float (&scores)[32], uint32_t (&weights)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) weights[i] = pack_halves(scores[2 * i], scores[2 * i + 1]);
}

DW_DEVICE void group_barrier(int group) {
  asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory");
}

// out / sums, gated, to the op's output. Eight rows of a warp at a time go through its part of the queries'
// memory, so that 32 lanes hold 32 neighbouring columns.
DW_DEVICE void finish_rows(const AttentionArgs& args, const Block& block, int first, const float (&out)[128],
                           const float (&sums)[2], float* exchange) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, warp = threadIdx.x / 32 % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 32; ++i)
      *reinterpret_cast<float2*>(exchange + g * kDim + ((8 * i + 2 * t) ^ (g * 8))) = {
          out[4 * i + 2 * r], out[4 * i + 2 * r + 1]};
    __syncwarp();
    constexpr int kAhead = 4;  // rows whose gates are on their way together
#pragma unroll 1
    for (int base = 0; base < 8; base += kAhead) {
      float gates[kAhead][8];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int packed = first + 16 * warp + 8 * r + base + i, token = packed / args.group;
        const int head = block.kv_head * args.group + packed % args.group;
        if (token < block.span.row_count)
          load_gates(args, block.span.first_row + token, head, lane, gates[i]);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int packed = first + 16 * warp + 8 * r + base + i, token = packed / args.group;
        const int head = block.kv_head * args.group + packed % args.group;
        const float sum = lane_read(sums[r], 4 * (base + i));
        if (token >= block.span.row_count) continue;
        const float4* from =
            reinterpret_cast<const float4*>(exchange + (base + i) * kDim + ((8 * lane) ^ ((base + i) * 8)));
        const float4 a = from[0], b = from[1];
        const float x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
        finish_attention_row(args, block.span.first_row + token, head, lane, x, gates[i], sum);
      }
    }
  }
}

DW_DEVICE void consume(const AttentionArgs& args, const RopeTable& rope, const Block& block, const Layout& at,
                       uint8_t* queries_pointer) {
  const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int first = block.first + 64 * group;
  const uint32_t queries = at.queries + group * kTileBytes;
  load_queries(args, rope, block, first, queries);
  publish_shared();
  group_barrier(group);

  Running state = {{-INFINITY, -INFINITY}, {0, 0}};
  float out[128], scores[32], shrink[2];
  uint32_t weights[16];
#pragma unroll
  for (int i = 0; i < 128; ++i) out[i] = 0;
  const int row = first + 16 * warp + lane / 4;
  const int position[2] = {block.span.position + row / args.group,
                           block.span.position + (row + 8) / args.group};
  const int least = block.span.position + block.first / args.group;

  at.await(false, 0);
  start_scores(scores, queries, at.address(at.stage(false, 0)));
  group_wait<0>();
  hold(scores);
  at.release(false, 0);
  soften(scores, kKeys - 1 > least, 0, position, state, shrink);
  pack_weights(scores, weights);
#pragma unroll 1
  for (int tile = 1; tile < block.tiles; ++tile) {
    at.await(false, tile);
    hold(scores);
    start_scores(scores, queries, at.address(at.stage(false, tile)));
    at.await(true, tile - 1);
    hold(out);
    hold(weights);
    start_sums(out, weights, at.address(at.stage(true, tile - 1)));
    group_wait<1>();
    hold(scores);
    at.release(false, tile);
    soften(scores, tile * kKeys + kKeys - 1 > least, tile * kKeys, position, state, shrink);
    group_wait<0>();
    hold(out);
    hold(weights);
    at.release(true, tile - 1);
    if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < 128; ++i) out[i] *= shrink[i / 2 % 2];
    }
    pack_weights(scores, weights);
  }
  at.await(true, block.tiles - 1);
  hold(out);
  hold(weights);
  start_sums(out, weights, at.address(at.stage(true, block.tiles - 1)));
  group_wait<0>();
  hold(out);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    state.sum[r] += lane_xor(state.sum[r], 1);
    state.sum[r] += lane_xor(state.sum[r], 2);
  }
  group_barrier(group);  // no product reads the queries any more
  finish_rows(args, block, first, out, state.sum,
              reinterpret_cast<float*>(queries_pointer + group * kTileBytes) + warp * 8 * kDim);
}

// Grid: tiles of packed rows x KV heads.
template <ops::KvType kType>
__global__ void __launch_bounds__(kThreads, 1)
    attention_prefill_kernel(AttentionArgs args, const __grid_constant__ RopeTable rope) {
  extern __shared__ __align__(1024) uint8_t shared[];
  wait_for_previous();
  allow_next();
  Block block;
  block.kv_head = int(blockIdx.x) % args.kv_heads;
  const AttentionTile tile = find_attention_tile(args, int(blockIdx.x) / args.kv_heads, kRows, false, true);
  if (tile.span < 0) return;
  block.span = args.spans[tile.span];
  block.first = tile.first;
  block.context = block.span.position + block.span.row_count;
  const int last = (tile.first + kRows - 1) / args.group;
  const int seen = block.span.position + (last < block.span.row_count ? last + 1 : block.span.row_count);
  block.tiles = (seen + kKeys - 1) / kKeys;

  const uint32_t raw = shared_address(shared), aligned = (raw + 1023) & ~1023u;
  Layout at;
  at.queries = aligned;
  at.tiles = aligned + 2 * kTileBytes;
  at.barriers = at.tiles + kStages * kTileBytes;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(at.full(stage), 128);
      barrier_init(at.empty(stage), 8);  // warps
    }
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<Budget<kType>::kProducer>();
    produce<kType>(args, block, at);
  } else {
    take_registers<Budget<kType>::kConsumer>();
    consume(args, rope, block, at, shared + (aligned - raw));
  }
}

template <ops::KvType kType>
void launch_prefill(Context& context, const AttentionPlan& plan) {
  const AttentionArgs& args = plan.args;
  const auto kernel = attention_prefill_kernel<kType>;
  static const bool allowed = (allow_shared_bytes(kernel, kSharedBytes), true);
  (void)allowed;
  const uint32_t tiles = ceil_div(int64_t(args.tokens) * args.group, kRows) + uint32_t(args.span_count) - 1;
  launch(context, "attention_prefill_kernel", plan.work, kernel, dim3(tiles * uint32_t(args.kv_heads)),
         dim3(kThreads), kSharedBytes, args, plan.rope);
}

}  // namespace

// Head dim 256; pairs of rotated dims whole lanes apart.
bool attention_prefill_fits(const AttentionPlan& plan) {
  return plan.args.dim == kDim && plan.args.rope_dims % 16 == 0 && plan.kv_type != ops::KvType::kF32;
}

void attention_prefill(Context& context, const AttentionPlan& plan) {
  if (plan.kv_type == ops::KvType::kF16) return launch_prefill<ops::KvType::kF16>(context, plan);
  launch_prefill<ops::KvType::kQ8_0>(context, plan);
}

}  // namespace dw::gpu::sm90
