// The AVX2 level: one register is 8 rows by 4 columns of quants. VPMADDUBSW adds pairs of u8 x s8 products in
// 16 bits, so it is used as it stands while u <= 129 (no overflow: 2 * 129 * 127 < 2^15); larger quants
// (8-bit types) are made signed first and their sign is moved to the activations.
#include <immintrin.h>

#include "kernels/cpu/matmul_lanes_avx2.h"
#include "kernels/cpu/matmul_unpackers.h"

namespace dw::cpu {
namespace {

constexpr int kHalf = 8;  // rows of a register

// How many pair sums of u <= max_quant fit in 16 bits before they must be widened.
constexpr int pair_sums(int max_quant) {
  const int count = 32767 / (2 * 127 * max_quant);
  return count >= 8 ? 8 : count >= 4 ? 4 : count >= 2 ? 2 : count;
}

__m256i broadcast_dword(const int8_t* quants) {
  int32_t value;
  __builtin_memcpy(&value, quants, sizeof value);
  return _mm256_set1_epi32(value);
}

// accumulators[t] += quants [4 kSteps columns from step] . token t, kPairs: pair_sums (0: signed quants)
template <int kTokens, int kSteps, int kPairs>
[[gnu::always_inline]] inline void dot_steps(const Panel& panel, const TokenUnit* tokens, int half, int step,
                                             __m256i (&accumulators)[kTokens]) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i flip = _mm256_set1_epi8(char(0x80));
  constexpr int kRun = kPairs == 0 ? 1 : kPairs < kSteps ? kPairs : kSteps;
#pragma GCC unroll 8
  for (int begin = 0; begin < kSteps; begin += kRun) {
    __m256i pairs[kTokens];
#pragma GCC unroll 8
    for (int i = begin; i < begin + kRun; ++i) {
      __m256i weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel.quants[step + i][half]));
      __m256i magnitudes = weights;
      if constexpr (kPairs == 0) {
        weights = _mm256_xor_si256(weights, flip);
        magnitudes = _mm256_abs_epi8(weights);
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        __m256i activations = broadcast_dword(tokens[t].quants + 4 * (step + i));
        if constexpr (kPairs == 0) activations = _mm256_sign_epi8(activations, weights);
        const __m256i products = _mm256_maddubs_epi16(magnitudes, activations);
        pairs[t] = i == begin ? products : _mm256_add_epi16(pairs[t], products);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
      accumulators[t] = _mm256_add_epi32(accumulators[t], _mm256_madd_epi16(pairs[t], ones));
  }
}

__m256i load_integers(const int32_t* from) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
}

// The dots of block b, times their integer scales if there are any.
template <quant::Type kType, int kTokens>
[[gnu::always_inline]] inline void dot_groups(const Panel& panel, const TokenUnit* tokens, int half, int b,
                                              __m256i (&integers)[kTokens]) {
  constexpr Format kFormat = format_of(kType);
  constexpr int kPairs = pair_sums(kFormat.max_quant);
  constexpr int kGroups = 32 / kFormat.group;
#pragma GCC unroll 2
  for (int part = 0; part < kGroups; ++part) {
    const int group = kGroups * b + part;
    __m256i dots[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)  // signed quants have no offset left
      dots[t] = kPairs == 0 ? _mm256_setzero_si256() : _mm256_set1_epi32(tokens[t].bias[group]);
    dot_steps<kTokens, kFormat.group / 4, kPairs>(panel, tokens, half, kFormat.group / 4 * group, dots);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      if constexpr (kFormat.scaled)
        dots[t] = _mm256_mullo_epi32(dots[t], load_integers(panel.scales[group] + half));
      integers[t] = part == 0 ? dots[t] : _mm256_add_epi32(integers[t], dots[t]);
    }
  }
}

template <quant::Type kType, int kTokens>
void dot_block_half(const Panel& panel, const TokenUnit* tokens, int blocks, int half, float* sums) {
  __m256 sum[kTokens];
  for (int t = 0; t < kTokens; ++t) sum[t] = _mm256_load_ps(sums + t * kRowTile + half);
  for (int b = 0; b < blocks; ++b) {
    __m256i integers[kTokens];
    dot_groups<kType, kTokens>(panel, tokens, half, b, integers);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const __m256 scale =
          _mm256_mul_ps(_mm256_load_ps(panel.d[b] + half), _mm256_set1_ps(tokens[t].scales[b]));
      sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers[t]), scale, sum[t]);
      if constexpr (format_of(kType).min_group != 0)
        sum[t] =
            _mm256_fmadd_ps(_mm256_load_ps(panel.mins[b] + half), _mm256_set1_ps(tokens[t].sums[b]), sum[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) _mm256_store_ps(sums + t * kRowTile + half, sum[t]);
}

template <quant::Type kType, int kTokens>
void dot_super_half(const Panel& panel, const TokenUnit* tokens, int half, float* sums) {
  constexpr int kMinGroup = format_of(kType).min_group;
  __m256 s[kTokens];
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) s[t] = _mm256_setzero_ps();
  for (int b = 0; b < kUnitBlocks; ++b) {
    __m256i integers[kTokens];
    dot_groups<kType, kTokens>(panel, tokens, half, b, integers);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t)
      s[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers[t]), _mm256_set1_ps(tokens[t].scales[b]), s[t]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t)
    s[t] =
        _mm256_fmadd_ps(_mm256_load_ps(panel.d[0] + half), s[t], _mm256_load_ps(sums + t * kRowTile + half));
  if constexpr (kMinGroup != 0) {
    __m256 m[kTokens];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) m[t] = _mm256_setzero_ps();
    for (int g = 0; g < kUnitColumns / kMinGroup; ++g) {
      const __m256 min = _mm256_load_ps(panel.mins[g] + half);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) m[t] = _mm256_fmadd_ps(min, _mm256_set1_ps(tokens[t].sums[g]), m[t]);
    }
    const __m256 dmin = _mm256_load_ps(panel.dmin + half);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) s[t] = _mm256_fnmadd_ps(dmin, m[t], s[t]);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTokens; ++t) _mm256_store_ps(sums + t * kRowTile + half, s[t]);
}

template <quant::Type kType, int kTokens>
void dot(const Panel& panel, const TokenUnit* tokens, int blocks, float* sums) {
  for (int half = 0; half < kRowTile; half += kHalf) {
    if constexpr (format_of(kType).scaling == Scaling::kBlock)
      dot_block_half<kType, kTokens>(panel, tokens, blocks, half, sums);
    else
      dot_super_half<kType, kTokens>(panel, tokens, half, sums);
  }
}

template <quant::Type kType>
void set_dots(TypeKernels& kernels) {
  kernels.dot[1] = dot<kType, 1>;
  kernels.dot[2] = dot<kType, 2>;
  kernels.dot[3] = dot<kType, 3>;
  kernels.dot[4] = dot<kType, 4>;
  kernels.max_tokens = 4;
}

// One instantiation for each distinct format.
template <quant::Type... kTypes>
void find_dots(quant::Type type, TypeKernels& kernels) {
  ((format_of(type) == format_of(kTypes) ? set_dots<kTypes>(kernels) : void()), ...);
}

}  // namespace

TypeKernels avx2_kernels(quant::Type type) {
  using enum quant::Type;
  TypeKernels kernels;
  kernels.unpack = find_unpacker<Simd256>(type);
  find_dots<Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, MXFP4, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K, IQ4_XS, IQ2_XXS, IQ2_S,
            IQ3_XXS, IQ3_S, IQ1_S, IQ1_M>(type, kernels);
  return kernels;
}

}  // namespace dw::cpu
