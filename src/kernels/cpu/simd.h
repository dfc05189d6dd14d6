// Arithmetic on vectors of floats, written once for every instruction set. A vector type V (VecPortable,
// VecAvx2, VecAvx512; see simd_*.h) names the width and the few operations that differ; everything here is a
// template of V, so that a function compiled with AVX-512 flags never carries the name of one that runs on
// older processors. For the same reason the files compiled with such flags call no inline function that is
// not a template of V.
#pragma once

#include <cstdint>

#define DW_INLINE __attribute__((always_inline)) inline

namespace dw::cpu {

inline constexpr int64_t kQuantGroup = 32;  // columns that share a scale
inline constexpr int64_t kSumGroup = 16;    // columns that share a sum

// One row of ops::Activations, from some column on (a multiple of 32 where quants are kept).
struct RowOut {
  float* values;
  int8_t* quants;  // nullptr: not quantised
  float* scales;
  int16_t* sums;
};

template <class V>
struct Math {
  using Reg = typename V::Reg;

  // e^x, relative error below 3e-7 for x in [-87.3, 88.3]; 0 below; saturates above; NaN stays NaN.
  // Polynomial of Cephes (expf) after reduction by n ln 2.
  static DW_INLINE Reg exp(Reg x) {
    const Reg low = V::set(-87.3f);
    const Reg r0 = V::max(low, V::min(V::set(88.3f), x));
    const Reg n = V::round(V::mul(r0, V::set(1.44269504088896341f)));
    const Reg r = V::fma(n, V::set(2.12194440e-4f), V::fma(n, V::set(-0.693359375f), r0));
    Reg p = V::set(1.9875691500e-4f);
    p = V::fma(p, r, V::set(1.3981999507e-3f));
    p = V::fma(p, r, V::set(8.3334519073e-3f));
    p = V::fma(p, r, V::set(4.1665795894e-2f));
    p = V::fma(p, r, V::set(1.6666665459e-1f));
    p = V::fma(p, r, V::set(5.0000001201e-1f));
    p = V::fma(p, V::mul(r, r), V::add(r, V::set(1.0f)));
    return V::zero_if_less(x, low, V::scale_by_power_of_two(p, n));
  }
  static DW_INLINE Reg sigmoid(Reg x) {
    const Reg one = V::set(1.0f);
    return V::div(one, V::add(one, exp(V::sub(V::zero(), x))));
  }
  static DW_INLINE Reg silu(Reg x) { return V::div(x, V::add(V::set(1.0f), exp(V::sub(V::zero(), x)))); }
};

template <class V>
DW_INLINE float sum_of_products(const float* a, const float* b, int64_t count) {
  using Reg = typename V::Reg;
  constexpr int64_t kWidth = V::kWidth;
  Reg s0 = V::zero(), s1 = V::zero(), s2 = V::zero(), s3 = V::zero();
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    s0 = V::fma(V::load(a + i), V::load(b + i), s0);
    s1 = V::fma(V::load(a + i + kWidth), V::load(b + i + kWidth), s1);
    s2 = V::fma(V::load(a + i + 2 * kWidth), V::load(b + i + 2 * kWidth), s2);
    s3 = V::fma(V::load(a + i + 3 * kWidth), V::load(b + i + 3 * kWidth), s3);
  }
  for (; i + kWidth <= count; i += kWidth) s0 = V::fma(V::load(a + i), V::load(b + i), s0);
  if (i < count) s1 = V::fma(V::load_partial(a + i, count - i), V::load_partial(b + i, count - i), s1);
  return V::reduce_add(V::add(V::add(s0, s1), V::add(s2, s3)));
}

// Fills the quantised part of a row from its values (ops::Activations). count % 32 == 0.
template <class V>
inline void quantize_row(const RowOut& out, int64_t count) {
  using Reg = typename V::Reg;
  constexpr int64_t kWidth = V::kWidth;
  for (int64_t group = 0; group < count / kQuantGroup; ++group) {
    const float* x = out.values + group * kQuantGroup;
    Reg largest = V::zero();
    for (int64_t i = 0; i < kQuantGroup; i += kWidth) largest = V::max(V::abs(V::load(x + i)), largest);
    const float scale = V::reduce_max(largest) / 127.0f;
    out.scales[group] = scale;
    const Reg limit = V::set(127.0f), divisor = V::set(scale > 0 ? scale : 1.0f);
    for (int64_t half = 0; half < kQuantGroup; half += kSumGroup) {
      Reg sum = V::zero();
      for (int64_t i = half; i < half + kSumGroup; i += kWidth) {
        const Reg ratio = V::div(scale > 0 ? V::load(x + i) : V::zero(), divisor);
        const Reg quant = V::round(V::max(V::min(ratio, limit), V::sub(V::zero(), limit)));
        V::store_int8(out.quants + group * kQuantGroup + i, quant);
        sum = V::add(sum, quant);
      }
      out.sums[(group * kQuantGroup + half) / kSumGroup] = int16_t(V::reduce_add(sum));
    }
  }
}

template <class V>
DW_INLINE void finish_row(const RowOut& out, int64_t count) {
  if (out.quants != nullptr) quantize_row<V>(out, count);
}

// Square root of one float (std::sqrt is an inline function of the library; see the top).
DW_INLINE float square_root(float x) {
  return __builtin_sqrtf(x);
}

}  // namespace dw::cpu
