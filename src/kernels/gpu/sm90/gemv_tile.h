// Products of quantised matrices with 5 to 32 tokens on Hopper's integer tensor cores. A block has tiles of
// 16 rows in a ring in shared memory, its first ones on their way before the kernel in front has ended; each
// wave multiplies some blocks of 256 columns of a tile, scale by scale, and the waves' sums are added in
// their order.
#pragma once

#include "kernels/gpu/gemv_arguments.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/bulk_copy.h"
#include "kernels/gpu/sm90/gemv_lanes.h"
#include "kernels/gpu/sm90/gemv_tile_types.h"

namespace dw::gpu {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileWaves = kTileThreads / kWave;
inline constexpr int kTileRows = 16;
inline constexpr int kMaxTileSlots = 16;

struct TileShape {
  uint32_t staged_bytes;  // of activations
  int32_t slots;
  uint32_t row_stride;  // bytes, in shared memory: rows lie in different banks
};

// Tiles of a block's rows on their way through shared memory; used by the first wave, waited for by all.
struct TileRing {
  uint8_t* slots;
  uint64_t* barriers;
  int slot_count;
  const uint8_t* rows;
  uint32_t row_bytes, stride;
  int row_count, tiles;

  __device__ __forceinline__ void open(int lane) const {
    if (lane < slot_count) init_barrier(barriers + lane);
    publish_barriers();
    __syncwarp();
    for (int i = 0; i < slot_count; ++i) fill(i, lane);
  }
  __device__ __forceinline__ void fill(int tile, int lane) const {
    if (tile >= tiles) return;
    const int slot = tile % slot_count, count = min(kTileRows, row_count - tile * kTileRows);
    if (lane == 0) expect_bytes(barriers + slot, uint32_t(count) * row_bytes);
    __syncwarp();
    if (lane < count)
      copy_bulk(slots + uint32_t(slot * kTileRows + lane) * stride,
                rows + uint64_t(tile * kTileRows + lane) * row_bytes, row_bytes, barriers + slot);
  }
  __device__ __forceinline__ const uint8_t* wait(int tile) const {
    wait_barrier(barriers + tile % slot_count, uint32_t(tile / slot_count % 2));
    return slots + uint32_t(tile % slot_count * kTileRows) * stride;
  }
};

// Activations: words [chunks][tokens][8] of quants, word 2 i + h: columns 16 h + 4 i ..; residual the same
// (fine types); {scale, scale * sum} [chunks][tokens]. Fine types: scale / 254.
DW_DEVICE TileRows tile_rows_at(uint8_t* shared, int tokens, int chunks, bool fine) {
  TileRows x;
  x.quants = reinterpret_cast<uint2*>(shared);
  x.residual = x.quants + tokens * chunks * 4;
  x.scale_sum = reinterpret_cast<float2*>(x.residual + (fine ? tokens * chunks * 4 : 0));
  x.tokens = tokens;
  return x;
}

DW_DEVICE void stage_tile_chunk(uint2* to, const int4& low, const int4& high) {
  reinterpret_cast<int4*>(to)[0] = {low.x, high.x, low.y, high.y};
  reinterpret_cast<int4*>(to)[1] = {low.z, high.z, low.w, high.w};
}

DW_DEVICE void stage_tile(const TileRows& staged, const ops::Activations& x, int chunks, bool fine) {
  const int tokens = staged.tokens;
  if (!fine) {
    for (int i = int(threadIdx.x); i < tokens * chunks; i += kTileThreads) {
      const int token = i / chunks, chunk = i % chunks, to = chunk * tokens + token;
      int4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
      float scale = 0;
      int sums = 0;
      if (token < x.tokens) {
        low = reinterpret_cast<const int4*>(x.quants)[2 * i];
        high = reinterpret_cast<const int4*>(x.quants)[2 * i + 1];
        scale = x.scales[i];
        sums = reinterpret_cast<const int*>(x.sums)[i];
      }
      stage_tile_chunk(staged.quants + to * 4, low, high);
      staged.scale_sum[to] = {scale, scale * float(int16_t(sums) + (sums >> 16))};
    }
    return;
  }
  for_octets<kTileThreads>(tokens, chunks * 4, [&](int token, int octet, bool inside) {
    Octet v = {};
    if (token < x.tokens) v = load_octet(x.values + token * x.columns, octet);
    const QuantisedOctet q = quantise_octet_fast(v, true);
    if (!inside) return;
    // Octet 2 h + e of a chunk holds the words 4 e and 4 e + 2, plus h.
    const int to = (octet / 4 * tokens + token) * 8, word = octet % 2 * 4 + octet / 2 % 2;
    int* quants = reinterpret_cast<int*>(staged.quants) + to + word;
    int* residual = reinterpret_cast<int*>(staged.residual) + to + word;
    quants[0] = q.quants.x, quants[2] = q.quants.y;
    residual[0] = q.residual.x, residual[2] = q.residual.y;
    if (octet % 4 == 0) staged.scale_sum[octet / 4 * tokens + token] = {q.scale / kResidualSteps, 0};
  });
}

template <int kGroups>
__global__ void __launch_bounds__(kTileThreads, 2)
    gemv_tile_kernel(const DW_GRID_CONSTANT GemvArguments a, TileShape shape) {
  constexpr int kTokens = 8 * kGroups, kValues = kTileRows * kTokens;
  extern __shared__ __align__(16) uint8_t shared[];
  __shared__ uint64_t barriers[kMaxTileSlots];
  __shared__ float partial[kTileWaves][kValues];
  const int block = int(blockIdx.x), lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  int index = 0;
  while (index + 1 < a.count && block >= a.outputs[index + 1].first_block) ++index;
  const GemvOutput& o = a.outputs[index];
  const int first_row = (block - o.first_block) * o.rows_per_block;
  const int row_count = min(o.rows_per_block, o.rows - first_row);
  const int columns = int(a.x.columns), blocks = columns / 256, tokens = int(a.x.tokens);
  const TileRing ring = {shared + shape.staged_bytes,
                         barriers,
                         shape.slots,
                         o.weight + uint64_t(first_row) * o.row_bytes,
                         o.row_bytes,
                         shape.row_stride,
                         row_count,
                         (row_count + kTileRows - 1) / kTileRows};
  if (wave == 0) ring.open(lane);
  const TileRows staged = tile_rows_at(shared, kTokens, columns / 32, is_fine_type(o.type));
  wait_for_previous();
  allow_next();
  stage_tile(staged, a.x, columns / 32, is_fine_type(o.type));
  __syncthreads();

  for (int tile = 0; tile < ring.tiles; ++tile) {
    const int rows_here = min(kTileRows, row_count - tile * kTileRows);
    float added[(kValues + kTileThreads - 1) / kTileThreads];
#pragma unroll
    for (int i = 0; i < int(sizeof(added) / 4); ++i) {
      const int value = i * kTileThreads + int(threadIdx.x), row = value % kTileRows,
                token = value / kTileRows;
      added[i] = o.add && row < rows_here && token < tokens
                     ? o.out[token * o.out_stride + first_row + tile * kTileRows + row]
                     : 0.0f;
    }
    const uint8_t* rows = ring.wait(tile);
    float sums[kGroups][4] = {};
    visit_tile_type(o.type, [&](auto type) {
      const int g = lane / 4;
      const uint8_t* low = rows + uint32_t(min(g, rows_here - 1)) * shape.row_stride;
      const uint8_t* high = rows + uint32_t(min(g + 8, rows_here - 1)) * shape.row_stride;
      for (int b = wave; b < blocks; b += kTileWaves)
        TileBlock<type.value>::template multiply<kGroups>(low, high, columns, b, staged, sums);
    });
#pragma unroll
    for (int n = 0; n < kGroups; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = n * 8 + lane % 4 * 2 + i % 2, row = lane / 4 + i / 2 * 8;
        partial[wave][token * kTileRows + row] = sums[n][i];
      }
    }
    __syncthreads();
    if (wave == 0) ring.fill(tile + ring.slot_count, lane);
#pragma unroll
    for (int i = 0; i < int(sizeof(added) / 4); ++i) {
      const int value = i * kTileThreads + int(threadIdx.x), row = value % kTileRows,
                token = value / kTileRows;
      if (value >= kValues) continue;
      float total = partial[0][value];
#pragma unroll
      for (int w = 1; w < kTileWaves; ++w) total += partial[w][value];
      if (row < rows_here && token < tokens)
        o.out[token * o.out_stride + first_row + tile * kTileRows + row] = total + added[i];
    }
    __syncthreads();
  }
}

template <int kGroups>
void launch_gemv_tile(Context& context, const Work& work, const GemvArguments& a, TileShape shape,
                      size_t shared) {
  allow_shared_bytes(gemv_tile_kernel<kGroups>, shared);
  launch(context, "gemv_tile_kernel", work, gemv_tile_kernel<kGroups>, dim3(uint32_t(a.blocks)),
         dim3(kTileThreads), shared, a, shape);
}

}  // namespace dw::gpu
