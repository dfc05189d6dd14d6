// Weight traits of the grid types; see weights.h. Chunk c is chunk c % 8 of block c / 8.
#pragma once

#include "kernels/gpu/weights_base.h"

namespace dw::gpu {

// Four bytes, negated where a bit of signs (0..15) is set; bytes are 1..127.
DW_DEVICE int apply_signs(uint32_t bytes, uint32_t signs) {
  const uint32_t ones = (signs * 0x00204081u) & 0x01010101u;
  return int((bytes ^ (ones * 255u)) + ones);
}
DW_DEVICE void put_signed(uint64_t entry, uint32_t signs, int* q) {
  q[0] = apply_signs(uint32_t(entry), signs & 15);
  q[1] = apply_signs(uint32_t(entry >> 32), (signs >> 4) & 15);
}
// Seven stored sign bits and the eighth that makes their number even.
DW_DEVICE uint32_t eight_signs(uint32_t seven) {
  return seven | (uint32_t(__popc(seven)) & 1) << 7;
}

// d (0.5 + code) / 4
DW_DEVICE float iq2_scale(uint16_t d, uint32_t code) {
  return half_bits_to_float(d) * (0.5f + float(code)) * 0.25f;
}

// Planes: [chunks][2 words] as in the file (four grid indices; four sign codes and the scale), d [blocks]
// f16.
template <>
struct Weights<quant::Type::IQ2_XXS> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint2 codes;
    uint16_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 66);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.codes = load_plane<uint2>(row, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 4, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables& tables) {
    Chunk c;
    unrolled<4>([&](auto j) {
      put_signed(tables.iq2xxs[(raw.codes.x >> (8 * j.value)) & 255],
                 eight_signs((raw.codes.y >> (7 * j.value)) & 127), c.q + 2 * j.value);
    });
    set_scale(c, iq2_scale(raw.d, raw.codes.y >> 28));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 66 * (chunk / 8);
    copy_bytes(block + 2 + 8 * (chunk % 8), row + 8 * chunk, 8);
    if (chunk % 8 == 0) copy_bytes(block, row + columns / 4 + chunk / 4, 2);
  }
};

// Planes: [chunks][4] u16 as in the file (index and sign code), d [blocks] f16, scales [chunks].
template <>
struct Weights<quant::Type::IQ2_XS> {
  static constexpr bool kTwoScales = true, kOffset = false, kFine = false;
  struct Raw {
    uint2 codes;
    uint16_t d;
    uint8_t scales;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 74);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.codes = load_plane<uint2>(row, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 4, chunk / 8);
    raw.scales = row[columns / 4 + columns / 128 + chunk];
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables& tables) {
    Chunk c;
    unrolled<4>([&](auto j) {
      const uint32_t code = (j.value < 2 ? raw.codes.x : raw.codes.y) >> (16 * (j.value % 2));
      put_signed(tables.iq2xs[code & 511], eight_signs((code >> 9) & 127), c.q + 2 * j.value);
    });
    c.scale[0] = iq2_scale(raw.d, raw.scales & 15), c.scale[1] = iq2_scale(raw.d, raw.scales >> 4);
    c.offset[0] = c.offset[1] = 0;
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 74 * (chunk / 8);
    copy_bytes(block + 2 + 8 * (chunk % 8), row + 8 * chunk, 8);
    uint8_t* rest = row + columns / 4;
    if (chunk % 8 == 0) copy_bytes(block, rest + chunk / 4, 2);
    rest[columns / 128 + chunk] = block[66 + chunk % 8];
  }
};

