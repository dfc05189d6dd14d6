// Portable unpackers: one row at a time, written to be read next to quant/blocks.h.
#include <array>

#include "base/half.h"
#include "kernels/cpu/matmul_panel.h"
#include "quant/blocks.h"
#include "quant/iq_tables.h"

namespace dw::cpu {
namespace {

using namespace quant;

// One row (lane) of the panel.
struct RowWriter {
  Panel& panel;
  int row;
  void quant(int column, int value) { panel.quants[column / 4][row][column % 4] = uint8_t(value); }
  void scale(int group, int value) { panel.scales[group][row] = value; }
  void min(int group, float value) { panel.mins[group][row] = value; }
  void d(int block, float value) { panel.d[block][row] = value; }
  void dmin(float value) { panel.dmin[row] = value; }
};

int low(uint8_t byte) {
  return byte & 15;
}
int high(uint8_t byte) {
  return byte >> 4;
}

void unpack(const BlockQ8_0& in, int b, RowWriter& out) {
  out.d(b, half_to_float(in.d));
  for (int i = 0; i < 32; ++i) out.quant(32 * b + i, in.qs[i] + 128);
}

void unpack(const BlockQ4_0& in, int b, RowWriter& out) {
  out.d(b, half_to_float(in.d));
  for (int i = 0; i < 16; ++i) {
    out.quant(32 * b + i, low(in.qs[i]));
    out.quant(32 * b + 16 + i, high(in.qs[i]));
  }
}

void unpack(const BlockQ4_1& in, int b, RowWriter& out) {
  out.d(b, half_to_float(in.d));
  out.min(b, half_to_float(in.m));
  for (int i = 0; i < 16; ++i) {
    out.quant(32 * b + i, low(in.qs[i]));
    out.quant(32 * b + 16 + i, high(in.qs[i]));
  }
}

int fifth_bit(uint32_t bits, int element) {
  return int((bits >> element) & 1u) << 4;
}

void unpack(const BlockQ5_0& in, int b, RowWriter& out) {
  out.d(b, half_to_float(in.d));
  for (int i = 0; i < 16; ++i) {
    out.quant(32 * b + i, low(in.qs[i]) | fifth_bit(in.qh, i));
    out.quant(32 * b + 16 + i, high(in.qs[i]) | fifth_bit(in.qh, i + 16));
  }
}

void unpack(const BlockQ5_1& in, int b, RowWriter& out) {
  out.d(b, half_to_float(in.d));
  out.min(b, half_to_float(in.m));
  for (int i = 0; i < 16; ++i) {
    out.quant(32 * b + i, low(in.qs[i]) | fifth_bit(in.qh, i));
    out.quant(32 * b + 16 + i, high(in.qs[i]) | fifth_bit(in.qh, i + 16));
  }
}

void unpack(const BlockIQ4_NL& in, int b, RowWriter& out) {
  out.d(b, half_to_float(in.d));
  for (int i = 0; i < 16; ++i) {
    out.quant(32 * b + i, kIq4NlValues[size_t(low(in.qs[i]))] + 128);
    out.quant(32 * b + 16 + i, kIq4NlValues[size_t(high(in.qs[i]))] + 128);
  }
}

void unpack(const BlockMXFP4& in, int b, RowWriter& out) {
  // 2^(e - 128), subnormal for e < 2
  out.d(b, bits_to_float(in.e < 2 ? 0x00200000u << in.e : uint32_t(in.e - 1) << 23));
  for (int i = 0; i < 16; ++i) {
    out.quant(32 * b + i, kMxfp4Values[size_t(low(in.qs[i]))] + 12);
    out.quant(32 * b + 16 + i, kMxfp4Values[size_t(high(in.qs[i]))] + 12);
  }
}

void unpack(const BlockQ2_K& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d));
  out.dmin(half_to_float(in.dmin));
  for (int g = 0; g < 16; ++g) out.min(g, float(high(in.scales[g])));
  for (int e = 0; e < 256; ++e) {
    const int q = (in.qs[32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4))) & 3;
    out.quant(e, q * low(in.scales[e / 16]));
  }
}

void unpack(const BlockQ3_K& in, int, RowWriter& out) {
  int8_t scales[16];
  unpack_q3_scales(in.scales, scales);
  out.d(0, half_to_float(in.d));
  for (int g = 0; g < 16; ++g) out.scale(g, scales[g]);
  for (int e = 0; e < 256; ++e) {
    const int low_bits = (in.qs[32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4))) & 3;
    out.quant(e, low_bits | (((in.hmask[e % 32] >> (e / 32)) & 1) << 2));
  }
}

