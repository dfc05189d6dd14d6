// Matrix times activations on the CPU: y[t, n] = sum_k W[n, k] x[t, k], with W in the file's own block layout
// (straight from the mapped file: nothing is copied at load) and x either quantised to int8 (quantised
// weights, integer dot products) or fp32 (F32, F16, BF16 weights).
//
// Guarantees: the value of y[t, n] depends on row n and token t only: not on the other tokens of the call,
// not on how rows are split over threads. So a batch equals each of its sequences alone, bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "kernels/ops.h"

namespace dw::cpu {

// Quantises one row of activations (columns a multiple of 32).
void quantize_activations(CpuLevel level, const float* values, int64_t columns, int8_t* quants, float* scales,
                          int16_t* sums);

// Does the type multiply quantised activations (true) or fp32 values (false)?
bool uses_quantized_activations(quant::Type type);

// One call covers rows [row_begin, row_end) of W, for the tokens x.row = token_rows[i], i < token_count
// (nullptr: i itself). out[i * out_stride + n]; with add, out += instead of out =.
// row_begin is a multiple of kRowTile (row_end too, unless it is W.rows).
inline constexpr int64_t kRowTile = 16;
struct MatmulCall {
  ops::Matrix weight;
  ops::Activations x;
  const int32_t* token_rows = nullptr;
  int64_t token_count = 0;
  float* out = nullptr;    // [token_count, >= rows]
  int64_t out_stride = 0;  // floats
  bool add = false;
  // Weights that this thread is likely to multiply after the call, fetched ahead; nullptr: not known.
  const std::byte* next = nullptr;
};

// Rows a task should cover when `total_rows` rows (of one or more matrices) are shared by `threads` threads:
// a multiple of kRowTile, long enough for the prefetcher to run ahead, short enough to balance.
inline int64_t rows_per_task(int64_t total_rows, int threads) {
  const int64_t fair = total_rows / (int64_t(threads) * 8) / 64 * 64;
  return fair < 64 ? 64 : fair > 512 ? 512 : fair;
}
void matmul_rows(CpuLevel level, const MatmulCall& call, int64_t row_begin, int64_t row_end);

}  // namespace dw::cpu
