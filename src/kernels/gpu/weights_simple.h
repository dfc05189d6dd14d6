// Weight traits of the types of 32-element blocks; see weights.h.
#pragma once

#include "kernels/gpu/weights_base.h"

namespace dw::gpu {

// Planes: quants [chunks][32], scales [chunks] f16.
template <>
struct Weights<quant::Type::Q8_0> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = true;
  struct Raw {
    int4 low, high;
    uint16_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 32 * 34);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.low = load_plane<int4>(row, 2 * chunk);
    raw.high = load_plane<int4>(row, 2 * chunk + 1);
    raw.d = load_plane<uint16_t>(row + columns, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    c.q[0] = raw.low.x, c.q[1] = raw.low.y, c.q[2] = raw.low.z, c.q[3] = raw.low.w;
    c.q[4] = raw.high.x, c.q[5] = raw.high.y, c.q[6] = raw.high.z, c.q[7] = raw.high.w;
    set_scale(c, half_bits_to_float(raw.d));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 34 * chunk;
    copy_bytes(block + 2, row + 32 * chunk, 32);
    copy_bytes(block, row + columns + 2 * chunk, 2);
  }
};

// Planes: quants [chunks][16] as in the file, scales [chunks] f16. q = 16 (nibble - 8).
template <>
struct Weights<quant::Type::Q4_0> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint4 quants;
    uint16_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 32 * 18);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 2, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.quants);
    unrolled<4>([&](auto j) {
      c.q[j.value] = int(((words.word[j.value] << 4) & 0xf0f0f0f0u) ^ kSignBits);
      c.q[4 + j.value] = int((words.word[j.value] & 0xf0f0f0f0u) ^ kSignBits);
    });
    set_scale(c, half_bits_to_float(raw.d) * 0.0625f);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 18 * chunk;
    copy_bytes(block + 2, row + 16 * chunk, 16);
    copy_bytes(block, row + columns / 2 + 2 * chunk, 2);
  }
};

// Planes: quants [chunks][16] as in the file, scale and minimum [chunks] two f16.
template <>
struct Weights<quant::Type::Q4_1> {
  static constexpr bool kTwoScales = false, kOffset = true, kFine = false;
  struct Raw {
    uint4 quants;
    uint32_t dm;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 32 * 20);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.dm = load_plane<uint32_t>(row + columns / 2, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.quants);
    unrolled<4>([&](auto j) {
      c.q[j.value] = int(words.word[j.value] & 0x0f0f0f0fu);
      c.q[4 + j.value] = int((words.word[j.value] >> 4) & 0x0f0f0f0fu);
    });
    set_scale(c, half_bits_to_float(uint16_t(raw.dm)), half_bits_to_float(uint16_t(raw.dm >> 16)));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 20 * chunk;
    copy_bytes(block + 4, row + 16 * chunk, 16);
    copy_bytes(block, row + columns / 2 + 4 * chunk, 4);
  }
};

// Planes: quants [chunks][16] as in the file, fifth bits [chunks] (gather_high_bits), scales [chunks] f16.
// q = 8 (code - 16): the code in the high bits of a byte.
template <>
struct Weights<quant::Type::Q5_0> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint4 quants;
    uint32_t high;
    uint16_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 32 * 22);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.high = load_plane<uint32_t>(row + columns / 2, chunk);
    raw.d = load_plane<uint16_t>(row + columns / 8 * 5, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.quants);
    unrolled<8>([&](auto j) {
      const uint32_t low = shift_left<(j.value < 4 ? 3 : -1)>(words.word[j.value % 4]) & 0x78787878u;
      c.q[j.value] = int(low | ((shift_left<7 - j.value>(raw.high) & kSignBits) ^ kSignBits));
    });
    set_scale(c, half_bits_to_float(raw.d) * 0.125f);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 22 * chunk;
    copy_bytes(block + 6, row + 16 * chunk, 16);
    const uint32_t high = load_bytes<uint32_t>(block + 2);
    store_plane(row + columns / 2, chunk, gather_high_bits([&](int i) { return high >> i; }));
    copy_bytes(block, row + columns / 8 * 5 + 2 * chunk, 2);
  }
};

// As Q5_0 with scale and minimum [chunks] two f16; q = code.
template <>
struct Weights<quant::Type::Q5_1> {
  static constexpr bool kTwoScales = false, kOffset = true, kFine = false;
  struct Raw {
    uint4 quants;
    uint32_t high, dm;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 32 * 24);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.high = load_plane<uint32_t>(row + columns / 2, chunk);
    raw.dm = load_plane<uint32_t>(row + columns / 8 * 5, chunk);
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    const NibbleWords words = as_words(raw.quants);
    unrolled<8>([&](auto j) {
      const uint32_t low = shift_left<(j.value < 4 ? 0 : -4)>(words.word[j.value % 4]) & 0x0f0f0f0fu;
      c.q[j.value] = int(low | (shift_left<4 - j.value>(raw.high) & 0x10101010u));
    });
    set_scale(c, half_bits_to_float(uint16_t(raw.dm)), half_bits_to_float(uint16_t(raw.dm >> 16)));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 24 * chunk;
    copy_bytes(block + 8, row + 16 * chunk, 16);
    const uint32_t high = load_bytes<uint32_t>(block + 4);
    store_plane(row + columns / 2, chunk, gather_high_bits([&](int i) { return high >> i; }));
    copy_bytes(block, row + columns / 8 * 5 + 4 * chunk, 4);
  }
};

// Nibbles that stand for the entries of a table.
DW_DEVICE void decode_table(const uint4& quants, const NibbleTable& table, Chunk& c) {
  const NibbleWords words = as_words(quants);
  unrolled<4>([&](auto j) {
    const LookedUp values = look_up_nibbles(words.word[j.value], table);
    c.q[j.value] = values.low;
    c.q[4 + j.value] = values.high;
  });
}
// quant::kIq4NlValues and quant::kMxfp4Values (the test compares).
DW_DEVICE NibbleTable iq4_table() {
  return {{0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u}};
}
DW_DEVICE NibbleTable mxfp4_table() {
  return {{0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu}};
}

// Planes: quants [chunks][16] as in the file, scales [chunks] f16.
template <>
struct Weights<quant::Type::IQ4_NL> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  using Raw = Weights<quant::Type::Q4_0>::Raw;
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return Weights<quant::Type::Q4_0>::row_bytes(columns);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    return Weights<quant::Type::Q4_0>::fetch(row, columns, chunk);
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    decode_table(raw.quants, iq4_table(), c);
    set_scale(c, half_bits_to_float(raw.d));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    Weights<quant::Type::Q4_0>::repack(file, row, columns, chunk);
  }
};

// Planes: quants [chunks][16] as in the file, exponents [chunks].
template <>
struct Weights<quant::Type::MXFP4> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = false;
  struct Raw {
    uint4 quants;
    uint8_t e;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) / 32 * 17);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = load_plane<uint4>(row, chunk);
    raw.e = row[columns / 2 + chunk];
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    decode_table(raw.quants, mxfp4_table(), c);
    // quant::e8m0_half
    set_scale(c, __uint_as_float(raw.e < 2 ? 0x00200000u << raw.e : uint32_t(raw.e - 1) << 23));
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 17 * chunk;
    copy_bytes(block + 1, row + 16 * chunk, 16);
    row[columns / 2 + chunk] = block[0];
  }
};

}  // namespace dw::gpu
