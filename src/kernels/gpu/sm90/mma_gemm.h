// The tensor-core product of quantised matrices with many rows of activations, dense or grouped by expert.
// Weights are the register operand of wgmma: a thread decodes whole chunks of 32 weights to f16 in the
// fragment's places, nothing passes through shared memory. That fixes the order of k within 128 columns
// (packed_position()), in which pack_halves() and the epilogue of gate and up write their f16 rows.
// A block: two warpgroups, 64 weight rows each, times kN tokens; its steps run over 128 columns, and over
// consecutive row tiles without a break in the pipeline.
#pragma once

#include "kernels/gpu/sm90/mma_job.h"
#include "kernels/gpu/sm90/mma_operand.h"
#include "kernels/gpu/sm90/wgmma.h"

namespace dw::gpu {

inline constexpr int kMmaThreads = 256;
inline constexpr int kMmaStages = 4;  // two being read by wgmma, two on their way
inline constexpr int kMmaAhead = 2;

template <class Operand, int kN>
struct MmaShared {
  static constexpr uint32_t kPlaneBytes = kN * 256;  // two halves of [kN][64] f16
  static constexpr uint32_t kStageBytes = kPlaneBytes * (Operand::kSplit ? 2 : 1);
  static constexpr uint32_t kColumnBytes = kN * 24;
  static constexpr uint32_t kBytes = kMmaStages * kStageBytes + kColumnBytes + 1024;  // to align
};

// What a block knows of its kN tokens, in shared memory.
struct MmaColumns {
  uint64_t* from;  // address of the row of x; 0: none
  int32_t* row;    // of x; -1: none
  int32_t* out;    // row of the output
  float* scale;    // of the result
  uint32_t* peak;  // bits of max |hidden|
};

// The block's tile; false: nothing to do.
template <int kN>
DW_DEVICE bool find_tile(const MmaJob& job, ExpertTile& tile) {
  const int index = int(blockIdx.y);
  if (job.tiles != nullptr) {
    if (index >= *job.tile_count) return false;
    tile = job.tiles[index];
    return true;
  }
  tile.expert = 0;
  tile.first = index * kN;
  tile.count = min(kN, job.tokens - tile.first);
  return tile.count > 0;
}

// Fills the columns; true: the rows of x carry exponents that differ within a row.
template <int kN>
DW_DEVICE bool describe_columns(const MmaJob& job, const ExpertTile& tile, const MmaColumns& columns) {
  bool uneven = false;
  if (threadIdx.x < kN) {
    const int n = int(threadIdx.x);
    int row = -1, out = -1;
    float scale = 0;
    if (n < tile.count) {
      const int slot = tile.first + n;
      const int pair = job.slot_pair != nullptr ? job.slot_pair[slot] : slot;
      row = job.gather != 0 ? pair / job.gather : slot;
      out = job.output == MmaOutput::kPairs ? pair : slot;
      scale = job.inverse_weight_scale;
      if (job.x_scale != nullptr) scale *= job.x_scale[row];
      if (job.column_weight != nullptr) scale *= job.column_weight[pair];
      if (job.exponents != nullptr) {
        const uint8_t* of_row = job.exponents + int64_t(row) * (job.padded / 64);
        int largest = 0;
        for (int i = 0; i < job.padded / 64; ++i) largest = max(largest, int(of_row[i]));
        scale *= power_of_two(largest);
        uneven = largest != 0;
      }
    }
    columns.from[n] = row < 0 ? 0 : reinterpret_cast<uint64_t>(job.x + int64_t(row) * job.padded);
    columns.row[n] = row;
    columns.out[n] = out;
    columns.scale[n] = scale;
    columns.peak[n] = 0;
  }
  return __syncthreads_or(uneven) != 0;
}

// Brings a row's piece to the exponent of the whole row: 2^(its own - the largest).
DW_DEVICE uint4 rescaled_piece(const MmaJob& job, int row, int block, const uint4& piece) {
  const uint8_t* of_row = job.exponents + int64_t(row) * (job.padded / 64);
  int largest = 0;
  for (int i = 0; i < job.padded / 64; ++i) largest = max(largest, int(of_row[i]));
  const int shift = max(int(of_row[block]) - largest, -24);
  const __half2 factor = __float2half2_rn(power_of_two(shift));
  uint4 result = piece;
  __half2* halves = reinterpret_cast<__half2*>(&result);
  for (int i = 0; i < 4; ++i) halves[i] = __hmul2(halves[i], factor);
  return result;
}

// Starts the copy of columns [128 step, 128 step + 128) of the tile's rows of x into a stage.
template <class Operand, int kN>
DW_DEVICE void load_activations(const MmaJob& job, const MmaColumns& columns, uint32_t stage, int step,
                                bool uneven) {
  using Shared = MmaShared<Operand, kN>;
  const int piece = int(threadIdx.x) % 16, half = piece / 8, first = int(threadIdx.x) / 16;
  const uint32_t at = uint32_t(step * 256 + piece * 16);  // bytes within a row
  // Rows 16 apart share the swizzle, so that the copies of a thread lie 2048 bytes apart.
  const uint32_t to = stage + uint32_t(half) * (kN * 128) + swizzled_offset(first, piece % 8);
  if (uneven) {
    for (int i = 0; i < kN / 16; ++i) {
      const int row = columns.row[first + 16 * i];
      uint4 value = make_uint4(0, 0, 0, 0);
      if (row >= 0)
        value = rescaled_piece(job, row, step * 2 + half,
                               *reinterpret_cast<const uint4*>(columns.from[first + 16 * i] + at));
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to + 2048 * i), "r"(value.x),
                   "r"(value.y), "r"(value.z), "r"(value.w)
                   : "memory");
    }
    return;
  }
  const int64_t low = reinterpret_cast<const char*>(job.x_low) - reinterpret_cast<const char*>(job.x);
