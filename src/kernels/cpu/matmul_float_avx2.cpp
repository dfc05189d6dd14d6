// F32, F16 and BF16 matrices and the quantisation of activations at the AVX2 level. One sum is 8 lanes
// (columns k % 8), each a chain of fused multiply-adds in rising k, then one fixed tree over the lanes.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/matmul_panel.h"
#include "kernels/cpu/residual_kernels.h"
#include "kernels/cpu/simd_avx2.h"

namespace dw::cpu {
namespace {

constexpr int kRows = 4;

template <quant::Type kType>
__m256 load_weights(const std::byte* row, int64_t column) {
  if constexpr (kType == quant::Type::F32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(row + 4 * column));
  } else {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * column));
    if constexpr (kType == quant::Type::F16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
}

float reduce_add(__m256 v) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

template <quant::Type kType, int kTokens>
void multiply_tile(const std::byte* const (&rows)[kRows], const float* const (&x)[kTokens], int64_t columns,
                   float (&out)[kRows][kTokens]) {
  __m256 sums[kRows][kTokens];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) sums[r][t] = _mm256_setzero_ps();
  const int64_t whole = columns / 8 * 8;
  for (int64_t k = 0; k < whole; k += 8) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256 weights = load_weights<kType>(rows[r], k);
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t)
        sums[r][t] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x[t] + k), sums[r][t]);
    }
  }
  if (whole < columns) {  // the last columns, padded with zeros
    constexpr int64_t kBytes = kType == quant::Type::F32 ? 4 : 2;
    for (int r = 0; r < kRows; ++r) {
      alignas(32) std::byte last_weights[32] = {};
      std::memcpy(last_weights, rows[r] + whole * kBytes, size_t((columns - whole) * kBytes));
      const __m256 weights = load_weights<kType>(last_weights, 0);
      for (int t = 0; t < kTokens; ++t) {
        alignas(32) float last_x[8] = {};
        std::memcpy(last_x, x[t] + whole, size_t(columns - whole) * sizeof(float));
        sums[r][t] = _mm256_fmadd_ps(weights, _mm256_load_ps(last_x), sums[r][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) out[r][t] = reduce_add(sums[r][t]);
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
    for (; token + 2 <= call.token_count; token += 3) multiply_tokens<kType, 3>(call, token, row, end);
    for (; token < call.token_count; ++token) multiply_tokens<kType, 1>(call, token, row, end);
  }
}

}  // namespace

void float_rows_avx2(const MatmulCall& call, int64_t row_begin, int64_t row_end) {
  if (call.weight.type == quant::Type::F32) return multiply<quant::Type::F32>(call, row_begin, row_end);
  if (call.weight.type == quant::Type::F16) return multiply<quant::Type::F16>(call, row_begin, row_end);
  multiply<quant::Type::BF16>(call, row_begin, row_end);
}

ResidualFn avx2_residual() {
  return residual_unit<VecAvx2>;
}

void quantize_avx2(const float* values, int64_t columns, int8_t* quants, float* scales, int16_t* sums) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  const __m256i limit = _mm256_set1_epi32(127), lower = _mm256_set1_epi32(-127);
  for (int64_t block = 0; block < columns / 32; ++block) {
    __m256 x[4], largest = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      x[i] = _mm256_loadu_ps(values + 32 * block + 8 * i);
      largest = _mm256_max_ps(largest, _mm256_and_ps(x[i], magnitude));
    }
    alignas(32) float lanes[8];
    _mm256_store_ps(lanes, largest);
    float maximum = 0;
    for (float lane : lanes) maximum = lane > maximum ? lane : maximum;
    const float scale = maximum / 127.0f;
    scales[block] = scale;
    alignas(32) int32_t rounded[32] = {};
    if (scale > 0) {
      for (int i = 0; i < 4; ++i) {
        const __m256i q = _mm256_cvtps_epi32(_mm256_div_ps(x[i], _mm256_set1_ps(scale)));
        _mm256_store_si256(reinterpret_cast<__m256i*>(rounded + 8 * i),
                           _mm256_max_epi32(_mm256_min_epi32(q, limit), lower));
      }
    }
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (int i = 16 * half; i < 16 * half + 16; ++i) {
        quants[32 * block + i] = int8_t(rounded[i]);
        sum += rounded[i];
      }
      sums[2 * block + half] = int16_t(sum);
    }
  }
}

}  // namespace dw::cpu
