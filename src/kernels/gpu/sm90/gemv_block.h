// The kernel of gemv() on Hopper for quantised matrices of whole blocks of 256 columns: about one block a
// multiprocessor, whose rows all lie in shared memory, or on their way there, before the kernel in front has
// ended. A lane has blocks of 256 columns to itself, so that their headers are decoded once; lanes start at
// different chunks, so that they read from different banks.
#pragma once

#include "kernels/gpu/gemv_kernel.h"
#include "kernels/gpu/sm90/bulk_copy.h"
#include "kernels/gpu/sm90/gemv_lanes.h"

namespace dw::gpu {

// Sets of rows of a block on their way through shared memory: set i goes through slot i % slots, and the wave
// that has read it fills the slot again, for itself: a wave that waited for another's refill could take the
// phase before for it.
struct SetRing {
  uint8_t* slots;
  uint64_t* barriers;  // [slot_count]
  int slot_count;
  const uint8_t* rows;
  uint32_t set_bytes, total_bytes;  // of a set; of the block's rows
  int sets;

  // By the first wave; others may wait after the block's next barrier.
  __device__ __forceinline__ void open(int lane) const {
    for (int i = lane; i < slot_count; i += kWave) init_barrier(barriers + i);
    publish_barriers();
    __syncwarp();
    for (int i = lane; i < slot_count; i += kWave) fill(i);
  }
  __device__ __forceinline__ void fill(int set) const {
    if (set >= sets) return;
    const uint32_t at = uint32_t(set) * set_bytes, bytes = min(set_bytes, total_bytes - at);
    const int slot = set % slot_count;
    expect_bytes(barriers + slot, bytes);
    copy_bulk(slots + uint32_t(slot) * set_bytes, rows + at, bytes, barriers + slot);
  }
  __device__ __forceinline__ const uint8_t* wait(int set) const {
    wait_barrier(barriers + set % slot_count, uint32_t(set / slot_count % 2));
    return slots + uint32_t(set % slot_count) * set_bytes;
  }
};

template <int kTokens>
__global__ void __launch_bounds__(kBlockThreads, kTokens <= 2 ? 2 : 1)
    gemv_block_kernel(const DW_GRID_CONSTANT GemvArguments a, GemvRing shape) {
  constexpr int kWaves = kBlockThreads / kWave;
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ uint64_t barriers[kMaxRingSets];
  const int block = int(blockIdx.x), lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  int index = 0;
  while (index + 1 < a.count && block >= a.outputs[index + 1].first_block) ++index;
  const GemvOutput& o = a.outputs[index];
  const int first_row = (block - o.first_block) * o.rows_per_block;
  const int row_count = min(o.rows_per_block, o.rows - first_row);
  const int blocks = int(a.x.columns) / 256, lanes = kWave / o.slots, slot = lane / lanes;
  const SetRing ring = {shared + shape.staged_bytes,
                        barriers,
                        shape.slots,
                        o.weight + uint64_t(first_row) * o.row_bytes,
                        uint32_t(o.slots) * o.row_bytes,
                        uint32_t(row_count) * o.row_bytes,
                        (row_count + o.slots - 1) / o.slots};
  if (wave == 0) ring.open(lane);

  const LaneRows staged = LaneRows::at(shared, kTokens, blocks * 8, is_fine_type(o.type));
  const int tokens = int(a.x.tokens);
  float added[kTokens];
  const auto load_added = [&](int set) {
    const int row = min(set * o.slots + slot, row_count - 1);
#pragma unroll
    for (int t = 0; t < kTokens; ++t)
      added[t] = o.add && t < tokens ? o.out[t * o.out_stride + first_row + row] : 0.0f;
  };
  stage_lanes<kBlockThreads, kTokens>(a, staged, [&] { load_added(wave); });

  visit_lane_type(o.type, [&](auto type) {
    using Lane = LaneBlock<type.value>;
    for (int set = wave; set < ring.sets; set += kWaves) {
      if (set != wave) load_added(set);
      const uint8_t* rows = ring.wait(set);
      const int row_in_set = min(slot, row_count - 1 - set * o.slots);
      const uint8_t* row = rows + uint32_t(row_in_set) * o.row_bytes;
      float sums[kTokens] = {};
      for (int b = lane % lanes; b < blocks; b += lanes)
        Lane::template multiply<kTokens>(row, int(a.x.columns), b, staged, a.tables, sums);
      __syncwarp();
      if (lane == 0) ring.fill(set + ring.slot_count);
      for (int mask = 1; mask < lanes; mask *= 2) {
#pragma unroll
        for (int t = 0; t < kTokens; ++t) sums[t] += lane_xor(sums[t], mask);
      }
      const int place = set * o.slots + slot;
      if (lane % lanes == 0 && place < row_count) {
#pragma unroll
        for (int t = 0; t < kTokens; ++t)
          if (t < tokens) o.out[t * o.out_stride + first_row + place] = sums[t] + added[t];
      }
    }
  });
}

template <int kTokens>
void launch_gemv_block(Context& context, const Work& work, const GemvArguments& a, GemvRing ring,
                       size_t shared) {
  allow_shared_bytes(gemv_block_kernel<kTokens>, shared);
  launch(context, "gemv_block_kernel", work, gemv_block_kernel<kTokens>, dim3(uint32_t(a.blocks)),
         dim3(kBlockThreads), shared, a, ring);
}

}  // namespace dw::gpu
