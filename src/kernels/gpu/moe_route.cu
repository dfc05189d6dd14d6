// Routing: top-k of the router's values, and the order of pairs (token, choice) by expert.
#include "kernels/gpu/moe_route.h"

#include "base/check.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_choose.h"

namespace dw::gpu {
namespace {

constexpr int kChooseThreads = 256;

// A wave a token.
template <int kPerLane>
__global__ void __launch_bounds__(kChooseThreads)
    choose_experts_kernel(const float* logits, int64_t stride, int tokens, int expert_count, int top_k,
                          bool normalise, RouteTarget target, uint16_t* keys, int32_t* counts) {
  wait_for_previous();
  allow_next();
  const int token = int(blockIdx.x) * (kChooseThreads / kWave) + int(threadIdx.x) / kWave;
  if (token >= tokens) return;
  const float* row = logits + int64_t(token) * stride;
  const Chosen mine = choose_top<kPerLane>(expert_count, top_k, normalise, [&](int e) { return row[e]; });
  const int lane = int(threadIdx.x) % kWave;
  if (lane >= top_k) return;
  const int64_t pair = int64_t(token) * top_k + lane;
  target.experts[pair] = mine.expert;
  target.weights[pair] = mine.weight;
  keys[pair] = uint16_t(mine.expert);
  atomicAdd(counts + mine.expert, 1);
}

constexpr int kSortThreads = 256;
constexpr int kSortWaves = kSortThreads / kWave;
constexpr int kKeysPerLoad = 8;

// Sum over the block of two numbers a thread.
DW_DEVICE int2 block_sums(int a, int b, int (&room)[2][kSortWaves]) {
  a = lanes_sum_int<kWave>(a), b = lanes_sum_int<kWave>(b);
  if (threadIdx.x % kWave == 0) room[0][threadIdx.x / kWave] = a, room[1][threadIdx.x / kWave] = b;
  __syncthreads();
  a = b = 0;
  for (int i = 0; i < kSortWaves; ++i) a += room[0][i], b += room[1][i];
  return make_int2(a, b);
}

// The bits of the 8 keys from `at` on that equal `expert`.
DW_DEVICE uint32_t matches(const uint16_t* keys, int64_t at, int64_t pairs, int expert) {
  if (at >= pairs) return 0;
  const uint4 load = *reinterpret_cast<const uint4*>(keys + at);
  const uint32_t words[4] = {load.x, load.y, load.z, load.w};
  uint32_t found = 0;
#pragma unroll
  for (int i = 0; i < kKeysPerLoad; ++i) {
    const uint32_t key = i % 2 == 0 ? words[i / 2] & 0xffffu : words[i / 2] >> 16;
    found |= uint32_t(key == uint32_t(expert) && at + i < pairs) << i;
  }
  return found;
}

// A block an expert: finds its pairs in order. Each wave has a stretch of the keys: counts first, then
// writes.
__global__ void __launch_bounds__(kSortThreads)
    sort_pairs_kernel(int64_t pairs, int expert_count, int tile_tokens, const uint16_t* keys,
                      const int32_t* counts, SortedPairs target) {
  __shared__ int room[2][kSortWaves];
  __shared__ int wave_count[kSortWaves];
  wait_for_previous();
  allow_next();
  const int expert = int(blockIdx.x), thread = int(threadIdx.x);
  const int wave = thread / kWave, lane = thread % kWave;
  int before = 0, tiles_before = 0;
  for (int e = thread; e < expert; e += kSortThreads) {
    const int n = counts[e];
    before += n, tiles_before += (n + tile_tokens - 1) / tile_tokens;
  }
  const int2 sums = block_sums(before, tiles_before, room);
  before = sums.x, tiles_before = sums.y;
  const int mine = counts[expert], tiles = (mine + tile_tokens - 1) / tile_tokens;
  if (expert == expert_count - 1 && thread == 0) *target.tile_count = tiles_before + tiles;
  for (int i = thread; i < tiles; i += kSortThreads)
    target.tiles[tiles_before + i] = {expert, before + i * tile_tokens,
                                      min(tile_tokens, mine - i * tile_tokens)};
  if (mine == 0) return;

  constexpr int kStep = kWave * kKeysPerLoad;
  const int64_t stretch = (pairs + kSortWaves * kStep - 1) / (kSortWaves * kStep) * kStep;
  const int64_t begin = wave * stretch, end = begin + stretch < pairs ? begin + stretch : pairs;
  int found = 0;
  for (int64_t at = begin + lane * kKeysPerLoad; at < end; at += kStep)
    found += __popc(matches(keys, at, pairs, expert));
  found = lanes_sum_int<kWave>(found);
  if (lane == 0) wave_count[wave] = found;
  __syncthreads();
  int slot = before;
  for (int i = 0; i < wave; ++i) slot += wave_count[i];
  for (int64_t base = begin; base < end && found > 0; base += kStep) {  // whole waves
    const int64_t at = base + lane * kKeysPerLoad;
    const uint32_t bits = matches(keys, at, pairs, expert);
    const int own = __popc(bits);
    int up_to = own;  // inclusive prefix over lanes
    for (int d = 1; d < kWave; d *= 2) {
      const int other = lane_read(up_to, lane >= d ? lane - d : lane);
      up_to += lane >= d ? other : 0;
    }
    int to = slot + up_to - own;
    for (int i = 0; i < kKeysPerLoad; ++i) {
      if (bits >> i & 1) target.slot_pair[to++] = int32_t(at + i);
    }
    const int all = lane_read(up_to, kWave - 1);
    slot += all, found -= all;
  }
}

// A wave a token.
__global__ void __launch_bounds__(kChooseThreads)
    weigh_shared_kernel(const float* x, const float* router, int tokens, int columns, float* shared_weight) {
  wait_for_previous();
  allow_next();
  const int token = int(blockIdx.x) * (kChooseThreads / kWave) + int(threadIdx.x) / kWave;
  if (token >= tokens) return;
  float sum = 0;
  for (int i = int(threadIdx.x) % kWave; i < columns; i += kWave)
    sum += x[int64_t(token) * columns + i] * router[i];
  sum = lanes_sum(sum);
  if (threadIdx.x % kWave == 0) shared_weight[token] = sigmoid(sum);
}

__global__ void clear_counts_kernel(int32_t* counts, int count) {
  wait_for_previous();
  allow_next();
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) counts[i] = 0;
}

}  // namespace

