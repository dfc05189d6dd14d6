// The second plane of int8 activations: what the first plane's rounding left over, r = x - d q, as whole
// numbers of d / 254 (|r| <= d / 2, so they fit). Weights of 6 bits and more need it: their own rounding is
// as fine as that of one plane. Product, difference and ratio are rounded one after the other, without fused
// operations, so that every instruction set gives the same numbers.
#pragma once

#include "kernels/cpu/simd.h"

namespace dw::cpu {

// One unit of `blocks` (1 to 8) groups of 32 columns. sums[16]: of out_quants over each 16 columns.
template <class V>
void residual_unit(const float* values, const int8_t* quants, const float* scales, int blocks,
                   int8_t* out_quants, float* out_scales, float* sums) {
  using Reg = typename V::Reg;
  constexpr int kWidth = int(V::kWidth);
  constexpr int kGroups = 16;
  // Below this the inverse overflows; such a residual is less than any float that matters.
  constexpr float kSmallest = 1e-30f;
  const Reg limit = V::set(127.0f), lower = V::set(-127.0f);
  Reg parts[kGroups];
  for (int g = 0; g < kGroups; ++g) parts[g] = V::zero();
  for (int b = 0; b < blocks; ++b) {
    const float d = scales[b];
    const bool kept = !(d < kSmallest);
    out_scales[b] = kept ? d / 254.0f : 0.0f;
    const Reg scale = V::set(d), inverse = V::set(kept ? 254.0f / d : 0.0f);
    for (int i = 0; i < 32; i += kWidth) {
      const int at = 32 * b + i;
      const Reg rest = V::sub(V::load(values + at), V::mul(scale, V::load_int8(quants + at)));
      const Reg quant = V::round(V::max(V::min(V::mul(rest, inverse), limit), lower));
      V::store_int8(out_quants + at, quant);
      parts[at / 16] = V::add(parts[at / 16], quant);
    }
  }
  for (int g = 0; g < kGroups; g += kWidth) V::store(sums + g, V::sum_each(parts + g));
}

}  // namespace dw::cpu
