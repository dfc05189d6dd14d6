// The blocks of the GGUF file's quantised types, byte for byte (GGUF specification; `gguf` Python package,
// gguf.quants). Packed: a block may stand at any address, as rows of 17- or 210-byte blocks do. Scales named
// d, m, dmin are IEEE binary16 bits unless another type is written. "element e" counts inside the block.
#pragma once

#include <cstdint>

#include "base/half.h"

namespace dw::quant {

inline constexpr int kSuperBlock = 256;  // elements of a block of the K and most IQ types
inline constexpr int kSmallBlock = 32;   // elements of a block of the others

#pragma pack(push, 1)

// value = d * q
struct BlockQ8_0 {
  uint16_t d;
  int8_t qs[32];
};

// value = d * q; s = d * sum(q). Activations only.
struct BlockQ8_1 {
  uint16_t d;
  uint16_t s;
  int8_t qs[32];
};

// value = d * (q - 8); byte i holds element i in its low nibble and i + 16 in its high one.
struct BlockQ4_0 {
  uint16_t d;
  uint8_t qs[16];
};

// value = d * q + m
struct BlockQ4_1 {
  uint16_t d;
  uint16_t m;
  uint8_t qs[16];
};

// value = d * (q - 16); bit 4 of element e is bit e of qh.
struct BlockQ5_0 {
  uint16_t d;
  uint32_t qh;
  uint8_t qs[16];
};

// value = d * q + m
struct BlockQ5_1 {
  uint16_t d;
  uint16_t m;
  uint32_t qh;
  uint8_t qs[16];
};

// value = d * scale * q - dmin * min; groups of 16 elements; scales[g]: scale in the low, min in the high
// nibble. Elements 128 h + 32 s + l (h < 2, s < 4, l < 32) are bits 2s of qs[32 h + l].
struct BlockQ2_K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d;
  uint16_t dmin;
};

// value = d * (scale - 32) * (q - 4 when the high bit is clear); groups of 16; 2 low bits as in Q2_K; the
// high bit of element 32 g + l is bit g of hmask[l]. scales: unpack_q3_scales.
struct BlockQ3_K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;
};

// value = d * scale * q - dmin * min; groups of 32; byte 32 p + l holds element 64 p + l in its low nibble
// and 64 p + 32 + l in its high one. scales: unpack_k_scales.
struct BlockQ4_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};

// As Q4_K; bit 4 of element 32 g + l is bit g of qh[l].
struct BlockQ5_K {
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};

// value = d * scale * (q - 32); groups of 16. In each half h of 128 elements: element 32 s + l (s < 4) has
// its low nibble in ql[64 h + 32 (s & 1) + l], low nibble for s < 2, high for s >= 2; its bits 4..5 are bits
// 2s of qh[32 h + l].
struct BlockQ6_K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};

// value = d * q; bsums[g] = sum of the 16 quants of group g. d is a float.
struct BlockQ8_K {
  float d;
  int8_t qs[256];
  int16_t bsums[16];
};

// value = d * (0.5 + scale) / 4 * grid * sign. Sub-block s of 32 elements: qs[4s .. 4s+1] are four grid
// indices of a byte; qs[4s+2 .. 4s+3] are, from the low bit, four 7-bit sign indices and the 4-bit scale.
struct BlockIQ2_XXS {
  uint16_t d;
  uint16_t qs[32];
};

// value = d * (0.5 + scale) / 4 * grid * sign. qs: 9-bit grid index, 7-bit sign index above it; scales: a
// nibble a group of 16.
struct BlockIQ2_XS {
  uint16_t d;
  uint16_t qs[32];
  uint8_t scales[8];
};

// As IQ2_XS with 10-bit indices (2 high bits in qh) and all 8 sign bits.
struct BlockIQ2_S {
  uint16_t d;
  uint8_t qs[32];
  uint8_t signs[32];
  uint8_t qh[8];
  uint8_t scales[8];
};

// value = d * (0.5 + scale) / 2 * grid * sign; a grid index gives 4 elements; signs_scales[s] as in IQ2_XXS.
struct BlockIQ3_XXS {
  uint16_t d;
  uint8_t qs[64];
  uint32_t signs_scales[8];
};

// value = d * (1 + 2 scale) * grid * sign; bit 8 of grid index i is bit i & 7 of qh[i / 8]; scales: a nibble
// a sub-block of 32.
struct BlockIQ3_S {
  uint16_t d;
  uint8_t qs[64];
  uint8_t qh[8];
  uint8_t signs[32];
  uint8_t scales[4];
};

