// F32, F16 and BF16 matrices and the quantisation of activations at the AVX-512 level. One sum is 16 lanes
// (columns k % 16), each a chain of fused multiply-adds in rising k, then one fixed tree over the lanes.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/matmul_panel.h"
#include "kernels/cpu/residual_kernels.h"
#include "kernels/cpu/simd_avx512.h"

namespace dw::cpu {
namespace {

constexpr int kRows = 4;

template <quant::Type kType>
__m512 load_weights(const std::byte* row, int64_t column) {
  if constexpr (kType == quant::Type::F32) {
    return _mm512_loadu_ps(row + 4 * column);
  } else {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 2 * column));
    if constexpr (kType == quant::Type::F16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

template <quant::Type kType>
__m512 load_last_weights(const std::byte* row, int64_t column, __mmask16 mask) {
  if constexpr (kType == quant::Type::F32) {
    return _mm512_maskz_loadu_ps(mask, row + 4 * column);
  } else {
    const __m256i bits = _mm256_maskz_loadu_epi16(mask, row + 2 * column);
    if constexpr (kType == quant::Type::F16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
}

template <quant::Type kType, int kTokens>
void multiply_tile(const std::byte* const (&rows)[kRows], const float* const (&x)[kTokens], int64_t columns,
                   float (&out)[kRows][kTokens]) {
  __m512 sums[kRows][kTokens];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) sums[r][t] = _mm512_setzero_ps();
  const int64_t whole = columns / 16 * 16;
  for (int64_t k = 0; k < whole; k += 16) {
    __m512 activations[kTokens];
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) activations[t] = _mm512_loadu_ps(x[t] + k);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m512 weights = load_weights<kType>(rows[r], k);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) sums[r][t] = _mm512_fmadd_ps(weights, activations[t], sums[r][t]);
    }
  }
  if (whole < columns) {
    const __mmask16 mask = __mmask16((1u << (columns - whole)) - 1);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m512 weights = load_last_weights<kType>(rows[r], whole, mask);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t)
        sums[r][t] = _mm512_fmadd_ps(weights, _mm512_maskz_loadu_ps(mask, x[t] + whole), sums[r][t]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) out[r][t] = _mm512_reduce_add_ps(sums[r][t]);
}

// Tiles past the last row or token repeat the last one and drop the result.
template <quant::Type kType, int kTokens>
void multiply_tokens(const MatmulCall& call, int64_t token_begin, int64_t row_begin, int64_t row_end) {
  const int64_t columns = call.weight.columns;
  const int64_t row_bytes = columns * (kType == quant::Type::F32 ? 4 : 2);
  const int64_t tokens = std::min<int64_t>(kTokens, call.token_count - token_begin);
  const float* x[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const int64_t i = token_begin + std::min<int64_t>(t, tokens - 1);
    x[t] = call.x.values + (call.token_rows ? call.token_rows[i] : i) * columns;
  }
  for (int64_t row = row_begin; row < row_end; row += kRows) {
    const int64_t count = std::min<int64_t>(kRows, row_end - row);
    const std::byte* rows[kRows];
    for (int r = 0; r < kRows; ++r)
      rows[r] = call.weight.data + (row + std::min<int64_t>(r, count - 1)) * row_bytes;
    float tile[kRows][kTokens];
    multiply_tile<kType, kTokens>(rows, x, columns, tile);
    for (int64_t t = 0; t < tokens; ++t) {
      float* out = call.out + (token_begin + t) * call.out_stride + row;
      for (int64_t r = 0; r < count; ++r) out[r] = call.add ? out[r] + tile[r][t] : tile[r][t];
    }
  }
}

// Rows in pieces that stay in the second-level cache while all tokens pass over them.
template <quant::Type kType>
void multiply(const MatmulCall& call, int64_t row_begin, int64_t row_end) {
  constexpr int64_t kRowPiece = 32;
  for (int64_t row = row_begin; row < row_end; row += kRowPiece) {
    const int64_t end = std::min(row + kRowPiece, row_end);
    int64_t token = 0;
    for (; token + 2 <= call.token_count; token += 4) multiply_tokens<kType, 4>(call, token, row, end);
    for (; token < call.token_count; ++token) multiply_tokens<kType, 1>(call, token, row, end);
  }
}

}  // namespace

void float_rows_avx512(const MatmulCall& call, int64_t row_begin, int64_t row_end) {
  if (call.weight.type == quant::Type::F32) return multiply<quant::Type::F32>(call, row_begin, row_end);
  if (call.weight.type == quant::Type::F16) return multiply<quant::Type::F16>(call, row_begin, row_end);
  multiply<quant::Type::BF16>(call, row_begin, row_end);
}

ResidualFn avx512_residual() {
  return residual_unit<VecAvx512>;
}

void quantize_avx512(const float* values, int64_t columns, int8_t* quants, float* scales, int16_t* sums) {
  for (int64_t block = 0; block < columns / 32; ++block) {
    const __m512 first = _mm512_loadu_ps(values + 32 * block),
                 second = _mm512_loadu_ps(values + 32 * block + 16);
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(first), _mm512_abs_ps(second)));
    const float scale = largest / 127.0f;
    scales[block] = scale;
    const __mmask16 nonzero = scale > 0 ? 0xffff : 0;
    const __m512 divisor = _mm512_set1_ps(scale);
    const __m512i limit = _mm512_set1_epi32(127), lower = _mm512_set1_epi32(-127);
    const auto quantized = [&](__m512 x) {
      const __m512i rounded = _mm512_maskz_cvtps_epi32(nonzero, _mm512_maskz_div_ps(nonzero, x, divisor));
      return _mm512_max_epi32(_mm512_min_epi32(rounded, limit), lower);
    };
    const __m512i low = quantized(first), high = quantized(second);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + 32 * block), _mm512_cvtepi32_epi8(low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(quants + 32 * block + 16), _mm512_cvtepi32_epi8(high));
    sums[2 * block] = int16_t(_mm512_reduce_add_epi32(low));
    sums[2 * block + 1] = int16_t(_mm512_reduce_add_epi32(high));
  }
}

}  // namespace dw::cpu
