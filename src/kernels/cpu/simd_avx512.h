// Vectors of 16 floats for AVX-512 F, BW, VL, DQ.
#pragma once

// GCC 12 takes the deliberately undefined registers of its own header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "kernels/cpu/simd.h"

namespace dw::cpu {

struct VecAvx512 {
  using Reg = __m512;
  static constexpr int64_t kWidth = 16;
  static constexpr int kTileRows = 8;      // of a register tile of the small GEMM
  static constexpr int kTileVectors = 2;   // 16 accumulators of 32 registers
  static constexpr int kStateVectors = 8;  // columns of the recurrent state at once
  static constexpr int kSolveRows = 16;    // rows of a triangular solve kept in registers

  static DW_INLINE Reg zero() { return _mm512_setzero_ps(); }
  static DW_INLINE Reg set(float x) { return _mm512_set1_ps(x); }
  static DW_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  static DW_INLINE void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  static DW_INLINE Reg load_partial(const float* p, int64_t n) {
    return _mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p);
  }
  static DW_INLINE void store_partial(float* p, Reg x, int64_t n) {
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), x);
  }
  static DW_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static DW_INLINE Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  static DW_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static DW_INLINE Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  static DW_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  // max and min give b when either is NaN.
  static DW_INLINE Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
  static DW_INLINE Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
  static DW_INLINE Reg abs(Reg a) { return _mm512_abs_ps(a); }
  static DW_INLINE Reg round(Reg a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static DW_INLINE Reg scale_by_power_of_two(Reg a, Reg n) { return _mm512_scalef_ps(a, n); }
  static DW_INLINE Reg zero_if_less(Reg x, Reg bound, Reg y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), y);
  }
  static DW_INLINE Reg select_less(Reg a, Reg b, Reg yes, Reg no) {
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
  }
  static DW_INLINE uint32_t equal_bits(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  static DW_INLINE float reduce_add(Reg a) { return _mm512_reduce_add_ps(a); }
  // Lane i: the sum of the lanes of x[i].
  static DW_INLINE Reg sum_each(const Reg x[16]) {
    Reg pairs[8], fours[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      pairs[i] = add(_mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]), _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
      fours[i] = add(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    const Reg low = add_quarters(fours[0], fours[1]), high = add_quarters(fours[2], fours[3]);
    return add_quarters(low, high);
  }
  static DW_INLINE Reg add_quarters(Reg a, Reg b) {
    return add(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  }
  static DW_INLINE float reduce_max(Reg a) {
    return _mm512_reduce_max_ps(a);
  }

  static DW_INLINE Reg load_half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static DW_INLINE void store_half(uint16_t* p, Reg x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static DW_INLINE float from_half(uint16_t h) {
    return _cvtsh_ss(h);
  }
  static DW_INLINE uint16_t to_half(float x) {
    return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
  }
  static DW_INLINE Reg load_int8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static DW_INLINE void store_int8(int8_t* p, Reg x) {  // x holds whole numbers
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
  }
};

}  // namespace dw::cpu
