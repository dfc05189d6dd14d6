// What the weight traits of all families share; see weights.h.
#pragma once

#include <cstdint>

#include "kernels/gpu/compat.h"
#include "quant/types.h"

namespace dw::gpu {

// Grids of the IQ types in device memory (quant/iq_tables.h).
struct IqTables {
  const uint64_t* iq2xxs = nullptr;
  const uint64_t* iq2xs = nullptr;
  const uint64_t* iq2s = nullptr;
  const uint32_t* iq3xxs = nullptr;
  const uint32_t* iq3s = nullptr;
  const uint64_t* iq1 = nullptr;
};

struct Chunk {
  int q[8];  // q[j]: weights 4j .. 4j + 3, a byte each
  float scale[2];
  float offset[2];
};

template <quant::Type kType>
struct Weights;

// F32, F16 and BF16; false: quantised.
inline constexpr __host__ __device__ bool is_float_type(quant::Type type) {
  return type == quant::Type::F32 || type == quant::Type::F16 || type == quant::Type::BF16;
}

inline constexpr __host__ __device__ uint64_t round_up_16(uint64_t n) {
  return (n + 15) / 16 * 16;
}

// Element `index` of a plane that begins at `plane`.
template <class Word>
DW_DEVICE Word load_plane(const uint8_t* plane, int index) {
  return reinterpret_cast<const Word*>(plane)[index];
}

// A file's bytes at any address, in ascending order of significance.
template <class Word>
DW_DEVICE Word load_bytes(const uint8_t* from) {
  Word word = 0;
  for (int i = 0; i < int(sizeof(Word)); ++i) word |= Word(Word(from[i]) << (8 * i));
  return word;
}
DW_DEVICE void copy_bytes(const uint8_t* from, uint8_t* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = from[i];
}
template <class Word>
DW_DEVICE void store_plane(uint8_t* plane, int index, Word word) {
  reinterpret_cast<Word*>(plane)[index] = word;
}

DW_DEVICE void set_scale(Chunk& c, float scale, float offset = 0) {
  c.scale[0] = c.scale[1] = scale;
  c.offset[0] = c.offset[1] = offset;
}

// Nibbles of 16 bytes: byte i holds weight i in its low and i + 16 in its high nibble.
struct NibbleWords {
  uint32_t word[4];
};
DW_DEVICE NibbleWords as_words(const uint4& v) {
  return {{v.x, v.y, v.z, v.w}};
}

// Puts bit kBit of weights of a chunk together so that one shift brings bit j of each byte to weights 4j ..
// 4j + 3: bit 8 k + j belongs to weight 4j + k. bit(i): of weight i.
template <class Bit>
DW_DEVICE uint32_t gather_high_bits(const Bit& bit) {
  uint32_t word = 0;
  for (int i = 0; i < 32; ++i) word |= uint32_t(bit(i) & 1) << (8 * (i % 4) + i / 4);
  return word;
}
// Two bits each, in two words: bits 2s and 2s + 1 of byte k of word w belong to weight 16 w + 4 s + k.
template <class Bits>
DW_DEVICE uint32_t gather_bit_pairs(int w, const Bits& bits) {
  uint32_t word = 0;
  for (int i = 0; i < 16; ++i) word |= uint32_t(bits(16 * w + i) & 3) << (8 * (i % 4) + 2 * (i / 4));
  return word;
}

// Bit 7 of each byte flipped: an unsigned byte less 128, as a signed one.
inline constexpr uint32_t kSignBits = 0x80808080u;

// Shift to the left by a constant of either sign.
template <int kLeft>
DW_DEVICE uint32_t shift_left(uint32_t word) {
  if constexpr (kLeft >= 0)
    return word << kLeft;
  else
    return word >> -kLeft;
}

// visit(Type constant) for constants 0..kCount-1, unrolled.
template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};
template <int kCount, class Visit>
DW_DEVICE void unrolled(const Visit& visit) {
  if constexpr (kCount > 0) {
    unrolled<kCount - 1>(visit);
    visit(Constant<kCount - 1>{});
  }
}

// Sixteen bytes looked up by nibble: low[k] = table[low nibble of byte k], high the same of high nibbles.
struct NibbleTable {
  uint32_t words[4];
};
struct LookedUp {
  int low, high;
};
DW_DEVICE LookedUp look_up_nibbles(uint32_t nibbles, const NibbleTable& table) {
#if defined(DW_GPU_CUDA)
  // __byte_perm selects by the low three bits of a nibble; a second selection by the fourth bit.
  const uint32_t pick = 0x32103210u | ((nibbles & 0x88888888u) >> 1);
  const uint32_t first = __byte_perm(__byte_perm(table.words[0], table.words[1], nibbles),
                                     __byte_perm(table.words[2], table.words[3], nibbles), pick);
  const uint32_t rest = nibbles >> 16;
  const uint32_t second = __byte_perm(__byte_perm(table.words[0], table.words[1], rest),
                                      __byte_perm(table.words[2], table.words[3], rest), pick >> 16);
  return {int(__byte_perm(first, second, 0x6420)), int(__byte_perm(first, second, 0x7531))};
#else
  const auto four = [&](uint32_t indices) {
    const uint32_t low = select_bytes(table.words[0], table.words[1], indices & 0x07070707u);
    const uint32_t high = select_bytes(table.words[2], table.words[3], indices & 0x07070707u);
    const uint32_t mask = ((indices >> 3) & 0x01010101u) * 255u;
    return int((low & ~mask) | (high & mask));
  };
  return {four(nibbles & 0x0f0f0f0fu), four((nibbles >> 4) & 0x0f0f0f0fu)};
#endif
}

}  // namespace dw::gpu
