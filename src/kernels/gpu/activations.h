// Writing ops::Activations from a kernel: 32 consecutive lanes of a wave hold the 32 values of a group.
#pragma once

#include "kernels/gpu/compat.h"
#include "kernels/ops.h"

namespace dw::gpu {

struct QuantisedGroup {
  float scale;
  int quant;  // of this lane
};

// As ops.h has it: d = max|x| / 127, quants = x / d to nearest even; a group of zeros: d = 0, quants 0.
DW_DEVICE QuantisedGroup quantise_group(float x) {
  const float d = lanes_max<32>(fabsf(x)) / 127.0f;
  return {d, d == 0 ? 0 : __float2int_rn(__fdiv_rn(x, d))};
}

// Stores value `x` of (row, column) and its quantised part. The group's 32 lanes call it together, column =
// group * 32 + (lane & 31).
DW_DEVICE void store_activation(const ops::Activations& out, int64_t row, int column, float x) {
  const int64_t at = row * out.columns + column;
  out.values[at] = x;
  if (out.quants == nullptr) return;
  const QuantisedGroup group = quantise_group(x);
  out.quants[at] = int8_t(group.quant);
  const int sum = lanes_sum_int<16>(group.quant);
  if (column % 16 == 0) out.sums[at / 16] = int16_t(sum);
  if (column % 32 == 0) out.scales[at / 32] = group.scale;
}

}  // namespace dw::gpu
