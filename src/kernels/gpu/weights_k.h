// Weight traits of the types of 256-element blocks with integer scales; see weights.h. Chunk c is chunk c % 8
// of block c / 8.
#pragma once

#include "kernels/gpu/weights_simple.h"

namespace dw::gpu {

// The two low bits of weight `i` of chunk `g` of a block, as Q2_K and Q3_K store them.
DW_DEVICE int file_bit_pair(const uint8_t* qs, int g, int i) {
  return qs[32 * (g / 4) + i] >> (2 * (g % 4));
}

// Planes: quants [chunks][2 words] (gather_bit_pairs), d and dmin [blocks] two f16, scales [chunks][2]: scale
// in the low, minimum in the high nibble.
template <>
struct Weights<quant::Type::Q2_K> {
  static constexpr bool kTwoScales = true, kOffset = true, kFine = false;
  struct Raw {
    uint2 quants;
    uint32_t dm;
    uint16_t scales;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 84);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint2>(row, chunk);
    raw.dm = load_plane<uint32_t>(row + columns / 4, chunk / 8);
    raw.scales = load_plane<uint16_t>(row + columns / 4 + columns / 64, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    unrolled<4>([&](auto s) {
      c.q[s.value] = int((raw.quants.x >> (2 * s.value)) & 0x03030303u);
      c.q[4 + s.value] = int((raw.quants.y >> (2 * s.value)) & 0x03030303u);
    });
    const float d = half_bits_to_float(uint16_t(raw.dm)), m = half_bits_to_float(uint16_t(raw.dm >> 16));
    c.scale[0] = d * float(raw.scales & 15), c.scale[1] = d * float((raw.scales >> 8) & 15);
    c.offset[0] = -m * float((raw.scales >> 4) & 15), c.offset[1] = -m * float(raw.scales >> 12);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 84 * (chunk / 8);
    const int g = chunk % 8;
    for (int w = 0; w < 2; ++w)
      store_plane(row, 2 * chunk + w,
                  gather_bit_pairs(w, [&](int i) { return file_bit_pair(block + 16, g, i); }));
    uint8_t* rest = row + columns / 4;
    if (g == 0) copy_bytes(block + 80, rest + 4 * (chunk / 8), 4);
    copy_bytes(block + 2 * g, rest + columns / 64 + 2 * chunk, 2);
  }
};

// Planes: quants [chunks][2 words], high bits [chunks] (gather_high_bits), d [blocks] f16, scales [chunks]:
// the low nibbles of both halves, and [chunks / 2]: in a nibble a chunk, their high bit pairs. q = 32 (code -
// 4).
template <>
struct Weights<quant::Type::Q3_K> {
  static constexpr bool kTwoScales = true, kOffset = false, kFine = false;
  struct Raw {
    uint2 quants;
    uint32_t high;
    uint16_t d;
    uint8_t scales, scales_high;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 110);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    const uint8_t* rest = row + columns / 8 * 3;
    Raw raw;
    raw.quants = load_plane<uint2>(row, chunk);
    raw.high = load_plane<uint32_t>(row + columns / 4, chunk);
    raw.d = load_plane<uint16_t>(rest, chunk / 8);
    raw.scales = rest[columns / 128 + chunk];
    raw.scales_high = rest[columns / 128 + columns / 32 + chunk / 2];
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables&) {
    Chunk c;
    unrolled<8>([&](auto j) {
      const uint32_t low = j.value < 4 ? raw.quants.x : raw.quants.y;
      c.q[j.value] = int((shift_left<5 - 2 * (j.value % 4)>(low) & 0x60606060u) |
                         ((shift_left<7 - j.value>(raw.high) & kSignBits) ^ kSignBits));
    });
    const int high = raw.scales_high >> (4 * (chunk & 1));
    const float d = half_bits_to_float(raw.d) * 0.03125f;
    c.scale[0] = d * float(((raw.scales & 15) | ((high & 3) << 4)) - 32);
    c.scale[1] = d * float(((raw.scales >> 4) | ((high & 12) << 2)) - 32);
    c.offset[0] = c.offset[1] = 0;
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 110 * (chunk / 8);
    const int g = chunk % 8;
    for (int w = 0; w < 2; ++w)
      store_plane(row, 2 * chunk + w,
                  gather_bit_pairs(w, [&](int i) { return file_bit_pair(block + 32, g, i); }));
    store_plane(row + columns / 4, chunk, gather_high_bits([&](int i) { return block[i] >> g; }));
    uint8_t* rest = row + columns / 8 * 3;
    if (g == 0) copy_bytes(block + 108, rest + 2 * (chunk / 8), 2);
    // quant::unpack_q3_scales: group 2g and 2g + 1.
    const uint8_t* packed = block + 96;
    const int shift = g < 4 ? 0 : 4;
    rest[columns / 128 + chunk] =
        uint8_t(((packed[(2 * g) & 7] >> shift) & 15) | ((packed[(2 * g + 1) & 7] >> shift) & 15) << 4);
    if (g % 2 == 0) {
      int pairs = 0;
      for (int i = 0; i < 4; ++i) {
        const int group = 2 * g + i;
        pairs |= ((packed[8 + (group & 3)] >> (2 * (group >> 2))) & 3) << (2 * i);
      }
      rest[columns / 128 + columns / 32 + chunk / 2] = uint8_t(pairs);
    }
  }
};