#pragma unroll
  for (int i = 0; i < kN / 16; ++i) {
    const uint64_t from = columns.from[first + 16 * i];
    const char* source = reinterpret_cast<const char*>(from != 0 ? from + at : uint64_t(job.x));
    async_copy_16(to + 2048 * i, source, from != 0);
    if constexpr (Operand::kSplit)
      async_copy_16(to + Shared::kPlaneBytes + 2048 * i, source + low, from != 0);
  }
}

// The two weight rows that a thread decodes in a row tile: fragment rows g and g + 8 of its warp.
struct MmaRows {
  const uint8_t* first;
  const uint8_t* second;
};
DW_DEVICE MmaRows rows_of_tile(const MmaJob& job, int expert, int row_tile) {
  const int warp = int(threadIdx.x) / 32, g = int(threadIdx.x) % 32 / 4;
  const uint64_t matrix = uint64_t(expert) * job.expert_bytes;
  if (job.output == MmaOutput::kHidden) {
    const int row = min(column_at_position(row_tile * 64 + warp * 8 + g), job.rows - 1);
    return {job.weights[0] + matrix + uint64_t(row) * job.row_bytes,
            job.weights[1] + matrix + uint64_t(row) * job.row_bytes};
  }
  const int row = row_tile * 128 + warp * 16 + 2 * g;
  return {job.weights[0] + matrix + uint64_t(min(row, job.rows - 1)) * job.row_bytes,
          job.weights[0] + matrix + uint64_t(min(row + 1, job.rows - 1)) * job.row_bytes};
}

// Brings the rows of a tile to the second-level cache, ahead of fetch().
DW_DEVICE void prefetch_rows(const MmaRows& rows, uint64_t bytes) {
  if (threadIdx.x % 4 != 0) return;
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(rows.first), "r"(uint32_t(bytes))
               : "memory");
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(rows.second), "r"(uint32_t(bytes))
               : "memory");
}

