// Eight lanes of AVX2: simd_avx512.h for this instruction set. Included only by *_avx2.cpp; internal linkage.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace dw::cpu {
namespace {

struct Simd256 {
  using Int = __m256i;
  using Float = __m256;
  static constexpr int kLanes = 8;

  static Int set8(int value) { return _mm256_set1_epi8(char(value)); }
  static Int set32(uint32_t value) { return _mm256_set1_epi32(int(value)); }
  static Int and_bits(Int a, Int b) { return _mm256_and_si256(a, b); }
  static Int xor_bits(Int a, Int b) { return _mm256_xor_si256(a, b); }
  static Int or_bits(Int a, Int b) { return _mm256_or_si256(a, b); }
  static Int and_or(Int a, Int mask, Int b) { return _mm256_or_si256(_mm256_and_si256(a, mask), b); }
  template <int kBits>
  static Int right(Int a) {
    return kBits == 0 ? a : _mm256_srli_epi32(a, kBits);
  }
  template <int kBits>
  static Int left(Int a) {
    return kBits == 0 ? a : _mm256_slli_epi32(a, kBits);
  }
  template <int kBits>
  static Int right_signed(Int a) {
    return _mm256_srai_epi32(a, kBits);
  }
  static Int add32(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int multiply32(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  static Int multiply16(Int a, Int b) { return _mm256_mullo_epi16(a, b); }
  static Int table16(const int8_t* table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  static Int at_least(Int a, Int limit, Int yes, Int no) {
    return _mm256_blendv_epi8(yes, no, _mm256_cmpgt_epi32(limit, a));
  }
  static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static Float as_float(Int a) { return _mm256_castsi256_ps(a); }
  static Float half_to_float(Int a) {
    const Int low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
    const Int packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  }
  static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float set(float value) { return _mm256_set1_ps(value); }
  static void store(void* to, Int a) { _mm256_store_si256(static_cast<__m256i*>(to), a); }
  static void store(float* to, Float a) { _mm256_store_ps(to, a); }

  // Byte k of each lane, zero-extended.
  template <int k>
  static Int byte(Int a) {
    return _mm256_and_si256(right<8 * k>(a), _mm256_set1_epi32(255));
  }
  // Looks up the low (or high) nibble of each byte in a table16.
  static Int lookup_low(Int table, Int bytes) {
    return _mm256_shuffle_epi8(table, _mm256_and_si256(bytes, set8(15)));
  }
  static Int lookup_high(Int table, Int bytes) { return lookup_low(table, right<4>(bytes)); }

  // Bits 4 k .. 4 k + 3 of each lane, one a byte, at bit 4.
  template <int k>
  static Int spread_nibble(Int a) {
    // A nibble times 1 + 2^7 + 2^14 + 2^21 has bit i of the nibble at bit 8 i.
    const Int nibble = _mm256_and_si256(right<4 * k>(a), _mm256_set1_epi32(15));
    const Int spread = _mm256_mullo_epi32(nibble, _mm256_set1_epi32(0x00204081 << 4));
    return _mm256_and_si256(spread, set8(16));
  }

  static __m128i load16(const std::byte* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  static Int load_pair(const std::byte* low, const std::byte* high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(low)), load16(high), 1);
  }
  static void transpose_quads(Int a, Int b, Int c, Int d, Int* out) {
    const Int ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
    const Int cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
    out[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
    out[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
    out[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
    out[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
  }

  // 16 bytes of each row, as 4 dwords: out[j] lane r = dword j of row r.
  static void load_columns4(const std::byte* rows, int64_t stride, Int* out) {
    transpose_quads(load_pair(rows, rows + 4 * stride), load_pair(rows + stride, rows + 5 * stride),
                    load_pair(rows + 2 * stride, rows + 6 * stride),
                    load_pair(rows + 3 * stride, rows + 7 * stride), out);
  }
  // The same from registers that hold the rows.
  static void transpose(const Int (&in)[8], Int* out) {
    Int low[4], high[4];
    transpose_quads(in[0], in[1], in[2], in[3], low);
    transpose_quads(in[4], in[5], in[6], in[7], high);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      out[j] = _mm256_permute2x128_si256(low[j], high[j], 0x20);
      out[4 + j] = _mm256_permute2x128_si256(low[j], high[j], 0x31);
    }
  }

  static Int load_column(const std::byte* rows, int64_t stride) {
    return _mm256_set_epi32(load<int32_t>(rows + 7 * stride), load<int32_t>(rows + 6 * stride),
                            load<int32_t>(rows + 5 * stride), load<int32_t>(rows + 4 * stride),
                            load<int32_t>(rows + 3 * stride), load<int32_t>(rows + 2 * stride),
                            load<int32_t>(rows + stride), load<int32_t>(rows));
  }
  static Int load_column16(const std::byte* rows, int64_t stride) {
    uint64_t words[2];
#pragma GCC unroll 2
    for (int q = 0; q < 2; ++q) {
      const std::byte* row = rows + 4 * q * stride;
      words[q] = load<uint16_t>(row) | uint64_t(load<uint16_t>(row + stride)) << 16 |
                 uint64_t(load<uint16_t>(row + 2 * stride)) << 32 |
                 uint64_t(load<uint16_t>(row + 3 * stride)) << 48;
    }
    return _mm256_cvtepu16_epi32(_mm_set_epi64x(int64_t(words[1]), int64_t(words[0])));
  }
  static Int load_column8(const std::byte* rows, int64_t stride) {
    uint64_t word = 0;
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) word |= uint64_t(load<uint8_t>(rows + r * stride)) << (8 * r);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(int64_t(word)));
  }

  static Int combine(const uint64_t (&words)[4]) {
    return _mm256_set_epi64x(int64_t(words[3]), int64_t(words[2]), int64_t(words[1]), int64_t(words[0]));
  }
  static Int add8(Int a, Int b) {
    return _mm256_add_epi8(a, b);
  }
  static Int apply_signs(Int magnitudes, uint64_t signs, Int offset) {
    const Int bytes = _mm256_shuffle_epi8(
        _mm256_set1_epi32(int32_t(signs)),
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    const Int bits = _mm256_set1_epi64x(int64_t(0x8040201008040201));
    const Int minus = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
    return _mm256_add_epi8(offset, _mm256_sub_epi8(_mm256_xor_si256(magnitudes, minus), minus));
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
