// Tiles of 16 rows times a block of 256 columns on the integer tensor cores, for the types that files mostly
// consist of.
#pragma once

#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {

struct TileRows {
  uint2* quants;      // [chunks][tokens][4]
  uint2* residual;    // the same
  float2* scale_sum;  // [chunks][tokens]
  int tokens;
};

// d = a b, signed bytes. Lane (g = lane / 4, t = lane % 4) holds a: rows g (a0, a2) and g + 8 (a1, a3),
// columns 4t .. 4t + 3 (a0, a1) and 16 more (a2, a3); b: rows as a's columns, column g; d: rows g (d0, d1)
// and g + 8 (d2, d3), columns 2t, 2t + 1.
DW_DEVICE void mma_bytes_32(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                            uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%10,%10,%10};"
      : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1), "r"(0));
}
// The same with the columns 4t .. 4t + 3 only.
DW_DEVICE void mma_bytes_16(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(a0), "r"(a1), "r"(b0), "r"(0));
}

inline constexpr __host__ __device__ bool is_tile_type(quant::Type type) {
  using enum quant::Type;
  return type == Q4_K || type == Q5_K || type == Q6_K || type == Q8_0;
}
template <class Visit>
DW_DEVICE void visit_tile_type(quant::Type type, const Visit& visit) {
  visit_quantised_type(type, [&](auto t) {
    if constexpr (is_tile_type(t.value)) visit(t);
  });
}

// What a lane knows of a token pair's chunk.
struct TilePair {
  uint2 quants, residual;
  float4 scale_sum;  // scale, sum of column 2t; of 2t + 1
};
template <bool kFine>
DW_DEVICE TilePair load_pair(const TileRows& x, int chunk, int group) {
  const int lane = int(threadIdx.x) % kWave, first = chunk * x.tokens + 8 * group;
  TilePair p;
  p.quants = x.quants[(first + lane / 4) * 4 + lane % 4];
  if constexpr (kFine) p.residual = x.residual[(first + lane / 4) * 4 + lane % 4];
  p.scale_sum = reinterpret_cast<const float4*>(x.scale_sum + first)[lane % 4];
  return p;
}

// sums[group][i] += the block's part of the products of rows g (i < 2) and g + 8 with tokens 2t and 2t + 1.
template <quant::Type kType>
struct TileBlock;

// Eight scales and minima of a Q4_K or Q5_K block, a byte each.
struct TileScales {
  uint32_t scales[2], minima[2];
  float d, m;
  __device__ __forceinline__ TileScales(const uint4& header) {
    scales[0] = header.y & 0x3f3f3f3fu;
    scales[1] = (header.w & 0x0f0f0f0fu) | ((header.y >> 2) & 0x30303030u);
    minima[0] = header.z & 0x3f3f3f3fu;
    minima[1] = ((header.w >> 4) & 0x0f0f0f0fu) | ((header.z >> 2) & 0x30303030u);
    d = half_bits_to_float(uint16_t(header.x)), m = -half_bits_to_float(uint16_t(header.x >> 16));
  }
  template <int kChunk>
  __device__ __forceinline__ float scale() const {
    return d * float((scales[kChunk / 4] >> (8 * (kChunk % 4))) & 255u);
  }
  template <int kChunk>
  __device__ __forceinline__ float minimum() const {
    return m * float((minima[kChunk / 4] >> (8 * (kChunk % 4))) & 255u);
  }
};

template <bool kFifthBits>
struct TileBlockK {
  struct Words {
    uint32_t low, high;  // of columns 4t .. and 16 + 4t ..
  };
  static __device__ __forceinline__ Words words_of(const uint8_t* row, int columns, int chunk) {
    const int t = int(threadIdx.x) % 4;
    const uint32_t nibbles = load_plane<uint32_t>(row, 4 * chunk + t);
    Words w = {nibbles & 0x0f0f0f0fu, (nibbles >> 4) & 0x0f0f0f0fu};
    if constexpr (kFifthBits) {
      const uint32_t fifth = load_plane<uint32_t>(row + columns / 2 + columns / 16, chunk) >> t;
      w.low |= (fifth & 0x01010101u) << 4, w.high |= fifth & 0x10101010u;
    }
    return w;
  }
  template <int kGroups>
  static __device__ __forceinline__ void multiply(const uint8_t* low, const uint8_t* high, int columns,
                                                  int block, const TileRows& x, float (&sums)[kGroups][4]) {
    const TileScales low_scales(load_plane<uint4>(low + columns / 2, block));
    const TileScales high_scales(load_plane<uint4>(high + columns / 2, block));
    unrolled<8>([&](auto i) {
      const int chunk = 8 * block + i.value;
      const Words first = words_of(low, columns, chunk), second = words_of(high, columns, chunk);
      const float scale0 = low_scales.scale<i.value>(), scale1 = high_scales.scale<i.value>();
      const float minimum0 = low_scales.minimum<i.value>(), minimum1 = high_scales.minimum<i.value>();
#pragma unroll
      for (int n = 0; n < kGroups; ++n) {
        const TilePair p = load_pair<false>(x, chunk, n);
        int d[4];
        mma_bytes_32(d, first.low, second.low, first.high, second.high, p.quants.x, p.quants.y);
        const float4& s = p.scale_sum;
        sums[n][0] = fmaf(scale0 * s.x, float(d[0]), fmaf(minimum0, s.y, sums[n][0]));
        sums[n][1] = fmaf(scale0 * s.z, float(d[1]), fmaf(minimum0, s.w, sums[n][1]));
        sums[n][2] = fmaf(scale1 * s.x, float(d[2]), fmaf(minimum1, s.y, sums[n][2]));
        sums[n][3] = fmaf(scale1 * s.z, float(d[3]), fmaf(minimum1, s.w, sums[n][3]));
      }
    });
  }
};
template <>
struct TileBlock<quant::Type::Q4_K> : TileBlockK<false> {};
template <>
struct TileBlock<quant::Type::Q5_K> : TileBlockK<true> {};

