// RMS norm with quantised output, packing of fp32 rows, and the embedding look-up.
#include "kernels/gpu/activations.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int kNormThreads = 256;

// One row a block.
__global__ void __launch_bounds__(kNormThreads) norm_kernel(ops::Norm op, const int32_t* rows) {
  __shared__ float partial[kNormThreads / kWave];
  wait_for_previous();
  allow_next();
  const int columns = int(op.out.columns);
  const int64_t row = blockIdx.x;
  const float* x = op.x + int64_t(rows != nullptr ? rows[row] : row) * columns;
  float sum = 0;
  for (int i = threadIdx.x; i < columns; i += kNormThreads) sum += x[i] * x[i];
  sum = lanes_sum(sum);
  if (threadIdx.x % kWave == 0) partial[threadIdx.x / kWave] = sum;
  __syncthreads();
  sum = 0;
  for (int i = 0; i < kNormThreads / kWave; ++i) sum += partial[i];
  const float scale = 1.0f / sqrtf(sum / float(columns) + op.eps);
  // Whole waves stay together: a group of 32 is quantised by its lanes.
  const int rounded = (columns + kNormThreads - 1) / kNormThreads * kNormThreads;
  for (int i = threadIdx.x; i < rounded; i += kNormThreads) {
    const bool inside = i < columns;
    const float value = inside ? x[i] * scale * op.weight[i] : 0.0f;
    if (op.out.quants == nullptr) {
      if (inside) op.out.values[row * columns + i] = value;
    } else if (i / 32 * 32 < columns) {  // whole groups: columns % 32 == 0
      store_activation(op.out, row, i, value);
    }
  }
}

__global__ void __launch_bounds__(kNormThreads) pack_kernel(const float* rows, ops::Activations out) {
  wait_for_previous();
  allow_next();
  const int columns = int(out.columns);
  const int64_t row = blockIdx.x;
  const int rounded = (columns + kNormThreads - 1) / kNormThreads * kNormThreads;
  for (int i = threadIdx.x; i < rounded; i += kNormThreads) {
    const float value = i < columns ? rows[row * columns + i] : 0.0f;
    if (out.quants == nullptr) {
      if (i < columns) out.values[row * columns + i] = value;
    } else if (i / 32 * 32 < columns) {
      store_activation(out, row, i, value);
    }
  }
}

}  // namespace

void norm(Context& context, const ops::Norm& op, const int32_t* rows) {
  const double count = double(op.out.tokens) * double(op.out.columns);
  launch(context, "norm_kernel", {"norm", count * 9.25, count * 4}, norm_kernel,
         dim3(uint32_t(op.out.tokens)), dim3(kNormThreads), 0, op, rows);
}

void pack(Context& context, const float* rows, const ops::Activations& out) {
  const double count = double(out.tokens) * double(out.columns);
  launch(context, "pack_kernel", {"pack", count * 9.25, count}, pack_kernel, dim3(uint32_t(out.tokens)),
         dim3(kNormThreads), 0, rows, out);
}

}  // namespace dw::gpu
