// Small pieces that the reference ops share. Inputs are fp32, results fp64 until an op rounds them once.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "kernels/ops.h"

namespace dw::reference {

inline double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}
inline double silu(double x) {
  return x * sigmoid(x);
}
// log(1 + e^x) without overflow.
inline double softplus(double x) {
  return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
}

inline double dot(const float* a, const float* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

// 1 / sqrt(mean(x^2) + eps)
inline double inverse_rms(const float* x, int64_t count, float eps) {
  return 1.0 / std::sqrt(dot(x, x, count) / double(count) + double(eps));
}

// row: [matrix.columns]
inline void dequantize_row(const ops::Matrix& matrix, int64_t row, float* out) {
  const quant::TypeInfo& type = quant::type_info(matrix.type);
  DW_CHECK(type.dequantize != nullptr, "weights of this type cannot be dequantised");
  const uint64_t bytes = quant::row_bytes(matrix.type, uint64_t(matrix.columns));
  type.dequantize(matrix.data + uint64_t(row) * bytes, out, matrix.columns);
}

// out[n] = W[n] . x for every row of the matrix.
inline std::vector<float> multiply(const ops::Matrix& matrix, const float* x) {
  std::vector<float> row(size_t(matrix.columns)), out(size_t(matrix.rows));
  for (int64_t n = 0; n < matrix.rows; ++n) {
    dequantize_row(matrix, n, row.data());
    out[size_t(n)] = float(dot(row.data(), x, matrix.columns));
  }
  return out;
}

}  // namespace dw::reference
