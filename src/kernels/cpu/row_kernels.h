// Row operations: RMS norm, silu(gate) * up, softmax routing.
#pragma once

#include "kernels/cpu/simd.h"

namespace dw::cpu {

template <class V>
void norm_row(const float* x, const float* weight, float eps, int64_t count, const RowOut& out) {
  using Reg = typename V::Reg;
  const float mean = sum_of_products<V>(x, x, count) / float(count);
  const Reg scale = V::set(1.0f / square_root(mean + eps));
  int64_t i = 0;
  for (; i + V::kWidth <= count; i += V::kWidth) {
    V::store(out.values + i, V::mul(V::mul(V::load(x + i), scale), V::load(weight + i)));
  }
  if (i < count) {
    const int64_t n = count - i;
    const Reg y = V::mul(V::mul(V::load_partial(x + i, n), scale), V::load_partial(weight + i, n));
    V::store_partial(out.values + i, y, n);
  }
  finish_row<V>(out, count);
}

template <class V>
void silu_multiply_row(const float* gate, const float* up, int64_t count, const RowOut& out) {
  using Reg = typename V::Reg;
  int64_t i = 0;
  for (; i + V::kWidth <= count; i += V::kWidth) {
    V::store(out.values + i, V::mul(Math<V>::silu(V::load(gate + i)), V::load(up + i)));
  }
  if (i < count) {
    const int64_t n = count - i;
    const Reg y = V::mul(Math<V>::silu(V::load_partial(gate + i, n)), V::load_partial(up + i, n));
    V::store_partial(out.values + i, y, n);
  }
  finish_row<V>(out, count);
}

// The first index of the largest element; elements that are NaN are skipped. -1 when all are.
template <class V>
DW_INLINE int64_t first_largest(const float* x, int64_t padded_count) {
  using Reg = typename V::Reg;
  Reg m0 = V::set(-__builtin_inff()), m1 = m0;
  int64_t i = 0;
  for (; i + 2 * V::kWidth <= padded_count; i += 2 * V::kWidth) {
    m0 = V::max(V::load(x + i), m0);
    m1 = V::max(V::load(x + i + V::kWidth), m1);
  }
  for (; i < padded_count; i += V::kWidth) m0 = V::max(V::load(x + i), m0);
  const Reg largest = V::set(V::reduce_max(V::max(m0, m1)));
  for (i = 0; i < padded_count; i += V::kWidth) {
    const uint32_t bits = V::equal_bits(V::load(x + i), largest);
    if (bits != 0) return i + __builtin_ctz(bits);
  }
  return -1;
}

// Picks on the logits themselves (softmax keeps their order; its rounding could only make false ties).
template <class V>
void route_row(const float* logits, int64_t expert_count, int64_t top_k, bool normalise, float* work,
               int32_t* experts, float* weights) {
  using Reg = typename V::Reg;
  const int64_t padded = (expert_count + V::kWidth - 1) / V::kWidth * V::kWidth;
  // NaN marks what may not be picked: the padding and, later, what was picked. A NaN logit becomes
  // -infinity here; it still makes every weight NaN through the sum.
  for (int64_t e = 0; e < expert_count; ++e) {
    work[e] = logits[e] == logits[e] ? logits[e] : -__builtin_inff();
  }
  for (int64_t e = expert_count; e < padded; ++e) work[e] = __builtin_nanf("");
  for (int64_t i = 0; i < top_k; ++i) {
    experts[i] = int32_t(first_largest<V>(work, padded));
    weights[i] = logits[experts[i]];
    work[experts[i]] = __builtin_nanf("");
  }
  const float largest = weights[0];
  Reg sum = V::zero();
  int64_t e = 0;
  for (; e + V::kWidth <= expert_count; e += V::kWidth) {
    sum = V::add(sum, Math<V>::exp(V::sub(V::load(logits + e), V::set(largest))));
  }
  float tail = 0;
  for (int64_t i = 0; i < V::kWidth; ++i) work[i] = 0;
  if (e < expert_count) {
    const int64_t n = expert_count - e;
    const Reg last = Math<V>::exp(V::sub(V::load_partial(logits + e, n), V::set(largest)));
    V::store_partial(work, last, n);
    tail = V::reduce_add(V::load(work));
  }
  const float total = V::reduce_add(sum) + tail;
  float chosen = 0;
  for (int64_t i = 0; i < top_k; ++i) {
    V::store_partial(work, Math<V>::exp(V::set(weights[i] - largest)), 1);
    weights[i] = work[0] / total;
    chosen += weights[i];
  }
  if (!normalise) return;
  const float floor = 6.1e-5f;
  const float divisor = chosen < floor ? floor : chosen;
  for (int64_t i = 0; i < top_k; ++i) weights[i] /= divisor;
}

}  // namespace dw::cpu