// Planes: [chunks][2 words] (low index bytes; signs), d [blocks] f16, [chunks][2] (high index bits; scales).
template <>
struct Weights<quant::Type::IQ2_S> {
  static constexpr bool kTwoScales = true, kOffset = false, kFine = false;
  struct Raw {
    uint2 codes;
    uint16_t d, rest;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 82);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.codes = load_plane<uint2>(row, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 4, chunk / 8);
    raw.rest = load_plane<uint16_t>(row + columns / 4 + columns / 128, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables& tables) {
    Chunk c;
    unrolled<4>([&](auto j) {
      const uint32_t index =
          ((raw.codes.x >> (8 * j.value)) & 255) | (shift_left<8 - 2 * j.value>(uint32_t(raw.rest)) & 0x300);
      put_signed(tables.iq2s[index], (raw.codes.y >> (8 * j.value)) & 255, c.q + 2 * j.value);
    });
    c.scale[0] = iq2_scale(raw.d, (raw.rest >> 8) & 15), c.scale[1] = iq2_scale(raw.d, raw.rest >> 12);
    c.offset[0] = c.offset[1] = 0;
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 82 * (chunk / 8);
    const int g = chunk % 8;
    copy_bytes(block + 2 + 4 * g, row + 8 * chunk, 4);
    copy_bytes(block + 34 + 4 * g, row + 8 * chunk + 4, 4);
    uint8_t* rest = row + columns / 4;
    if (g == 0) copy_bytes(block, rest + chunk / 4, 2);
    rest[columns / 128 + 2 * chunk] = block[66 + g];
    rest[columns / 128 + 2 * chunk + 1] = block[74 + g];
  }
};

// Planes: grid indices [chunks][8], signs and scale [chunks] as in the file, d [blocks] f16.
template <>
struct Weights<quant::Type::IQ3_XXS> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint2 codes;
    uint32_t signs;
    uint16_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 98);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.codes = load_plane<uint2>(row, chunk);
    raw.signs = load_plane<uint32_t>(row + columns / 4, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 8 * 3, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables& tables) {
    Chunk c;
    unrolled<8>([&](auto j) {
      const uint32_t index = ((j.value < 4 ? raw.codes.x : raw.codes.y) >> (8 * (j.value % 4))) & 255;
      const uint32_t signs = eight_signs((raw.signs >> (7 * (j.value / 2))) & 127);
      c.q[j.value] = apply_signs(tables.iq3xxs[index], (signs >> (4 * (j.value % 2))) & 15);
    });
    set_scale(c, half_bits_to_float(raw.d) * (0.5f + float(raw.signs >> 28)) * 0.5f);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 98 * (chunk / 8);
    const int g = chunk % 8;
    copy_bytes(block + 2 + 8 * g, row + 8 * chunk, 8);
    copy_bytes(block + 66 + 4 * g, row + columns / 4 + 4 * chunk, 4);
    if (g == 0) copy_bytes(block, row + columns / 8 * 3 + chunk / 4, 2);
  }
};

// Planes: low index bytes [chunks][8], signs [chunks][4], d [blocks] f16, ninth index bits [chunks], scales
// [chunks / 2] nibbles.
template <>
struct Weights<quant::Type::IQ3_S> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint2 codes;
    uint32_t signs;
    uint16_t d;
    uint8_t high, scales;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 110);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    const uint8_t* rest = row + columns / 8 * 3;
    Raw raw;
    raw.codes = load_plane<uint2>(row, chunk);
    raw.signs = load_plane<uint32_t>(row + columns / 4, chunk);
    raw.d = load_plane<uint16_t>(rest, chunk / 8);
    raw.high = rest[columns / 128 + chunk];
    raw.scales = rest[columns / 128 + columns / 32 + chunk / 2];
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables& tables) {
    Chunk c;
    unrolled<8>([&](auto j) {
      const uint32_t low = ((j.value < 4 ? raw.codes.x : raw.codes.y) >> (8 * (j.value % 4))) & 255;
      const uint32_t index = low | (shift_left<8 - j.value>(uint32_t(raw.high)) & 256);
      c.q[j.value] = apply_signs(tables.iq3s[index], (raw.signs >> (4 * j.value)) & 15);
    });
    const int code = (raw.scales >> (4 * (chunk & 1))) & 15;
    set_scale(c, half_bits_to_float(raw.d) * float(1 + 2 * code));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 110 * (chunk / 8);
    const int g = chunk % 8;
    copy_bytes(block + 2 + 8 * g, row + 8 * chunk, 8);
    copy_bytes(block + 74 + 4 * g, row + columns / 4 + 4 * chunk, 4);
    uint8_t* rest = row + columns / 8 * 3;
    if (g == 0) copy_bytes(block, rest + chunk / 4, 2);
    rest[columns / 128 + chunk] = block[66 + g];
    if (g % 2 == 0) rest[columns / 128 + columns / 32 + chunk / 2] = block[106 + g / 2];
  }
};

