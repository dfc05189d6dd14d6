// The top-k of one token's router values by one wave; see ops::Moe.
#pragma once

#include "kernels/gpu/compat.h"

namespace dw::gpu {

// Unsigned order = order of the floats; 0 is below all of them but a NaN.
DW_DEVICE uint32_t ordered_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DW_DEVICE float from_ordered_bits(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

DW_DEVICE uint32_t wave_max(uint32_t v) {
#if defined(DW_GPU_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_max_sync(~0u, v);
#else
  for (int mask = 1; mask < kWave; mask *= 2) {
    const uint32_t other = uint32_t(lane_xor(int(v), mask));
    v = v > other ? v : other;
  }
  return v;
#endif
}

struct Chosen {
  int expert;    // lane i < top_k: the i-th choice
  float weight;  // 0 elsewhere
};

// The largest of kCount numbers from kFirst on, a tree of comparisons.
template <int kFirst, int kCount, int kAll>
DW_DEVICE uint32_t largest_of(const uint32_t (&numbers)[kAll]) {
  if constexpr (kCount == 1)
    return numbers[kFirst];
  else
    return max(largest_of<kFirst, kCount / 2>(numbers),
               largest_of<kFirst + kCount / 2, kCount - kCount / 2>(numbers));
}

// load(e): router value of expert e < count; count <= kWave * kPerLane.
template <int kPerLane, class Load>
DW_DEVICE Chosen choose_top(int count, int top_k, bool normalise, const Load& load) {
  const int lane = int(threadIdx.x) % kWave;
  uint32_t keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = i * kWave + lane;
    keys[i] = e < count ? ordered_bits(load(e)) : 0;
  }
  uint32_t best = 0;
  int best_at = 0;
  const auto find_best = [&] {
    best = largest_of<0, kPerLane>(keys);
#pragma unroll
    for (int i = kPerLane - 1; i >= 0; --i) best_at = keys[i] == best ? i : best_at;  // the first of equals
  };
  find_best();
  const float largest = from_ordered_bits(wave_max(best));
  float total = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i)
    total += keys[i] != 0 ? expf(from_ordered_bits(keys[i]) - largest) : 0.0f;  // 0: beyond the experts
  total = lanes_sum(total);

  Chosen mine = {0, 0};
  for (int choice = 0; choice < top_k; ++choice) {
    const uint32_t top = wave_max(best);
    // Of equals the lowest index: the largest of its complement.
    const uint32_t candidate = best == top ? ~uint32_t(best_at * kWave + lane) : 0;
    const int expert = int(~wave_max(candidate));
    if (lane == choice) mine = {min(expert, count - 1), expf(from_ordered_bits(top) - largest) / total};
    if (expert % kWave == lane) {
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) keys[i] = i == best_at ? 0 : keys[i];
      find_best();
    }
  }
  if (normalise) mine.weight /= fmaxf(lanes_sum(mine.weight), 6.1e-5f);
  return mine;
}

#if defined(DW_GPU_CUDA)

// choose_top() with the same bits in few registers, slow: every choice looks at all values again.
template <bool kWeigh, class Load>
DW_DEVICE Chosen choose_top_slow(int count, int top_k, bool normalise, const Load& load) {
  const int lane = int(threadIdx.x) % kWave;
  float largest = 0, total = 1;
  uint32_t last = ~0u;
  int last_at = -1;
  Chosen mine = {0, 0};
#pragma unroll 1
  for (int choice = 0; choice < top_k; ++choice) {
    uint32_t best = 0;
    int best_at = 0;
#pragma unroll 1
    for (int e = lane; e < count; e += kWave) {
      const uint32_t key = ordered_bits(load(e));
      const bool left = key < last || (key == last && e > last_at);
      if (left && key > best) best = key, best_at = e;
    }
    last = wave_max(best);
    last_at = min(int(~wave_max(best == last ? ~uint32_t(best_at) : 0)), count - 1);
    if (kWeigh && choice == 0) {
      largest = from_ordered_bits(last), total = 0;
#pragma unroll 1
      for (int e = lane; e < count; e += kWave) total += expf(load(e) - largest);
      total = lanes_sum(total);
    }
    if (lane == choice) mine.expert = last_at, mine.weight = __uint_as_float(last);
  }
  if constexpr (kWeigh) {
    mine.weight = lane < top_k ? expf(from_ordered_bits(__float_as_uint(mine.weight)) - largest) / total : 0;
    if (normalise) mine.weight /= fmaxf(lanes_sum(mine.weight), 6.1e-5f);
  }
  return mine;
}

// As choose_top with the same bits, quicker where few values compete: of those that are not below the
// top_k-th largest lane's best, each finds its rank on its own. room: of the wave, in shared memory.
// kWeigh: whether weights are wanted. top_k <= kWave.
struct ChooseRoom {
  uint2 found[kWave];
  uint2 chosen[kWave];
};
DW_DEVICE int rank_in_wave(uint32_t key, int lane) {  // of equals the lower lane first
  int rank = 0;
#pragma unroll
  for (int other = 0; other < kWave; ++other) {
    const uint32_t theirs = uint32_t(lane_read(int(key), other));
    rank += int(theirs > key || (theirs == key && other < lane));
  }
  return rank;
}
template <int kPerLane, bool kWeigh, class Load>
DW_DEVICE Chosen choose_top_fast(int count, int top_k, bool normalise, ChooseRoom& room, const Load& load) {
  const int lane = int(threadIdx.x) % kWave;
  uint32_t keys[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = i * kWave + lane;
    keys[i] = e < count ? ordered_bits(load(e)) : 0;
  }
  uint32_t best = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) best = max(best, keys[i]);
  const uint32_t last = __ballot_sync(~0u, rank_in_wave(best, lane) == top_k - 1);
  const uint32_t bound = uint32_t(lane_read(int(best), __ffs(int(last)) - 1));
  int found = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const bool hit = keys[i] >= bound && keys[i] != 0;
    const uint32_t hits = __ballot_sync(~0u, hit);
    const int at = found + __popc(hits & ((1u << lane) - 1));
    if (hit && at < kWave) room.found[at] = make_uint2(keys[i], uint32_t(i * kWave + lane));
    found += __popc(hits);
  }
  if (found > kWave || found < top_k) return choose_top_slow<kWeigh>(count, top_k, normalise, load);
  float largest = 0, total = 1;
  if constexpr (kWeigh) {
    largest = from_ordered_bits(wave_max(best));
    total = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      total += keys[i] != 0 ? expf(from_ordered_bits(keys[i]) - largest) : 0.0f;
    total = lanes_sum(total);
  }
  __syncwarp();
  const uint2 candidate = lane < found ? room.found[lane] : make_uint2(0, 0);
  const int rank = rank_in_wave(candidate.x, lane);  // candidates are in the order of experts
  if (lane < found && rank < top_k) room.chosen[rank] = candidate;
  __syncwarp();
  Chosen mine = {0, 0};
  if (lane < top_k) {
    const uint2 chosen = room.chosen[lane];
    mine.expert = int(chosen.y);
    if constexpr (kWeigh) mine.weight = expf(from_ordered_bits(chosen.x) - largest) / total;
  }
  if constexpr (kWeigh)
    if (normalise) mine.weight /= fmaxf(lanes_sum(mine.weight), 6.1e-5f);
  return mine;
}

#endif

}  // namespace dw::gpu
