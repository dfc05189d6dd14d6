// Sixteen lanes of AVX-512, with the names the unpackers of matmul_unpack_*.h use. A lane is a row of the
// weight tile. Included only by *_avx512.cpp: everything has internal linkage, so that no function compiled
// for this instruction set can stand in for one of another file.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace dw::cpu {
namespace {

struct Simd512 {
  using Int = __m512i;
  using Float = __m512;
  static constexpr int kLanes = 16;

  static Int set8(int value) { return _mm512_set1_epi8(char(value)); }
  static Int set32(uint32_t value) { return _mm512_set1_epi32(int(value)); }
  static Int and_bits(Int a, Int b) { return _mm512_and_si512(a, b); }
  static Int xor_bits(Int a, Int b) { return _mm512_xor_si512(a, b); }
  static Int or_bits(Int a, Int b) { return _mm512_or_si512(a, b); }
  static Int and_or(Int a, Int mask, Int b) {
    return _mm512_ternarylogic_epi32(a, mask, b, 0xea);
  }  // a&mask|b
  template <int kBits>
  static Int right(Int a) {
    return kBits == 0 ? a : _mm512_srli_epi32(a, kBits);
  }
  template <int kBits>
  static Int left(Int a) {
    return kBits == 0 ? a : _mm512_slli_epi32(a, kBits);
  }
  template <int kBits>
  static Int right_signed(Int a) {
    return _mm512_srai_epi32(a, kBits);
  }
  static Int add32(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int multiply32(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  static Int multiply16(Int a, Int b) { return _mm512_mullo_epi16(a, b); }
  static Int table16(const int8_t* table) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  static Int at_least(Int a, Int limit, Int yes, Int no) {  // a >= limit ? yes : no
    return _mm512_mask_mov_epi32(no, _mm512_cmpge_epi32_mask(a, limit), yes);
  }
  static Float to_float(Int a) { return _mm512_cvtepi32_ps(a); }
  static Float as_float(Int a) { return _mm512_castsi512_ps(a); }
  // The binary16 in the low half of each lane; the high half is ignored.
  static Float half_to_float(Int a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
  static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float set(float value) { return _mm512_set1_ps(value); }
  static void store(void* to, Int a) { _mm512_store_si512(to, a); }
  static void store(float* to, Float a) { _mm512_store_ps(to, a); }

  // Byte k of each lane, zero-extended.
  template <int k>
  static Int byte(Int a) {
    const __m128i control =
        _mm_setr_epi32(int(0x80808000) + k, int(0x80808004) + k, int(0x80808008) + k, int(0x8080800c) + k);
    return _mm512_shuffle_epi8(a, _mm512_broadcast_i32x4(control));
  }
  // Looks up the low (or high) nibble of each byte in a table16.
  static Int lookup_low(Int table, Int bytes) { return _mm512_permutexvar_epi8(bytes, table); }
  static Int lookup_high(Int table, Int bytes) {  // a byte's bits 6 and 7 do not count: the table is periodic
    return _mm512_permutexvar_epi8(_mm512_srli_epi32(bytes, 4), table);
  }

  // Bits 4 k .. 4 k + 3 of each lane, one a byte, at bit 4.
  template <int k>
  static Int spread_nibble(Int a) {
    // Bytes of a 64-bit word: the 8 bits from the given position, counted modulo 64.
    constexpr uint64_t kLow = uint64_t((4 * k + 60) % 64) | uint64_t((4 * k + 61) % 64) << 8 |
                              uint64_t((4 * k + 62) % 64) << 16 | uint64_t((4 * k + 63) % 64) << 24;
    constexpr uint64_t kHigh = uint64_t(4 * k + 28) | uint64_t(4 * k + 29) << 8 | uint64_t(4 * k + 30) << 16 |
                               uint64_t(4 * k + 31) << 24;
    const Int shifted = _mm512_multishift_epi64_epi8(_mm512_set1_epi64(int64_t(kLow | kHigh << 32)), a);
    return _mm512_and_si512(shifted, set8(16));
  }

  static __m128i load16(const std::byte* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  static __m256i load_pair(const std::byte* low, const std::byte* high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(low)), load16(high), 1);
  }
  // Within each group of four lanes: out[j] lane i = in[i] lane j.
  static void transpose_quads(Int a, Int b, Int c, Int d, Int* out) {
    const Int ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
    const Int cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
    out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
  }

  // 16 bytes of each row, as 4 dwords: out[j] lane r = dword j of row r.
  static void load_columns4(const std::byte* rows, int64_t stride, Int* out) {
    Int quads[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const std::byte* row = rows + i * stride;
      quads[i] = _mm512_inserti64x4(_mm512_castsi256_si512(load_pair(row, row + 4 * stride)),
                                    load_pair(row + 8 * stride, row + 12 * stride), 1);
    }
    transpose_quads(quads[0], quads[1], quads[2], quads[3], out);
  }

  // out[lane c of j] of the four row groups -> whole columns: out[4 c + j].
  static void transpose(const Int (&in)[16], Int* out) {
    Int groups[4][4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q)
      transpose_quads(in[4 * q], in[4 * q + 1], in[4 * q + 2], in[4 * q + 3], groups[q]);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Int low01 = _mm512_shuffle_i32x4(groups[0][j], groups[1][j], 0x44);
      const Int low23 = _mm512_shuffle_i32x4(groups[2][j], groups[3][j], 0x44);
      const Int high01 = _mm512_shuffle_i32x4(groups[0][j], groups[1][j], 0xee);
      const Int high23 = _mm512_shuffle_i32x4(groups[2][j], groups[3][j], 0xee);
      out[j] = _mm512_shuffle_i32x4(low01, low23, 0x88);
      out[4 + j] = _mm512_shuffle_i32x4(low01, low23, 0xdd);
      out[8 + j] = _mm512_shuffle_i32x4(high01, high23, 0x88);
      out[12 + j] = _mm512_shuffle_i32x4(high01, high23, 0xdd);
    }
  }

  // One dword, two bytes or one byte of each row, zero-extended.
  static Int load_column(const std::byte* rows, int64_t stride) {
    __m128i quads[4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const std::byte* row = rows + 4 * q * stride;
      __m128i quad = _mm_loadu_si32(row);
      quad = _mm_insert_epi32(quad, load<int32_t>(row + stride), 1);
      quad = _mm_insert_epi32(quad, load<int32_t>(row + 2 * stride), 2);
      quads[q] = _mm_insert_epi32(quad, load<int32_t>(row + 3 * stride), 3);
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(quads[1], quads[0])),
                              _mm256_set_m128i(quads[3], quads[2]), 1);
  }
  static Int load_column16(const std::byte* rows, int64_t stride) {
    uint64_t words[4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const std::byte* row = rows + 4 * q * stride;
      words[q] = load<uint16_t>(row) | uint64_t(load<uint16_t>(row + stride)) << 16 |
                 uint64_t(load<uint16_t>(row + 2 * stride)) << 32 |
                 uint64_t(load<uint16_t>(row + 3 * stride)) << 48;
    }
    return _mm512_cvtepu16_epi32(
        _mm256_set_epi64x(int64_t(words[3]), int64_t(words[2]), int64_t(words[1]), int64_t(words[0])));
  }
  static Int load_column8(const std::byte* rows, int64_t stride) {
    uint64_t words[2] = {0, 0};
#pragma GCC unroll 16
    for (int r = 0; r < 16; ++r) words[r / 8] |= uint64_t(load<uint8_t>(rows + r * stride)) << (8 * (r % 8));
    return _mm512_cvtepu8_epi32(_mm_set_epi64x(int64_t(words[1]), int64_t(words[0])));
  }

  // Grid entries: 4 kLanes bytes of one row from 8- or 4-byte words, negated where the sign bit is set, plus
  // an offset.
  static Int combine(const uint64_t (&words)[8]) {
    return _mm512_set_epi64(int64_t(words[7]), int64_t(words[6]), int64_t(words[5]), int64_t(words[4]),
                            int64_t(words[3]), int64_t(words[2]), int64_t(words[1]), int64_t(words[0]));
  }
  static Int add8(Int a, Int b) {
    return _mm512_add_epi8(a, b);
  }
  static Int apply_signs(Int magnitudes, uint64_t signs, Int offset) {
    const Int sum = _mm512_add_epi8(offset, magnitudes);
    return _mm512_mask_sub_epi8(sum, __mmask64(signs), offset, magnitudes);
  }

  template <class T>
  static T load(const std::byte* from) {
    T value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }
};

}  // namespace
}  // namespace dw::cpu
