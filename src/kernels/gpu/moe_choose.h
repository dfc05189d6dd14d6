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

}  // namespace dw::gpu