// Half a step: four products of k = 16, their fragments decoded while the former half's products run.
template <class Operand, int kN, int kHalf>
DW_DEVICE void multiply_half(const typename Operand::Ready& first, const typename Operand::Ready& second,
                             uint32_t stage, bool clear, float (&sums)[kN / 2]) {
  using Shared = MmaShared<Operand, kN>;
  uint32_t high[4][4], low[4][4];
  wgmma_wait<1>();  // the half before the last has been multiplied: its registers may be written again
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    Operand::fragment(first, kHalf * 4 + s, high[s][0], high[s][2], low[s][0], low[s][2]);
    Operand::fragment(second, kHalf * 4 + s, high[s][1], high[s][3], low[s][1], low[s][3]);
  }
  wgmma_fence();
  const uint64_t base = wgmma_descriptor(stage + kHalf * (kN * 128));
#pragma unroll
  for (int s = 0; s < 4; ++s) {
    wgmma<kN>(sums, high[s], base + uint64_t(2 * s), kHalf == 0 && s == 0 && clear ? 0 : 1);
    if constexpr (Operand::kSplit) {
      wgmma<kN>(sums, high[s], base + uint64_t(2 * s) + (Shared::kPlaneBytes >> 4), 1);
      wgmma<kN>(sums, low[s], base + uint64_t(2 * s), 1);
    }
  }
  wgmma_commit();
}

// One exponent for the values of a token that the block makes in this round: 0 unless f16 would overflow.
// The threads of the block call it together; afterwards exponent() is valid until finish().
struct RoundExponents {
  uint32_t* peak;  // of the tile's tokens, zero between rounds
  bool overflow;

  // largest: the thread's; each_value(f) calls f(token, |value|) for its values.
  template <class EachValue>
  static __device__ RoundExponents make(const MmaColumns& columns, float largest, EachValue each_value) {
    const RoundExponents result = {columns.peak, __syncthreads_or(largest > 65504.0f) != 0};
    if (!result.overflow) return result;
    each_value([&](int n, float magnitude) { atomicMax(columns.peak + n, __float_as_uint(magnitude)); });
    __syncthreads();
    return result;
  }
  __device__ int exponent(int n) const {
    return overflow ? max(0, min(int(peak[n] >> 23) - 127 - 14, 112)) : 0;
  }
  __device__ float factor(int n) const { return power_of_two(-exponent(n)); }
  template <int kN>
  __device__ void finish() const {
    if (!overflow) return;
    __syncthreads();
    if (threadIdx.x < kN) peak[threadIdx.x] = 0;
    __syncthreads();
  }
};

template <int kN>
DW_DEVICE void store_pairs(const MmaJob& job, const MmaColumns& columns, int row_tile,
                           float (&sums)[kN / 2]) {
  const int lane = int(threadIdx.x) % 32;
  const int row = row_tile * 128 + int(threadIdx.x) / 32 * 16 + 2 * (lane / 4);
  float largest = 0;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float scale = columns.scale[8 * j + 2 * (lane % 4) + i] * float(1 << kPairScaleLog2);
#pragma unroll
      for (int k = 0; k < 4; k += 2) {
        const float value = row < job.rows ? sums[4 * j + k + i] * scale : 0.0f;
        sums[4 * j + k + i] = value;
        largest = fmaxf(largest, fabsf(value));
      }
    }
  }
  const auto exponents = RoundExponents::make(columns, largest, [&](auto&& visit) {
    for (int j = 0; j < kN / 8; ++j)
      for (int i = 0; i < 4; ++i) visit(8 * j + 2 * (lane % 4) + i % 2, fabsf(sums[4 * j + i]));
  });
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int n = 8 * j + 2 * (lane % 4) + i, out = columns.out[n];
      if (out < 0 || row >= job.rows) continue;
      float a = sums[4 * j + i], b = sums[4 * j + 2 + i];
      if (exponents.overflow) a *= exponents.factor(n), b *= exponents.factor(n);
      *reinterpret_cast<__half2*>(job.pairs + int64_t(out) * job.out_stride + row) = __floats2half2_rn(a, b);
    }
  }
  if (threadIdx.x < kN && columns.out[threadIdx.x] >= 0)
    job.pair_exponents[int64_t(columns.out[threadIdx.x]) * job.row_tiles + row_tile] =
        uint8_t(exponents.exponent(int(threadIdx.x)));
  exponents.template finish<kN>();
}