void unpack(const BlockQ4_K& in, int, RowWriter& out) {
  uint8_t scales[8], mins[8];
  unpack_k_scales(in.scales, scales, mins);
  out.d(0, half_to_float(in.d));
  out.dmin(half_to_float(in.dmin));
  for (int g = 0; g < 8; ++g) {
    out.scale(g, scales[g]);
    out.min(g, float(mins[g]));
  }
  for (int e = 0; e < 256; ++e) {
    const uint8_t byte = in.qs[32 * (e / 64) + e % 32];
    out.quant(e, e / 32 % 2 ? high(byte) : low(byte));
  }
}

void unpack(const BlockQ5_K& in, int, RowWriter& out) {
  uint8_t scales[8], mins[8];
  unpack_k_scales(in.scales, scales, mins);
  out.d(0, half_to_float(in.d));
  out.dmin(half_to_float(in.dmin));
  for (int g = 0; g < 8; ++g) {
    out.scale(g, scales[g]);
    out.min(g, float(mins[g]));
  }
  for (int e = 0; e < 256; ++e) {
    const uint8_t byte = in.qs[32 * (e / 64) + e % 32];
    const int fifth = ((in.qh[e % 32] >> (e / 32)) & 1) << 4;
    out.quant(e, (e / 32 % 2 ? high(byte) : low(byte)) | fifth);
  }
}

void unpack(const BlockQ6_K& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d));
  for (int g = 0; g < 16; ++g) out.scale(g, in.scales[g]);
  for (int e = 0; e < 256; ++e) {
    const int half = e / 128, s = e / 32 % 4, l = e % 32;
    const uint8_t byte = in.ql[64 * half + 32 * (s & 1) + l];
    const int top = (in.qh[32 * half + l] >> (2 * s)) & 3;
    out.quant(e, (s < 2 ? low(byte) : high(byte)) | (top << 4));
  }
}

void unpack(const BlockQ8_K& in, int, RowWriter& out) {
  out.d(0, in.d);
  for (int e = 0; e < 256; ++e) out.quant(e, in.qs[e] + 128);
}

void unpack(const BlockIQ4_XS& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d));
  for (int s = 0; s < 8; ++s) {
    out.scale(s, iq4_xs_scale(in, s));
    for (int i = 0; i < 16; ++i) {
      const uint8_t byte = in.qs[16 * s + i];
      out.quant(32 * s + i, kIq4NlValues[size_t(low(byte))] + 128);
      out.quant(32 * s + 16 + i, kIq4NlValues[size_t(high(byte))] + 128);
    }
  }
}

// `count` grid magnitudes, negated where the sign bit is set, from element `column`.
template <class Word>
void put_grid(RowWriter& out, int column, Word grid, int signs, int offset) {
  for (int i = 0; i < int(sizeof(Word)); ++i) {
    const int magnitude = int((grid >> (8 * i)) & 255);
    out.quant(column + i, offset + ((signs >> i) & 1 ? -magnitude : magnitude));
  }
}

void unpack(const BlockIQ2_XXS& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d) * 0.125f);
  for (int s = 0; s < 8; ++s) {
    const uint32_t indices = in.qs[4 * s] | uint32_t(in.qs[4 * s + 1]) << 16;
    const uint32_t rest = in.qs[4 * s + 2] | uint32_t(in.qs[4 * s + 3]) << 16;
    out.scale(s, int(2 * (rest >> 28) + 1));
    for (int j = 0; j < 4; ++j)
      put_grid(out, 32 * s + 8 * j, kIq2xxsGrid[(indices >> (8 * j)) & 255],
               kIqSigns[(rest >> (7 * j)) & 127], 64);
  }
}

void unpack(const BlockIQ2_XS& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d) * 0.125f);
  for (int g = 0; g < 16; ++g) out.scale(g, 2 * ((in.scales[g / 2] >> (4 * (g & 1))) & 15) + 1);
  for (int j = 0; j < 32; ++j) put_grid(out, 8 * j, kIq2xsGrid[in.qs[j] & 511], kIqSigns[in.qs[j] >> 9], 64);
}

void unpack(const BlockIQ2_S& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d) * 0.125f);
  for (int g = 0; g < 16; ++g) out.scale(g, 2 * ((in.scales[g / 2] >> (4 * (g & 1))) & 15) + 1);
  for (int j = 0; j < 32; ++j) {
    const uint32_t index = in.qs[j] | ((in.qh[j / 4] >> (2 * (j % 4))) & 3u) << 8;
    put_grid(out, 8 * j, kIq2sGrid[index], in.signs[j], 64);
  }
}

void unpack(const BlockIQ3_XXS& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d) * 0.25f);
  for (int s = 0; s < 8; ++s) {
    const uint32_t word = in.signs_scales[s];
    out.scale(s, int(2 * (word >> 28) + 1));
    for (int j = 0; j < 8; ++j) {
      const int signs = kIqSigns[(word >> (7 * (j / 2))) & 127] >> (4 * (j % 2));
      put_grid(out, 32 * s + 4 * j, kIq3xxsGrid[in.qs[8 * s + j]], signs, 64);
    }
  }
}

