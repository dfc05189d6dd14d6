// The AVX-512 VNNI level: one register is 16 rows by 4 columns of quants (VPDPBUSD), or 16 rows of anything
// else. A kernel holds up to 8 tokens in registers and reads each weight once for them.
#include <immintrin.h>

#include "kernels/cpu/matmul_lanes_avx512.h"
#include "kernels/cpu/matmul_unpackers.h"

namespace dw::cpu {
namespace {

template <class T>
__m512 broadcast_float(const T* value) {
  return _mm512_set1_ps(*value);
}

int32_t load_dword(const int8_t* quants) {
  int32_t value;
  __builtin_memcpy(&value, quants, sizeof value);
  return value;
}

// accumulators[t] += quants [4 kSteps columns from step] . token t
template <int kTokens, int kSteps>
[[gnu::always_inline]] inline void dot_steps(const Panel& panel, const TokenUnit* tokens, int step,
                                             __m512i (&accumulators)[kTokens]) {
#pragma GCC unroll 8
  for (int i = 0; i < kSteps; ++i) {
    const __m512i weights = _mm512_load_si512(&panel.quants[step + i]);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
      accumulators[t] = _mm512_dpbusd_epi32(accumulators[t], weights,
                                            _mm512_set1_epi32(load_dword(tokens[t].quants + 4 * (step + i))));
  }
}

// integers[t] = dots of block b, times their integer scales if there are any
template <int kTokens, bool kScaled, int kGroup>
[[gnu::always_inline]] inline void dot_groups(const Panel& panel, const TokenUnit* tokens, int b,
                                              __m512i (&integers)[kTokens]) {
  if constexpr (kGroup == 32) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) integers[t] = _mm512_set1_epi32(tokens[t].bias[b]);
    dot_steps<kTokens, 8>(panel, tokens, 8 * b, integers);
    if constexpr (kScaled) {
      const __m512i scale = _mm512_load_si512(panel.scales[b]);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) integers[t] = _mm512_mullo_epi32(integers[t], scale);
    }
  } else {
    __m512i second[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) integers[t] = _mm512_set1_epi32(tokens[t].bias[2 * b]);
    dot_steps<kTokens, 4>(panel, tokens, 8 * b, integers);
    const __m512i first_scale = _mm512_load_si512(panel.scales[2 * b]);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      integers[t] = _mm512_mullo_epi32(integers[t], first_scale);
      second[t] = _mm512_set1_epi32(tokens[t].bias[2 * b + 1]);
    }
    dot_steps<kTokens, 4>(panel, tokens, 8 * b + 4, second);
    const __m512i second_scale = _mm512_load_si512(panel.scales[2 * b + 1]);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
      integers[t] = _mm512_add_epi32(integers[t], _mm512_mullo_epi32(second[t], second_scale));
  }
}

template <int kTokens, int kMinGroup>
void dot_block(const Panel& panel, const TokenUnit* tokens, int blocks, float* sums) {
  __m512 sum[kTokens];
  for (int t = 0; t < kTokens; ++t) sum[t] = _mm512_load_ps(sums + t * kRowTile);
  for (int b = 0; b < blocks; ++b) {
    __m512i integers[kTokens];
    dot_groups<kTokens, false, 32>(panel, tokens, b, integers);
    const __m512 d = _mm512_load_ps(panel.d[b]);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(tokens[t].scales[b]));
      sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers[t]), scale, sum[t]);
    }
    if constexpr (kMinGroup != 0) {
      const __m512 min = _mm512_load_ps(panel.mins[b]);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t)
        sum[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(tokens[t].sums[b]), sum[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) _mm512_store_ps(sums + t * kRowTile, sum[t]);
}

template <int kTokens, bool kScaled, int kGroup, int kMinGroup>
void dot_super(const Panel& panel, const TokenUnit* tokens, int, float* sums) {
  __m512 s[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) s[t] = _mm512_setzero_ps();
  for (int b = 0; b < kUnitBlocks; ++b) {
    __m512i integers[kTokens];
    dot_groups<kTokens, kScaled, kGroup>(panel, tokens, b, integers);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
      s[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers[t]), _mm512_set1_ps(tokens[t].scales[b]), s[t]);
  }
  const __m512 d = _mm512_load_ps(panel.d[0]);
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) s[t] = _mm512_fmadd_ps(d, s[t], _mm512_load_ps(sums + t * kRowTile));
  if constexpr (kMinGroup != 0) {
    __m512 m[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) m[t] = _mm512_setzero_ps();
    for (int g = 0; g < kUnitColumns / kMinGroup; ++g) {
      const __m512 min = _mm512_load_ps(panel.mins[g]);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) m[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(tokens[t].sums[g]), m[t]);
    }
    const __m512 dmin = _mm512_load_ps(panel.dmin);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) s[t] = _mm512_fnmadd_ps(dmin, m[t], s[t]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) _mm512_store_ps(sums + t * kRowTile, s[t]);
}

template <int kTokens>
DotFn dot_of(const Format& format) {
  if (format.scaling == Scaling::kBlock)
    return format.min_group ? dot_block<kTokens, 32> : dot_block<kTokens, 0>;
  if (!format.scaled)
    return format.min_group ? dot_super<kTokens, false, 32, 16> : dot_super<kTokens, false, 32, 0>;
  if (format.group == 16) return dot_super<kTokens, true, 16, 0>;
  return format.min_group ? dot_super<kTokens, true, 32, 32> : dot_super<kTokens, true, 32, 0>;
}

}  // namespace

TypeKernels avx512_kernels(quant::Type type) {
  TypeKernels kernels;
  kernels.unpack = find_unpacker<Simd512>(type);
  kernels.gemv = avx512_gemv(type);
  kernels.max_tokens = 8;
  const Format format = format_of(type);
  kernels.dot[1] = dot_of<1>(format);
  kernels.dot[2] = dot_of<2>(format);
  kernels.dot[3] = dot_of<3>(format);
  kernels.dot[4] = dot_of<4>(format);
  kernels.dot[5] = dot_of<5>(format);
  kernels.dot[6] = dot_of<6>(format);
  kernels.dot[7] = dot_of<7>(format);
  kernels.dot[8] = dot_of<8>(format);
  return kernels;
}

}  // namespace dw::cpu
