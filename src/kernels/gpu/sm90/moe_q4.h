// Q4_K rows in shared memory times staged activations with few instructions a weight: a lane has whole blocks
// of 256, so that a block's scales are unpacked four at a time, and takes its eight chunks in an order of its
// own, so that lanes meet in no bank. Integer instructions, not bytes, bound the general way (QuantisedUnits)
// on Hopper: about 64 cycles of a multiprocessor for 32 chunks.
#pragma once

#include "kernels/gpu/gemv_core.h"

namespace dw::gpu {

// a: four unsigned bytes, b: four signed ones.
DW_DEVICE int dot4_unsigned(uint32_t a, int b, int c) {
  int d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// Of a block: d / 16 and dmin, the scales and minima of its chunks; byte i belongs to chunk i ^ order.
struct Q4Block {
  const uint8_t* quants;
  float d, minimum;
  uint32_t scales[2], minima[2];
};
DW_DEVICE Q4Block q4_block(const uint8_t* row, int columns, int block, int order) {
  const uint4 h = load_plane<uint4>(row + columns / 2, block);
  const uint32_t low_scales = h.y & 0x3f3f3f3fu, low_minima = h.z & 0x3f3f3f3fu;
  const uint32_t high_scales = (h.w & 0x0f0f0f0fu) | ((h.y >> 2) & 0x30303030u);
  const uint32_t high_minima = ((h.w >> 4) & 0x0f0f0f0fu) | ((h.z >> 2) & 0x30303030u);
  const uint32_t turn = uint32_t(order) * 0x1111u, first = 0x3210u ^ turn, second = 0x7654u ^ turn;
  Q4Block b;
  b.quants = row + 128 * block;
  b.d = half_bits_to_float(uint16_t(h.x)) * 0.0625f;
  b.minimum = half_bits_to_float(uint16_t(h.x >> 16));
  b.scales[0] = __byte_perm(low_scales, high_scales, first);
  b.scales[1] = __byte_perm(low_scales, high_scales, second);
  b.minima[0] = __byte_perm(low_minima, high_minima, first);
  b.minima[1] = __byte_perm(low_minima, high_minima, second);
  return b;
}
DW_DEVICE float q4_byte(uint32_t bytes, int i) {
  return float((bytes >> (8 * i)) & 0xffu);
}

// sums[r * kTokens + t] += block `block` of row r . the same columns of staged row first_x + t, for t <
// tokens. order: of a lane, 0..7.
template <int kRows, int kTokens>
DW_DEVICE void multiply_q4_block(const uint8_t* const (&rows)[kRows], int columns, int block,
                                 const StagedRows& x, int first_x, int tokens, int order,
                                 float (&sums)[kRows * kTokens]) {
  Q4Block blocks[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) blocks[r] = q4_block(rows[r], columns, block, order);
  float dots[kRows * kTokens] = {}, minima[kRows * kTokens] = {};
#pragma unroll 1
  for (int half = 0; half < 2; ++half) {  // not eight at once: registers
    uint32_t scale_bytes[kRows], minimum_bytes[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scale_bytes[r] = half == 0 ? blocks[r].scales[0] : blocks[r].scales[1];
      minimum_bytes[r] = half == 0 ? blocks[r].minima[0] : blocks[r].minima[1];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int chunk = (4 * half + i) ^ order;
      uint4 words[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) words[r] = load_plane<uint4>(blocks[r].quants, chunk);
      const int at = 8 * block + chunk;
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (kTokens > 1 && t >= tokens) break;
        const int row = first_x + t;
        const int4 low = x.quants[2 * row * x.chunks + at], high = x.quants[(2 * row + 1) * x.chunks + at];
        const float scale = x.scale[row * x.chunks + at], sum = x.sum[row * x.chunks + at];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const uint4& w = words[r];
          constexpr uint32_t kLow = 0x0f0f0f0fu, kHigh = 0xf0f0f0f0u;
          int first = dot4_unsigned(w.x & kLow, low.x, 0), second = dot4_unsigned(w.x & kHigh, high.x, 0);
          first = dot4_unsigned(w.y & kLow, low.y, first),
          second = dot4_unsigned(w.y & kHigh, high.y, second);
          first = dot4_unsigned(w.z & kLow, low.z, first),
          second = dot4_unsigned(w.z & kHigh, high.z, second);
          first = dot4_unsigned(w.w & kLow, low.w, first),
          second = dot4_unsigned(w.w & kHigh, high.w, second);
          const float dot = float(16 * first + second);
          float& d = dots[r * kTokens + t];
          float& m = minima[r * kTokens + t];
          d = fmaf(scale * q4_byte(scale_bytes[r], i), dot, d);
          m = fmaf(sum, q4_byte(minimum_bytes[r], i), m);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int v = r * kTokens + t;
      sums[v] += blocks[r].d * dots[v] - blocks[r].minimum * minima[v];
    }
}

}  // namespace dw::gpu