void unpack(const BlockIQ3_S& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d));
  for (int s = 0; s < 8; ++s) {
    out.scale(s, 2 * ((in.scales[s / 2] >> (4 * (s & 1))) & 15) + 1);
    for (int j = 0; j < 8; ++j) {
      const uint32_t index = in.qs[8 * s + j] | ((in.qh[s] >> j) & 1u) << 8;
      put_grid(out, 32 * s + 4 * j, kIq3sGrid[index], in.signs[4 * s + j / 2] >> (4 * (j % 2)), 16);
    }
  }
}

// 8 * grid +- 1 for the eight elements of an IQ1 grid entry.
void put_iq1(RowWriter& out, int column, uint32_t index, bool minus) {
  const uint64_t grid = kIq1Grid[index];
  for (int i = 0; i < 8; ++i) {
    const int value = int8_t(uint8_t(grid >> (8 * i)));
    out.quant(column + i, 16 + 8 * value + (minus ? -1 : 1));
  }
}

void unpack(const BlockIQ1_S& in, int, RowWriter& out) {
  out.d(0, half_to_float(in.d) * 0.125f);
  for (int s = 0; s < 8; ++s) {
    const uint32_t top = in.qh[s];
    out.scale(s, int(2 * ((top >> 12) & 7) + 1));
    for (int j = 0; j < 4; ++j)
      put_iq1(out, 32 * s + 8 * j, in.qs[4 * s + j] | ((top >> (3 * j)) & 7) << 8, (top & 0x8000) != 0);
  }
}

void unpack(const BlockIQ1_M& in, int, RowWriter& out) {
  uint32_t d = 0;
  for (int i = 0; i < 4; ++i) d |= uint32_t(in.scales[i] >> 12) << (4 * i);
  out.d(0, half_to_float(uint16_t(d)) * 0.125f);
  for (int g = 0; g < 16; ++g) out.scale(g, 2 * ((in.scales[g / 4] >> (3 * (g % 4))) & 7) + 1);
  for (int j = 0; j < 32; ++j) {
    const uint32_t top = (in.qh[j / 2] >> (4 * (j % 2))) & 15u;
    put_iq1(out, 8 * j, in.qs[j] | (top & 7) << 8, (top & 8) != 0);
  }
}

template <class Block>
void unpack_rows(const std::byte* rows, int64_t stride, int blocks, Panel& panel) {
  constexpr bool kSmall = sizeof(Block) < 50;
  const int count = kSmall ? blocks : 1;
  for (int row = 0; row < kRowTile; ++row) {
    RowWriter out{panel, row};
    for (int b = 0; b < count; ++b) {
      const Block block = load_unaligned<Block>(rows + row * stride + b * int64_t(sizeof(Block)));
      unpack(block, b, out);
    }
  }
}

}  // namespace

UnpackFn portable_unpacker(Type type) {
  switch (type) {
    case Type::Q8_0:
      return unpack_rows<BlockQ8_0>;
    case Type::Q4_0:
      return unpack_rows<BlockQ4_0>;
    case Type::Q4_1:
      return unpack_rows<BlockQ4_1>;
    case Type::Q5_0:
      return unpack_rows<BlockQ5_0>;
    case Type::Q5_1:
      return unpack_rows<BlockQ5_1>;
    case Type::IQ4_NL:
      return unpack_rows<BlockIQ4_NL>;
    case Type::MXFP4:
      return unpack_rows<BlockMXFP4>;
    case Type::Q2_K:
      return unpack_rows<BlockQ2_K>;
    case Type::Q3_K:
      return unpack_rows<BlockQ3_K>;
    case Type::Q4_K:
      return unpack_rows<BlockQ4_K>;
    case Type::Q5_K:
      return unpack_rows<BlockQ5_K>;
    case Type::Q6_K:
      return unpack_rows<BlockQ6_K>;
    case Type::Q8_K:
      return unpack_rows<BlockQ8_K>;
    case Type::IQ4_XS:
      return unpack_rows<BlockIQ4_XS>;
    case Type::IQ2_XXS:
      return unpack_rows<BlockIQ2_XXS>;
    case Type::IQ2_XS:
      return unpack_rows<BlockIQ2_XS>;
    case Type::IQ2_S:
      return unpack_rows<BlockIQ2_S>;
    case Type::IQ3_XXS:
      return unpack_rows<BlockIQ3_XXS>;
    case Type::IQ3_S:
      return unpack_rows<BlockIQ3_S>;
    case Type::IQ1_S:
      return unpack_rows<BlockIQ1_S>;
    case Type::IQ1_M:
      return unpack_rows<BlockIQ1_M>;
    default:
      return nullptr;
  }
}

}  // namespace dw::cpu
