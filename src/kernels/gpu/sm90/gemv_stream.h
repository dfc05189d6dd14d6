// The kernel of gemv() on Hopper: each wave copies its rows into a ring in shared memory with bulk copies, so
// that as many bytes are on their way as the ring holds, whatever registers there are; the first before the
// kernel in front has ended.
#pragma once

#include "kernels/gpu/gemv_kernel.h"
#include "kernels/gpu/sm90/bulk_copy.h"

namespace dw::gpu {

inline constexpr int kStreamWaves = kGemvThreads / kWave;
inline constexpr int kMaxRingSlots = 4;  // of a wave, each for one set of rows

// A wave's ring. Lane 0 fills, all lanes read.
struct RowRing {
  uint8_t* slots;
  uint64_t* barriers;  // [slot_count]
  int slot_count;
  const uint8_t* rows;
  uint32_t set_bytes, total_bytes;  // of a set of rows; of the block's rows
  int sets, wave;                   // sets of the block

  __device__ void open(int lane) const {
    if (lane == 0) {
      for (int i = 0; i < slot_count; ++i) init_barrier(barriers + i);
      publish_barriers();
      for (int i = 0; i < slot_count; ++i) fill(i);
    }
    __syncwarp();
  }
  // The wave's set number `i`.
  __device__ __forceinline__ void fill(int i) const {
    const int set = wave + i * kStreamWaves;
    if (set >= sets) return;
    const uint32_t at = uint32_t(set) * set_bytes, bytes = min(set_bytes, total_bytes - at);
    uint64_t* barrier = barriers + i % slot_count;
    expect_bytes(barrier, bytes);
    copy_bulk(slots + uint32_t(i % slot_count) * set_bytes, rows + at, bytes, barrier);
  }
  __device__ __forceinline__ const uint8_t* wait(int i) const {
    wait_barrier(barriers + i % slot_count, uint32_t(i / slot_count % 2));
    return slots + uint32_t(i % slot_count) * set_bytes;
  }
};

template <int kTokens, int kRows>
__global__ void __launch_bounds__(kGemvThreads, gemv_blocks(kTokens))
    gemv_stream_kernel(const DW_GRID_CONSTANT GemvArguments a, GemvRing shape) {
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ float norm_scales[kGemvTokens];
  __shared__ uint64_t barriers[kStreamWaves][kMaxRingSlots];
  const int block = int(blockIdx.x), lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  int index = 0;
  while (index + 1 < a.count && block >= a.outputs[index + 1].first_block) ++index;
  const GemvOutput& o = a.outputs[index];
  const int first_row = (block - o.first_block) * o.rows_per_block;
  const int row_count = block < a.blocks ? min(o.rows_per_block, o.rows - first_row) : 0;
  const int rows_of_set = kRows * o.slots;
  RowRing ring;
  ring.rows = o.weight + uint64_t(first_row) * o.row_bytes;
  ring.set_bytes = uint32_t(rows_of_set) * o.row_bytes;
  ring.total_bytes = uint32_t(row_count) * o.row_bytes;
  ring.sets = (row_count + rows_of_set - 1) / rows_of_set;
  ring.wave = wave;
  ring.slots = shared + shape.staged_bytes + uint32_t(wave * shape.slots) * ring.set_bytes;
  ring.barriers = barriers[wave];
  ring.slot_count = shape.slots;
  ring.open(lane);
  wait_for_previous();
  allow_next();
  if (a.norm.x != nullptr) {
    row_norms(a.norm, norm_scales);
    if (block == a.blocks) {
      write_normed(a.norm, norm_scales);
      return;
    }
  }
  const StagedAny staged = stage<kTokens>(a, o.type, shared, norm_scales);
  const int tokens = int(a.x.tokens);
  visit_units(o.type, [&](auto unit_kind) {
    using Units = decltype(unit_kind);
    const RowLoop<Units, kRows, kTokens, 1> loop(ring.rows, nullptr, o.row_bytes, row_count,
                                                 int(a.x.columns));
    for (int i = 0; wave + i * kStreamWaves < ring.sets; ++i) {
      const int set = wave + i * kStreamWaves;
      const uint8_t* rows = ring.wait(i);
      const int rows_here = min(rows_of_set, row_count - set * rows_of_set);
      float sums[kRows * kTokens] = {};
#pragma unroll(kTokens* kRows <= 2 ? 2 : 1)
      for (int step = 0; step < loop.steps; ++step) {
        const int at = loop.unit_of(step), unit = min(at, loop.units - 1);
        typename Units::Unit decoded[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const int row = min(r * loop.slots + loop.slot, rows_here - 1);
          decoded[r] = Units::decode(Units::fetch(rows + uint32_t(row) * o.row_bytes, loop.columns, unit),
                                     loop.phase(), a.tables);
        }
        if (at < loop.units) multiply_units<Units, kRows, kTokens>(decoded, staged, 0, at, sums);
      }
      __syncwarp();
      if (lane == 0) ring.fill(i + shape.slots);
      loop.finish(set, sums, [&](int row, int token, float total) {
        if (token >= tokens) return;
        float* to = o.out + token * o.out_stride + first_row + row;
        *to = o.add ? *to + total : total;
      });
    }
  });
}

template <int kTokens, int kRows>
void launch_gemv_stream(Context& context, const Work& work, const GemvArguments& a, GemvRing ring,
                        size_t shared) {
  allow_shared_bytes(gemv_stream_kernel<kTokens, kRows>, shared);
  launch(context, "gemv_stream_kernel", work, gemv_stream_kernel<kTokens, kRows>,
         dim3(uint32_t(a.blocks + (a.norm.x != nullptr))), dim3(kGemvThreads), shared, a, ring);
}

}  // namespace dw::gpu
