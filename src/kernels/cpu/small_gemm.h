// Products of small fp32 matrices that live in the caches: C[m, n] = sum_k A(m, k) B[k, n] in register
// tiles. Each element is one chain of fused multiply-adds in the order of k, so its value does not depend on
// the tile it falls in.
#pragma once

#include "kernels/cpu/simd.h"

namespace dw::cpu {

// A(m, k) = data[m * row_step + k * step]: a matrix or its transpose.
struct GemmA {
  const float* data;
  int64_t row_step;
  int64_t step;
};

// B[k, n] = data[k * row_step + n].
struct GemmB {
  const float* data;
  int64_t row_step;
};

template <class V, int kRows, int kVectors, class Store>
DW_INLINE void gemm_tile(int64_t row, int64_t column, int64_t depth, const GemmA& a, const GemmB& b,
                         const Store& store) {
  using Reg = typename V::Reg;
  Reg sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = V::zero();
  }
  const float* pa = a.data + row * a.row_step;
  const float* pb = b.data + column;
  for (int64_t k = 0; k < depth; ++k) {
    Reg bv[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) bv[v] = V::load(pb + v * V::kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Reg av = V::set(pa[r * a.row_step]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = V::fma(av, bv[v], sum[r][v]);
    }
    pa += a.step;
    pb += b.row_step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(row + r, column + v * V::kWidth, sum[r][v]);
  }
}

template <class V, int kRows, class Store>
DW_INLINE int64_t gemm_rows(int64_t row, int64_t rows, int64_t columns, int64_t depth, const GemmA& a,
                            const GemmB& b, const Store& store) {
  for (; row + kRows <= rows; row += kRows) {
    int64_t column = 0;
    for (; column + V::kTileVectors * V::kWidth <= columns; column += V::kTileVectors * V::kWidth) {
      gemm_tile<V, kRows, V::kTileVectors>(row, column, depth, a, b, store);
    }
    for (; column < columns; column += V::kWidth) gemm_tile<V, kRows, 1>(row, column, depth, a, b, store);
  }
  return row;
}

// Rows [row, rows), columns [0, columns), columns % V::kWidth == 0. store(row, column, vector) takes each
// finished vector of sums.
template <class V, class Store>
inline void small_gemm(int64_t row, int64_t rows, int64_t columns, int64_t depth, const GemmA& a,
                       const GemmB& b, const Store& store) {
  row = gemm_rows<V, V::kTileRows>(row, rows, columns, depth, a, b, store);
  if constexpr (V::kTileRows > 4) row = gemm_rows<V, 4>(row, rows, columns, depth, a, b, store);
  row = gemm_rows<V, 2>(row, rows, columns, depth, a, b, store);
  gemm_rows<V, 1>(row, rows, columns, depth, a, b, store);
}

}  // namespace dw::cpu