template <int kN>
DW_DEVICE void store_rows(const MmaJob& job, const MmaColumns& columns, int row_tile,
                          const float (&sums)[kN / 2]) {
  const int lane = int(threadIdx.x) % 32;
  const int row = row_tile * 128 + int(threadIdx.x) / 32 * 16 + 2 * (lane / 4);
  if (row >= job.rows) return;
  const bool two = row + 1 < job.rows;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int n = 8 * j + 2 * (lane % 4) + i;
      const int out = columns.out[n];
      if (out < 0) continue;
      const float a = sums[4 * j + i] * columns.scale[n], b = sums[4 * j + 2 + i] * columns.scale[n];
      float* to = job.out + int64_t(out) * job.out_stride + row;
      if (two && job.aligned) {
        float2 value = make_float2(a, b);
        if (job.add) {
          const float2 old = *reinterpret_cast<const float2*>(to);
          value.x += old.x, value.y += old.y;
        }
        *reinterpret_cast<float2*>(to) = value;
      } else {
        to[0] = job.add ? to[0] + a : a;
        if (two) to[1] = job.add ? to[1] + b : b;
      }
    }
  }
}

// silu(gate) * up as f16 times 2^-exponent, one exponent for the 64 values of a token that the block makes:
// 0 unless f16 would overflow.
template <int kN>
DW_DEVICE void store_hidden(const MmaJob& job, const MmaColumns& columns, int row_tile,
                            float (&sums)[kN / 2]) {
  const int lane = int(threadIdx.x) % 32, c = lane % 4, odd = lane / 4 % 2;
  const int position = row_tile * 64 + int(threadIdx.x) / 32 * 8 + lane / 4;
  const bool inside = column_at_position(position) < job.rows;
  float largest = 0;
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float scale = columns.scale[8 * j + 2 * c + i];
      const float value = inside ? silu(sums[4 * j + i] * scale) * (sums[4 * j + 2 + i] * scale) : 0.0f;
      sums[4 * j + i] = value;
      largest = fmaxf(largest, fabsf(value));
    }
  }
  const auto exponents = RoundExponents::make(columns, largest, [&](auto&& visit) {
    for (int j = 0; j < kN / 8; ++j)
      for (int i = 0; i < 2; ++i) visit(8 * j + 2 * c + i, fabsf(sums[4 * j + i]));
  });
#pragma unroll
  for (int j = 0; j < kN / 8; ++j) {
    const int n = 8 * j + 2 * c;
    float even_token = sums[4 * j], odd_token = sums[4 * j + 1];
    if (exponents.overflow) even_token *= exponents.factor(n), odd_token *= exponents.factor(n + 1);
    // Neighbouring positions lie four lanes apart: each lane takes one token of both.
    const float other = lane_xor(odd ? even_token : odd_token, 4);
    const __half2 both = odd ? __floats2half2_rn(other, odd_token) : __floats2half2_rn(even_token, other);
    const int out = columns.out[n + odd];
    if (out >= 0)
      *reinterpret_cast<__half2*>(job.hidden + int64_t(out) * job.out_stride + (position & ~1)) = both;
  }
  if (threadIdx.x < kN && columns.out[threadIdx.x] >= 0)
    job.hidden_exponents[int64_t(columns.out[threadIdx.x]) * (job.out_stride / 64) + row_tile] =
        uint8_t(exponents.exponent(int(threadIdx.x)));
  exponents.template finish<kN>();
}