// Eight weights of the IQ1 grid as 8 g + 1, or 8 g - 1 where `minus` is set: g is -1, 0 or 1 and the shift of
// the type is 1/8.
DW_DEVICE void put_shifted(uint64_t entry, uint32_t minus, int* q) {
  const uint32_t shift = minus != 0 ? 0u - 0x01010101u : 0x01010101u;
  q[0] = int(((((uint32_t(entry) << 3) & 0xf8f8f8f8u) ^ kSignBits) + shift) ^ kSignBits);
  q[1] = int(((((uint32_t(entry >> 32) << 3) & 0xf8f8f8f8u) ^ kSignBits) + shift) ^ kSignBits);
}

// Planes: low index bytes [chunks][4], [chunks] u16 as in the file (high index bits, scale, sign of the
// shift), d [blocks] f16.
template <>
struct Weights<quant::Type::IQ1_S> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint32_t low;
    uint16_t high, d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 50);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.low = load_plane<uint32_t>(row, chunk);
    raw.high = load_plane<uint16_t>(row + columns / 8, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 16 * 3, chunk / 8);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables& tables) {
    Chunk c;
    const uint32_t high = raw.high;
    unrolled<4>([&](auto j) {
      const uint32_t index = ((raw.low >> (8 * j.value)) & 255) | (shift_left<8 - 3 * j.value>(high) & 0x700);
      put_shifted(tables.iq1[index], high & 0x8000u, c.q + 2 * j.value);
    });
    set_scale(c, half_bits_to_float(raw.d) * 0.125f * float(2 * ((high >> 12) & 7) + 1));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 50 * (chunk / 8);
    const int g = chunk % 8;
    copy_bytes(block + 2 + 4 * g, row + 4 * chunk, 4);
    copy_bytes(block + 34 + 2 * g, row + columns / 8 + 2 * chunk, 2);
    if (g == 0) copy_bytes(block, row + columns / 16 * 3 + chunk / 4, 2);
  }
};

// Planes: scales [blocks][8] as in the file (with d in them), low index bytes [chunks][4], [chunks] u16: a
// nibble of high index bits and sign for each eight weights.
template <>
struct Weights<quant::Type::IQ1_M> {
  static constexpr bool kTwoScales = true, kOffset = false, kFine = false;
  struct Raw {
    uint2 scales;
    uint32_t low;
    uint16_t high;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 256 * 56);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    const uint8_t* rest = row + columns / 32;
    Raw raw;
    raw.scales = load_plane<uint2>(row, chunk / 8);
    raw.low = load_plane<uint32_t>(rest, chunk);
    raw.high = load_plane<uint16_t>(rest + columns / 8, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables& tables) {
    Chunk c;
    const uint32_t high = raw.high;
    unrolled<4>([&](auto j) {
      const uint32_t index = ((raw.low >> (8 * j.value)) & 255) | (shift_left<8 - 4 * j.value>(high) & 0x700);
      put_shifted(tables.iq1[index], high & (8u << (4 * j.value)), c.q + 2 * j.value);
    });
    const uint32_t x = raw.scales.x, y = raw.scales.y;
    const uint32_t d = ((x >> 12) & 0xf) | ((x >> 24) & 0xf0) | ((y >> 4) & 0xf00) | ((y >> 16) & 0xf000);
    const int g = chunk & 7;
    const uint32_t codes = ((g < 4 ? x : y) >> (16 * (g / 2 % 2))) >> (6 * (g & 1));
    const float scale = half_bits_to_float(uint16_t(d)) * 0.125f;
    c.scale[0] = scale * float(2 * (codes & 7) + 1), c.scale[1] = scale * float(2 * ((codes >> 3) & 7) + 1);
    c.offset[0] = c.offset[1] = 0;
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 56 * (chunk / 8);
    const int g = chunk % 8;
    uint8_t* rest = row + columns / 32;
    if (g == 0) copy_bytes(block + 48, row + chunk, 8);
    copy_bytes(block + 4 * g, rest + 4 * chunk, 4);
    copy_bytes(block + 32 + 2 * g, rest + columns / 8 + 2 * chunk, 2);
  }
};

}  // namespace dw::gpu