// The scale and minimum of chunk g of a block, from d, dmin and 12 bytes of 6-bit scales and minima:
// quant::unpack_k_scales.
DW_DEVICE void set_k_scales(const uint4& header, int g, Chunk& c) {
  // Groups 0..3: six low bits of byte g; groups 4..7: a nibble of word w and two bits above the former.
  const int shift = 8 * (g & 3);
  const uint32_t s = header.y >> shift, m = header.z >> shift, high = header.w >> shift;
  const uint32_t scale = g < 4 ? s & 63 : (high & 15) | ((s >> 2) & 48);
  const uint32_t minimum = g < 4 ? m & 63 : ((high >> 4) & 15) | ((m >> 2) & 48);
  set_scale(c, half_bits_to_float(uint16_t(header.x)) * float(scale),
            -half_bits_to_float(uint16_t(header.x >> 16)) * float(minimum));
}
// 16 bytes of nibbles of chunk g of a block: byte i low weight i, high weight i + 16. The file's byte 32 p +
// l holds weight l of chunk 2p in its low nibble, of chunk 2p + 1 in its high one.
DW_DEVICE void repack_k_nibbles(const uint8_t* qs, int g, uint8_t* to) {
  const uint8_t* source = qs + 32 * (g / 2);
  const int shift = 4 * (g & 1);
  for (int i = 0; i < 16; ++i)
    to[i] = uint8_t(((source[i] >> shift) & 15) | ((source[i + 16] >> shift) & 15) << 4);
}

// Planes: quants [chunks][16] (byte i: weight i low, weight i + 16 high nibble), headers [blocks][16]: the
// file's d, dmin and 12 bytes of 6-bit scales and minima.
template <>
struct Weights<quant::Type::Q4_K> {
  static constexpr bool kTwoScales = false, kOffset = true, kFine = false;
  struct Raw {
    uint4 quants;
    uint4 header;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) { return uint64_t(columns) / 256 * 144; }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.header = load_plane<uint4>(row + columns / 2, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.quants);
    unrolled<4>([&](auto j) {
      c.q[j.value] = int(words.word[j.value] & 0x0f0f0f0fu);
      c.q[4 + j.value] = int((words.word[j.value] >> 4) & 0x0f0f0f0fu);
    });
    set_k_scales(raw.header, chunk & 7, c);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 144 * (chunk / 8);
    repack_k_nibbles(block + 16, chunk % 8, row + 16 * chunk);
    if (chunk % 8 == 0) copy_bytes(block, row + columns / 2 + 2 * chunk, 16);
  }
};

// As Q4_K with a plane of fifth bits [chunks] (gather_high_bits) behind the headers.
template <>
struct Weights<quant::Type::Q5_K> {
  static constexpr bool kTwoScales = false, kOffset = true, kFine = false;
  struct Raw {
    uint4 quants;
    uint4 header;
    uint32_t high;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) { return uint64_t(columns) / 256 * 176; }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.header = load_plane<uint4>(row + columns / 2, chunk / 8);
    raw.high = load_plane<uint32_t>(row + columns / 2 + columns / 16, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.quants);
    unrolled<8>([&](auto j) {
      const uint32_t low = shift_left<(j.value < 4 ? 0 : -4)>(words.word[j.value % 4]) & 0x0f0f0f0fu;
      c.q[j.value] = int(low | (shift_left<4 - j.value>(raw.high) & 0x10101010u));
    });
    set_k_scales(raw.header, chunk & 7, c);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 176 * (chunk / 8);
    const int g = chunk % 8;
    repack_k_nibbles(block + 48, g, row + 16 * chunk);
    if (g == 0) copy_bytes(block, row + columns / 2 + 2 * chunk, 16);
    store_plane(row + columns / 2 + columns / 16, chunk,
                gather_high_bits([&](int i) { return block[16 + i] >> g; }));
  }
};