template <>
struct TileBlock<quant::Type::Q6_K> {
  struct Words {
    uint32_t low, high;
    float scale[2];  // of both
  };
  static __device__ __forceinline__ Words words_of(const uint8_t* row, int columns, int chunk, float d) {
    const int t = int(threadIdx.x) % 4;
    const uint32_t nibbles = load_plane<uint32_t>(row, 4 * chunk + t);
    const uint2 pairs = load_plane<uint2>(row + columns / 2, chunk);
    const uint32_t scales = load_plane<uint16_t>(row + columns / 4 * 3, chunk);
    const uint32_t low_pairs = (pairs.x >> (2 * t)) << 6, high_pairs = (pairs.y >> (2 * t)) << 6;
    return {((nibbles << 2) & 0x3c3c3c3cu) | ((low_pairs & 0xc0c0c0c0u) ^ kSignBits),
            ((nibbles >> 2) & 0x3c3c3c3cu) | ((high_pairs & 0xc0c0c0c0u) ^ kSignBits),
            {d * float(int8_t(scales)), d * float(int8_t(scales >> 8))}};
  }
  static __device__ __forceinline__ float scale_of(const uint8_t* row, int columns, int block) {
    return 0.25f * half_bits_to_float(load_plane<uint16_t>(row + columns / 4 * 3 + columns / 16, block));
  }
  template <int kGroups>
  static __device__ __forceinline__ void multiply(const uint8_t* low, const uint8_t* high, int columns,
                                                  int block, const TileRows& x, float (&sums)[kGroups][4]) {
    const float low_d = scale_of(low, columns, block), high_d = scale_of(high, columns, block);
#pragma unroll 2
    for (int i = 0; i < 8; ++i) {
      const int chunk = 8 * block + i;
      const Words first = words_of(low, columns, chunk, low_d),
                  second = words_of(high, columns, chunk, high_d);
#pragma unroll
      for (int n = 0; n < kGroups; ++n) {
        const TilePair p = load_pair<true>(x, chunk, n);
        int d[4], e[4], fine_d[4], fine_e[4];
        mma_bytes_16(d, first.low, second.low, p.quants.x);
        mma_bytes_16(fine_d, first.low, second.low, p.residual.x);
        mma_bytes_16(e, first.high, second.high, p.quants.y);
        mma_bytes_16(fine_e, first.high, second.high, p.residual.y);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const Words& w = k < 2 ? first : second;
          const float dot =
              fmaf(w.scale[0], float(254 * d[k] + fine_d[k]), w.scale[1] * float(254 * e[k] + fine_e[k]));
          sums[n][k] = fmaf(k % 2 == 0 ? p.scale_sum.x : p.scale_sum.z, dot, sums[n][k]);
        }
      }
    }
  }
};

template <>
struct TileBlock<quant::Type::Q8_0> {
  template <int kGroups>
  static __device__ __forceinline__ void multiply(const uint8_t* low, const uint8_t* high, int columns,
                                                  int block, const TileRows& x, float (&sums)[kGroups][4]) {
    const int t = int(threadIdx.x) % 4;
#pragma unroll 2
    for (int i = 0; i < 8; ++i) {
      const int chunk = 8 * block + i;
      const uint32_t a0 = load_plane<uint32_t>(low, 8 * chunk + t),
                     a1 = load_plane<uint32_t>(high, 8 * chunk + t);
      const uint32_t a2 = load_plane<uint32_t>(low, 8 * chunk + 4 + t);
      const uint32_t a3 = load_plane<uint32_t>(high, 8 * chunk + 4 + t);
      const float scale0 = half_bits_to_float(load_plane<uint16_t>(low + columns, chunk));
      const float scale1 = half_bits_to_float(load_plane<uint16_t>(high + columns, chunk));
#pragma unroll
      for (int n = 0; n < kGroups; ++n) {
        const TilePair p = load_pair<true>(x, chunk, n);
        int d[4], fine[4];
        mma_bytes_32(d, a0, a1, a2, a3, p.quants.x, p.quants.y);
        mma_bytes_32(fine, a0, a1, a2, a3, p.residual.x, p.residual.y);
#pragma unroll
        for (int k = 0; k < 4; ++k)
          sums[n][k] = fmaf((k < 2 ? scale0 : scale1) * (k % 2 == 0 ? p.scale_sum.x : p.scale_sum.z),
                            float(254 * d[k] + fine[k]), sums[n][k]);
      }
    }
  }
};

}  // namespace dw::gpu
