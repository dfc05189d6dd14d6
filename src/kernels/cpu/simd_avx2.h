// Vectors of 8 floats for AVX2 + FMA + F16C.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/simd.h"

namespace dw::cpu {

struct VecAvx2 {
  using Reg = __m256;
  static constexpr int64_t kWidth = 8;
  static constexpr int kTileRows = 4;      // of a register tile of the small GEMM
  static constexpr int kTileVectors = 2;   // 8 accumulators of 16 registers
  static constexpr int kStateVectors = 4;  // columns of the recurrent state at once
  static constexpr int kSolveRows = 8;     // rows of a triangular solve kept in registers

  static DW_INLINE Reg zero() { return _mm256_setzero_ps(); }
  static DW_INLINE Reg set(float x) { return _mm256_set1_ps(x); }
  static DW_INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  static DW_INLINE void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  static DW_INLINE __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static DW_INLINE Reg load_partial(const float* p, int64_t n) {
    return _mm256_maskload_ps(p, first_lanes(n));
  }
  static DW_INLINE void store_partial(float* p, Reg x, int64_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), x);
  }
  static DW_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static DW_INLINE Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  static DW_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static DW_INLINE Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  static DW_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  // max and min give b when either is NaN.
  static DW_INLINE Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  static DW_INLINE Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  static DW_INLINE Reg abs(Reg a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static DW_INLINE Reg round(Reg a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // n in [-126, 127]
  static DW_INLINE Reg scale_by_power_of_two(Reg a, Reg n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }
  static DW_INLINE Reg zero_if_less(Reg x, Reg bound, Reg y) {
    return _mm256_and_ps(_mm256_cmp_ps(x, bound, _CMP_NLT_UQ), y);
  }
  static DW_INLINE Reg select_less(Reg a, Reg b, Reg yes, Reg no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }
  static DW_INLINE uint32_t equal_bits(Reg a, Reg b) {
    return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
  }
  static DW_INLINE float reduce_add(Reg a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  // Lane i: the sum of the lanes of x[i].
  static DW_INLINE Reg sum_each(const Reg x[8]) {
    const Reg low = _mm256_hadd_ps(_mm256_hadd_ps(x[0], x[1]), _mm256_hadd_ps(x[2], x[3]));
    const Reg high = _mm256_hadd_ps(_mm256_hadd_ps(x[4], x[5]), _mm256_hadd_ps(x[6], x[7]));
    return add(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
  }
  static DW_INLINE float reduce_max(Reg a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }

  static DW_INLINE Reg load_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static DW_INLINE void store_half(uint16_t* p, Reg x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  static DW_INLINE float from_half(uint16_t h) { return _cvtsh_ss(h); }
  static DW_INLINE uint16_t to_half(float x) { return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
  static DW_INLINE Reg load_int8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static DW_INLINE void store_int8(int8_t* p, Reg x) {  // x holds whole numbers
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }
};

}  // namespace dw::cpu