// Planes: low nibbles [chunks][16] (byte i: weight i low, weight i + 16 high nibble), high bit pairs
// [chunks][2 words] (gather_bit_pairs), scales [chunks][2] int8, d [blocks] f16. q = 4 (code - 32).
template <>
struct Weights<quant::Type::Q6_K> {
  static constexpr bool kTwoScales = true, kOffset = false, kFine = true;
  struct Raw {
    uint4 low;
    uint2 high;
    uint16_t scales, d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 210);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.low = load_plane<uint4>(row, chunk);
    raw.high = load_plane<uint2>(row + columns / 2, chunk);
    raw.scales = load_plane<uint16_t>(row + columns / 4 * 3, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 4 * 3 + columns / 16, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.low);
    unrolled<8>([&](auto j) {
      const uint32_t low = shift_left<(j.value < 4 ? 2 : -2)>(words.word[j.value % 4]) & 0x3c3c3c3cu;
      const uint32_t pairs = j.value < 4 ? raw.high.x : raw.high.y;
      const uint32_t high = shift_left<6 - 2 * (j.value % 4)>(pairs) & 0xc0c0c0c0u;
      c.q[j.value] = int(low | (high ^ kSignBits));
    });
    const float d = half_bits_to_float(raw.d) * 0.25f;
    c.scale[0] = d * float(int8_t(raw.scales)), c.scale[1] = d * float(int8_t(raw.scales >> 8));
    c.offset[0] = c.offset[1] = 0;
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 210 * (chunk / 8);
    const int half = chunk % 8 / 4, part = chunk % 4;  // quant::BlockQ6_K: h and s
    const uint8_t* low = block + 64 * half + 32 * (part & 1);
    const uint8_t* high = block + 128 + 32 * half;
    const int shift = 4 * (part / 2);
    for (int i = 0; i < 16; ++i)
      row[16 * chunk + i] = uint8_t(((low[i] >> shift) & 15) | ((low[i + 16] >> shift) & 15) << 4);
    for (int w = 0; w < 2; ++w)
      store_plane(row + columns / 2, 2 * chunk + w,
                  gather_bit_pairs(w, [&](int i) { return high[i] >> (2 * part); }));
    copy_bytes(block + 192 + 2 * (chunk % 8), row + columns / 4 * 3 + 2 * chunk, 2);
    if (chunk % 8 == 0) copy_bytes(block + 208, row + columns / 4 * 3 + columns / 16 + 2 * (chunk / 8), 2);
  }
};

// Planes: quants [chunks][32], d [blocks] float. The file's sums are not kept.
template <>
struct Weights<quant::Type::Q8_K> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = true;
  struct Raw {
    int4 low, high;
    uint32_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 260);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.low = load_plane<int4>(row, 2 * chunk);
    raw.high = load_plane<int4>(row, 2 * chunk + 1);
    raw.d = load_plane<uint32_t>(row + columns, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    c.q[0] = raw.low.x, c.q[1] = raw.low.y, c.q[2] = raw.low.z, c.q[3] = raw.low.w;
    c.q[4] = raw.high.x, c.q[5] = raw.high.y, c.q[6] = raw.high.z, c.q[7] = raw.high.w;
    set_scale(c, __uint_as_float(raw.d));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 292 * (chunk / 8);
    copy_bytes(block + 4 + 32 * (chunk % 8), row + 32 * chunk, 32);
    if (chunk % 8 == 0) copy_bytes(block, row + columns + chunk / 2, 4);
  }
};

// Planes: quants [chunks][16] as in the file, headers [blocks][8]: the file's d and scales.
template <>
struct Weights<quant::Type::IQ4_XS> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint4 quants;
    uint2 header;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 136);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.header = load_plane<uint2>(row + columns / 2, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables&) {
    Chunk c;
    decode_table(raw.quants, iq4_table(), c);
    const int g = chunk & 7;
    const uint32_t scale = ((raw.header.y >> (4 * g)) & 15) | ((raw.header.x >> (16 + 2 * g)) & 3) << 4;
    set_scale(c, half_bits_to_float(uint16_t(raw.header.x)) * float(int(scale) - 32));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 136 * (chunk / 8);
    copy_bytes(block + 8 + 16 * (chunk % 8), row + 16 * chunk, 16);
    if (chunk % 8 == 0) copy_bytes(block, row + columns / 2 + chunk, 8);
  }
};

}  // namespace dw::gpu
