// What the kernels of the experts on Hopper share: activations staged by part of a block, rings of rows on
// their way, and silu(gate) * up quantised as down takes it.
#pragma once

#include "kernels/gpu/gemv_core.h"
#include "kernels/gpu/moe_route.h"
#include "kernels/gpu/sm90/bulk_copy.h"
#include "kernels/gpu/sm90/moe_q4.h"

namespace dw::gpu {

struct ExpertMatrix {
  const uint8_t* data;
  uint64_t expert_bytes;
  uint32_t row_bytes;
  quant::Type type;
};
inline ExpertMatrix expert_matrix(const ops::Matrix& m) {
  return {reinterpret_cast<const uint8_t*>(m.data), m.matrix_bytes(), uint32_t(m.row_stride()), m.type};
}

inline constexpr int kMoeMaxExperts = kMaxTopK + 1;  // of a token
inline constexpr int kMoeWaves = kGemvThreads / kWave;
inline constexpr int kBlockOutputs = 32;                  // of gate_up: a group of quantised values
inline constexpr int kPairs = kBlockOutputs / kMoeWaves;  // of a wave: a row of gate and a row of up each

// silu(gate) * up as gate_up leaves it for down: StagedRows' planes for all rows token * experts + slot, the
// scales still without the experts' weights.
struct HiddenPlanes {
  int4* quants;    // [row][2 halves][chunks]
  int4* residual;  // the same
  float* scale;    // [row][chunks]
  int* sums;       // [row][chunks]: of the first 16 quants in the low, of the rest in the high half
};

// Row `token` of x into row `row` of the planes, by threads [0, threads) of whole waves.
DW_DEVICE void stage_row(const StagedRows& staged, int row, const ops::Activations& x, int token, bool fine,
                         int thread, int threads) {
  const int columns = int(x.columns), chunks = staged.chunks;
  if (fine) {
    const float* values = x.values + int64_t(token) * columns;
    for (int base = 0; base < columns / 8; base += threads) {
      const int octet = base + thread;
      const bool inside = octet < columns / 8;
      const Octet v = inside ? load_octet(values, octet) : Octet{};
      stage_octet(staged, row, inside ? octet : 0, quantise_octet(v, true), true, 1.0f, inside);
    }
    return;
  }
  const int4* quants = reinterpret_cast<const int4*>(x.quants + int64_t(token) * columns);
  for (int chunk = thread; chunk < chunks; chunk += threads) {
    const int at = token * chunks + chunk;
    const int4 low = quants[2 * chunk], high = quants[2 * chunk + 1];
    const float scale = x.scales[at];
    const int sums = reinterpret_cast<const int*>(x.sums)[at];
    staged.quants[2 * row * chunks + chunk] = low, staged.quants[(2 * row + 1) * chunks + chunk] = high;
    const int place = row * chunks + chunk;
    staged.scale[place] = scale;
    staged.sum[place] = scale * float(int16_t(sums) + (sums >> 16));
    staged.first_sum[place] = scale * float(int16_t(sums));
  }
}

// The value of lane i is output i of the group; as quantise_octet.
DW_DEVICE void store_hidden(const HiddenPlanes& to, int row, int chunks, int chunk, float value, bool fine) {
  const int lane = int(threadIdx.x) % kWave;
  const float d = lanes_max<32>(fabsf(value)) / 127.0f;
  const float quotient = d == 0 ? 0.0f : fminf(fmaxf(__fdiv_rn(value, d), -127.0f), 127.0f);
  const int q = __float2int_rn(quotient);
  const int64_t word = int64_t(2 * row + lane / 16) * chunks + chunk;
  reinterpret_cast<int8_t*>(to.quants)[16 * word + lane % 16] = int8_t(q);
  if (fine)
    reinterpret_cast<int8_t*>(to.residual)[16 * word + lane % 16] =
        int8_t(__float2int_rn((quotient - float(q)) * kResidualSteps));
  const int half = lanes_sum_int<16>(q), other = lane_xor(half, 16);
  if (lane != 0) return;
  to.scale[row * chunks + chunk] = d;
  to.sums[row * chunks + chunk] = (half & 0xffff) | other << 16;
}

// A wave's rows on their way, pair by pair through a ring: pair p is row first_row + p of gate and of up.
struct PairRing {
  uint8_t* slots;
  uint64_t* barriers;
  const uint8_t* gate;  // the wave's first rows
  const uint8_t* up;
  uint32_t row_bytes;
  int slot_count;

  __device__ __forceinline__ void start() const {
    for (int p = 0; p < slot_count; ++p) fill(p);
  }
  __device__ __forceinline__ void fill(int p) const {
    uint8_t* to = slots + uint32_t(p % slot_count) * 2 * row_bytes;
    uint64_t* barrier = barriers + p % slot_count;
    expect_bytes(barrier, 2 * row_bytes);
    copy_bulk(to, gate + uint32_t(p) * row_bytes, row_bytes, barrier);
    copy_bulk(to + row_bytes, up + uint32_t(p) * row_bytes, row_bytes, barrier);
  }
  __device__ __forceinline__ const uint8_t* wait(int p) const {
    wait_barrier(barriers + p % slot_count, uint32_t(p / slot_count % 2));
    return slots + uint32_t(p % slot_count) * 2 * row_bytes;
  }

  // The same rows all at once in the ring's room, where it has kPairs slots: gate's rows, then up's.
  __device__ __forceinline__ void start_whole() const {
    const uint32_t bytes = kPairs * row_bytes;
    expect_bytes(barriers, 2 * bytes);
    copy_bulk(slots, gate, bytes, barriers);
    copy_bulk(slots + bytes, up, bytes, barriers);
  }
  __device__ __forceinline__ const uint8_t* wait_whole() const {
    wait_barrier(barriers, 0);
    return slots;
  }
};

// All pairs after start_whole(), Q4_K, 8 lanes a pair: store(pair, token, gate, up) by one lane.
template <int kTokens, class Store>
DW_DEVICE void multiply_q4_pairs(const PairRing& ring, int columns, const StagedRows& x, int tokens,
                                 const Store& store) {
  static_assert(kPairs * 8 == kWave);
  const int lane = int(threadIdx.x) % kWave, pair = lane / 8, order = lane % 8;
  const uint8_t* gate = ring.wait_whole() + uint32_t(pair) * ring.row_bytes;
  const uint8_t* const rows[2] = {gate, gate + kPairs * ring.row_bytes};
  float sums[2 * kTokens] = {};
#pragma unroll 1
  for (int block = order; block < columns / 256; block += 8)
    multiply_q4_block<2, kTokens>(rows, columns, block, x, 0, tokens, order, sums);
  __syncwarp();
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const float g = lanes_sum<8>(sums[t]), u = lanes_sum<8>(sums[kTokens + t]);
    if (order == 0) store(pair, t, g, u);
  }
}

}  // namespace dw::gpu
