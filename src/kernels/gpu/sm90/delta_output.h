// The quantised output of the chunked delta mixer on sm_90: four columns of several rows a lane.
#pragma once

#include "kernels/gpu/compat.h"
#include "kernels/ops.h"

namespace dw::gpu::hopper {

struct QuantisedFour {
  float d;
  int quants[4];
};
// By the division that works everywhere; only for groups next to nothing.
static __device__ __noinline__ QuantisedFour quantise_exactly(float largest, float4 x) {
  const float d = __fdiv_rn(largest, 127.0f);
  const auto quant = [&](float v) { return d == 0 ? 0 : __float2int_rn(__fdiv_rn(v, d)); };
  return {d, {quant(x.x), quant(x.y), quant(x.z), quant(x.w)}};
}
inline constexpr float kExactBelow = 1e-30f;  // of a group's largest value

// d = largest / 127 and x / d to nearest even, as ops.h has it. The quotients are rounded as a division would
// round them: two corrections by the remainder, without the branches of a division.
DW_DEVICE QuantisedFour quantise_four(float largest, float4 x) {
  constexpr float kInverse = 1.0f / 127.0f, kTop = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  const float near = largest * kInverse;
  QuantisedFour four;
  four.d = fmaf(fmaf(-127.0f, near, largest), kInverse, near);
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(four.d));
  inverse = largest == 0 ? 0.0f : fmaf(fmaf(-four.d, inverse, 1.0f), inverse, inverse);
  const float values[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    float quotient = values[i] * inverse;
    quotient = fmaf(fmaf(-four.d, quotient, values[i]), inverse, quotient);
    quotient = fmaf(fmaf(-four.d, quotient, values[i]), inverse, quotient);
    four.quants[i] = __float_as_int(quotient + kTop) - __float_as_int(kTop);
  }
  return four;
}

// Columns column .. + 3 of the rows row + i * step with i * step < left: values, quants, and the sums and
// scale of their groups; eight lanes have a group of 32, and whole waves take part. All steps go side by
// side.
template <int kSteps>
DW_DEVICE void store_steps(const ops::Activations& out, int64_t row, int step, int left, int column,
                           const float4 (&x)[kSteps], int lane) {
  const int64_t at = row * out.columns + column;
  const int stride = step * int(out.columns);
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    if (i * step < left) *reinterpret_cast<float4*>(out.values + at + i * stride) = x[i];
  }
  if (out.quants == nullptr) return;
  float largest[kSteps];
  bool exactly = false;
#pragma unroll
  for (int i = 0; i < kSteps; ++i)
    largest[i] = fmaxf(fmaxf(fabsf(x[i].x), fabsf(x[i].y)), fmaxf(fabsf(x[i].z), fabsf(x[i].w)));
#pragma unroll
  for (int mask = 1; mask < 8; mask *= 2) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) largest[i] = fmaxf(largest[i], lane_xor(largest[i], mask));
  }
  int8_t* const quants = out.quants + at;
  int sums[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    exactly |= largest[i] != 0 && largest[i] < kExactBelow;
    const QuantisedFour four = quantise_four(largest[i], x[i]);
    const int* q = four.quants;
    sums[i] = q[0] + q[1] + q[2] + q[3];
    const uint32_t low = __byte_perm(uint32_t(q[0]), uint32_t(q[1]), 0x0040);
    const uint32_t high = __byte_perm(uint32_t(q[2]), uint32_t(q[3]), 0x0040);
    if (i * step < left) {
      *reinterpret_cast<uint32_t*>(quants + i * stride) = __byte_perm(low, high, 0x5410);
      if (lane % 8 == 0) out.scales[at / 32 + i * (stride / 32)] = four.d;
    }
  }
  if (__any_sync(~0u, exactly)) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const QuantisedFour four = quantise_exactly(largest[i], x[i]);
      const int* q = four.quants;
      sums[i] = q[0] + q[1] + q[2] + q[3];
      if (i * step >= left) continue;
      *reinterpret_cast<char4*>(quants + i * stride) =
          make_char4(static_cast<signed char>(q[0]), static_cast<signed char>(q[1]),
                     static_cast<signed char>(q[2]), static_cast<signed char>(q[3]));
      if (lane % 8 == 0) out.scales[at / 32 + i * (stride / 32)] = four.d;
    }
  }
#pragma unroll
  for (int mask = 1; mask < 4; mask *= 2) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) sums[i] += lane_xor(sums[i], mask);
  }
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    if (i * step < left && lane % 4 == 0) out.sums[at / 16 + i * (stride / 16)] = int16_t(sums[i]);
  }
}

}  // namespace dw::gpu::hopper
