// RMS norm with quantised output, packing of fp32 rows, and the embedding look-up.
#include "kernels/gpu/activations.h"
#include "kernels/gpu/gemv_stage.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int kNormThreads = 256;

// One row a block, in registers: columns % 32 == 0, at most kHeldColumns.
constexpr int kHeld = 4;
constexpr int kHeldColumns = kHeld * 8 * kNormThreads;
__global__ void __launch_bounds__(kNormThreads) norm_row_kernel(ops::Norm op, const int32_t* rows) {
  __shared__ float partial[kNormThreads / kWave];
  const ops::Activations& out = op.out;
  const int octets = int(out.columns) / 8, thread = int(threadIdx.x);
  Octet x[kHeld], weight[kHeld];
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int octet = h * kNormThreads + thread;
    weight[h] = octet < octets ? load_octet(op.weight, octet) : Octet{};
  }
  wait_for_previous();
  allow_next();
  const int64_t row = blockIdx.x;
  const float* from = op.x + int64_t(rows != nullptr ? rows[row] : row) * out.columns;
  float sum = 0;
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int octet = h * kNormThreads + thread;
    x[h] = octet < octets ? load_octet(from, octet) : Octet{};
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(x[h].v[i], x[h].v[i], sum);
  }
  sum = lanes_sum(sum);
  if (thread % kWave == 0) partial[thread / kWave] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int i = 0; i < kNormThreads / kWave; ++i) sum += partial[i];
  const float scale = 1.0f / sqrtf(sum / float(out.columns) + op.eps);
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    if (h * kNormThreads >= octets) break;
    const int octet = h * kNormThreads + thread;
#pragma unroll
    for (int i = 0; i < 8; ++i) x[h].v[i] = x[h].v[i] * scale * weight[h].v[i];
    const QuantisedOctet q = quantise_octet(x[h], false);
    if (octet < octets) {
      const int64_t at = row * octets + octet;
      reinterpret_cast<float4*>(out.values)[2 * at] = {x[h].v[0], x[h].v[1], x[h].v[2], x[h].v[3]};
      reinterpret_cast<float4*>(out.values)[2 * at + 1] = {x[h].v[4], x[h].v[5], x[h].v[6], x[h].v[7]};
      if (out.quants != nullptr) {
        reinterpret_cast<int2*>(out.quants)[at] = q.quants;
        if (octet % 4 == 0) out.scales[at / 4] = q.scale;
      }
    }
    const int half_sum = q.sum + lane_xor(q.sum, 1);
    if (octet < octets && octet % 2 == 0 && out.quants != nullptr)
      out.sums[(row * octets + octet) / 2] = int16_t(half_sum);
  }
}

// One row a block, any width.
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
  const bool held = op.out.columns % 32 == 0 && op.out.columns <= kHeldColumns;
  launch(context, held ? "norm_row_kernel" : "norm_kernel", {"norm", count * 9.25, count * 4},
         held ? norm_row_kernel : norm_kernel, dim3(uint32_t(op.out.tokens)), dim3(kNormThreads), 0, op,
         rows);
}

void pack(Context& context, const float* rows, const ops::Activations& out) {
  const double count = double(out.tokens) * double(out.columns);
  launch(context, "pack_kernel", {"pack", count * 9.25, count}, pack_kernel, dim3(uint32_t(out.tokens)),
         dim3(kNormThreads), 0, rows, out);
}

}  // namespace dw::gpu