// value = d * (2 scale + 1) * (grid +- 0.125). qh[s]: four 3-bit high index bits, 3-bit scale, bit 15: minus.
struct BlockIQ1_S {
  uint16_t d;
  uint8_t qs[32];
  uint16_t qh[8];
};

// As IQ1_S; qh holds a nibble (3 high index bits, bit 3: minus) a group of 8; scales hold four 3-bit scales
// (groups of 16) and, in their high nibbles, the four nibbles of d from the lowest.
struct BlockIQ1_M {
  uint8_t qs[32];
  uint8_t qh[16];
  uint16_t scales[4];
};

// value = d * kIq4NlValues[q]; nibbles as in Q4_0.
struct BlockIQ4_NL {
  uint16_t d;
  uint8_t qs[16];
};

// value = d * (scale - 32) * kIq4NlValues[q]; sub-blocks of 32 elements, each with nibbles as in Q4_0; scale:
// low nibble in scales_l, bits 4..5 are bits 2s of scales_h.
struct BlockIQ4_XS {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

// value = 2^(e - 128) * kMxfp4Values[q]; nibbles as in Q4_0. (OCP Microscaling formats 1.0: E8M0, E2M1.)
struct BlockMXFP4 {
  uint8_t e;
  uint8_t qs[16];
};

#pragma pack(pop)

static_assert(sizeof(BlockQ8_0) == 34);
static_assert(sizeof(BlockQ8_1) == 36);
static_assert(sizeof(BlockQ4_0) == 18);
static_assert(sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22);
static_assert(sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144);
static_assert(sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockQ8_K) == 292);
static_assert(sizeof(BlockIQ2_XXS) == 66);
static_assert(sizeof(BlockIQ2_XS) == 74);
static_assert(sizeof(BlockIQ2_S) == 82);
static_assert(sizeof(BlockIQ3_XXS) == 98);
static_assert(sizeof(BlockIQ3_S) == 110);
static_assert(sizeof(BlockIQ1_S) == 50);
static_assert(sizeof(BlockIQ1_M) == 56);
static_assert(sizeof(BlockIQ4_NL) == 18);
static_assert(sizeof(BlockIQ4_XS) == 136);
static_assert(sizeof(BlockMXFP4) == 17);

// The 6-bit scales and mins of Q4_K and Q5_K: groups 0..3 in the low 6 bits of bytes 0..3 (scales) and 4..7
// (mins); groups 4..7 in bytes 8..11 (low nibble scale, high nibble min), their bits 4..5 on top of bytes
// 0..3 and 4..7.
inline void unpack_k_scales(const uint8_t packed[12], uint8_t scales[8], uint8_t mins[8]) {
  for (int i = 0; i < 4; ++i) {
    scales[i] = packed[i] & 63;
    mins[i] = packed[4 + i] & 63;
    scales[4 + i] = uint8_t((packed[8 + i] & 15) | ((packed[i] >> 2) & 48));
    mins[4 + i] = uint8_t((packed[8 + i] >> 4) | ((packed[4 + i] >> 2) & 48));
  }
}

// The sixteen 6-bit scales of Q3_K, their offset of 32 taken off: low nibbles in bytes 0..7 (group g: low
// nibble for g < 8, high above), bits 4..5 of group g at bits 2 (g / 4) of byte 8 + g % 4.
inline void unpack_q3_scales(const uint8_t packed[12], int8_t scales[16]) {
  for (int g = 0; g < 16; ++g) {
    const int low = (packed[g & 7] >> (g < 8 ? 0 : 4)) & 15;
    const int high = (packed[8 + (g & 3)] >> (2 * (g >> 2))) & 3;
    scales[g] = int8_t((low | (high << 4)) - 32);
  }
}

// The scale (offset taken off) of sub-block s of an IQ4_XS block.
inline int iq4_xs_scale(const BlockIQ4_XS& block, int s) {
  const int low = (block.scales_l[s / 2] >> (4 * (s & 1))) & 15;
  return (low | (((block.scales_h >> (2 * s)) & 3) << 4)) - 32;
}

// The binary16 bits of an IQ1_M block's d.
inline uint16_t iq1_m_scale(const BlockIQ1_M& block) {
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= (block.scales[i] & 0xf000u) >> (12 - 4 * i);
  return uint16_t(bits);
}

// Half of the E8M0 scale 2^(e - 127): the E2M1 table holds doubled values. Never infinite.
inline float e8m0_half(uint8_t e) {
  return bits_to_float(e < 2 ? 0x00200000u << e : uint32_t(e - 1) << 23);
}

}  // namespace dw::quant