void choose_experts(Context& context, const ops::Moe& op, const float* logits, int64_t stride,
                    const RouteTarget& target, uint16_t* keys, int32_t* counts) {
  DW_CHECK(op.expert_count <= kMaxRouterExperts && op.top_k <= kMaxTopK,
           "more experts than the router kernels hold");
  const double tokens = double(op.x.tokens);
  const Work work = {"route", tokens * (op.expert_count * 4.0 + op.top_k * 10.0), tokens * op.expert_count};
  const dim3 grid(ceil_div(op.x.tokens, kChooseThreads / kWave));
  const auto run = [&](auto kernel) {
    launch(context, "choose_experts_kernel", work, kernel, grid, dim3(kChooseThreads), 0, logits, stride,
           int(op.x.tokens), op.expert_count, op.top_k, op.normalise, target, keys, counts);
  };
  if (op.expert_count <= 4 * kWave)
    run(choose_experts_kernel<4>);
  else if (op.expert_count <= 16 * kWave)
    run(choose_experts_kernel<16>);
  else
    run(choose_experts_kernel<kMaxRouterExperts / kWave>);
}

void weigh_shared(Context& context, const ops::Moe& op, float* shared_weight) {
  const double count = double(op.x.tokens) * double(op.x.columns);
  launch(context, "weigh_shared_kernel", {"route", count * 4, count * 2}, weigh_shared_kernel,
         dim3(ceil_div(op.x.tokens, kChooseThreads / kWave)), dim3(kChooseThreads), 0, op.x.values,
         op.shared_router, int(op.x.tokens), int(op.x.columns), shared_weight);
}

void clear_counts(Context& context, int32_t* counts, int32_t count) {
  launch(context, "clear_counts_kernel", {"route", count * 4.0, 0}, clear_counts_kernel, dim3(1), dim3(256),
         0, counts, count);
}

void sort_pairs(Context& context, int64_t pairs, int32_t expert_count, int tile_tokens, const uint16_t* keys,
                const int32_t* counts, const SortedPairs& target) {
  launch(context, "sort_pairs_kernel", {"route", double(pairs) * 6, double(pairs)}, sort_pairs_kernel,
         dim3(uint32_t(expert_count)), dim3(kSortThreads), 0, pairs, expert_count, tile_tokens, keys, counts,
         target);
}

}  // namespace dw::gpu