template <class Operand, int kN>
__global__ void __launch_bounds__(kMmaThreads, Operand::kRoomy&& kN <= 64 ? 2 : 1)
    mma_gemm_kernel(MmaJob job, IqTables tables) {
  using Shared = MmaShared<Operand, kN>;
  extern __shared__ uint8_t shared_bytes[];
  const uint32_t raw_base = uint32_t(__cvta_generic_to_shared(shared_bytes));
  const uint32_t stages = (raw_base + 1023) / 1024 * 1024;
  uint8_t* after = shared_bytes + (stages - raw_base) + kMmaStages * Shared::kStageBytes;
  int32_t* words = reinterpret_cast<int32_t*>(after + 8 * kN);
  const MmaColumns columns = {reinterpret_cast<uint64_t*>(after), words, words + kN,
                              reinterpret_cast<float*>(words + 2 * kN),
                              reinterpret_cast<uint32_t*>(words + 3 * kN)};
  wait_for_previous();
  allow_next();
  ExpertTile tile;
  if (!find_tile<kN>(job, tile)) return;
  const int first_tile = int(blockIdx.x) * job.row_tiles_per_block;
  MmaRows rows = rows_of_tile(job, tile.expert, first_tile);
  const bool from_memory = job.tiles != nullptr;  // many blocks share the rows of a dense product
  if (from_memory) prefetch_rows(rows, job.row_bytes);
  const bool uneven = describe_columns<kN>(job, tile, columns);

  const int steps = job.padded / 128, chunks = job.columns / 32;
  const int tile_count = min(job.row_tiles_per_block, job.row_tiles - first_tile);
  const int total = tile_count * steps;
  const int c = int(threadIdx.x) % 4;
  const auto chunk_of = [&](int step) { return min(step * 4 + c, chunks - 1); };

  int load_step = 0;
  for (int i = 0; i < kMmaAhead; ++i) {
    if (i < total)
      load_activations<Operand, kN>(job, columns, stages + uint32_t(i) * Shared::kStageBytes, load_step,
                                    uneven);
    async_copy_commit();
    load_step = load_step + 1 == steps ? 0 : load_step + 1;
  }
  typename Operand::Raw first = Operand::fetch(rows.first, job.columns, chunk_of(0));
  typename Operand::Raw second = Operand::fetch(rows.second, job.columns, chunk_of(0));

  float sums[kN / 2];
  int iteration = 0;
  for (int row_tile = first_tile; row_tile < first_tile + tile_count; ++row_tile) {
    if (from_memory && row_tile + 1 < first_tile + tile_count)
      prefetch_rows(rows_of_tile(job, tile.expert, row_tile + 1), job.row_bytes);
    for (int step = 0; step < steps; ++step, ++iteration) {
      async_copy_wait<kMmaAhead - 1>();
      publish_to_tensor_cores();
      __syncthreads();
      if (iteration + kMmaAhead < total)
        load_activations<Operand, kN>(
            job, columns, stages + uint32_t((iteration + kMmaAhead) % kMmaStages) * Shared::kStageBytes,
            load_step, uneven);
      async_copy_commit();
      load_step = load_step + 1 == steps ? 0 : load_step + 1;

      const typename Operand::Ready ready_first = Operand::prepare(first, chunk_of(step), tables);
      const typename Operand::Ready ready_second = Operand::prepare(second, chunk_of(step), tables);
      if (iteration + 1 < total) {
        const int next = step + 1 == steps ? 0 : step + 1;
        if (next == 0) rows = rows_of_tile(job, tile.expert, row_tile + 1);
        first = Operand::fetch(rows.first, job.columns, chunk_of(next));
        second = Operand::fetch(rows.second, job.columns, chunk_of(next));
      }
      const uint32_t stage = stages + uint32_t(iteration % kMmaStages) * Shared::kStageBytes;
      multiply_half<Operand, kN, 0>(ready_first, ready_second, stage, step == 0, sums);
      multiply_half<Operand, kN, 1>(ready_first, ready_second, stage, false, sums);
    }
    wgmma_wait<0>();
    if (job.output == MmaOutput::kHidden)
      store_hidden<kN>(job, columns, row_tile, sums);
    else if (job.output == MmaOutput::kPairs)
      store_pairs<kN>(job, columns, row_tile, sums);
    else
      store_rows<kN>(job, columns, row_tile, sums);
  }
}

}  // namespace dw::gpu
