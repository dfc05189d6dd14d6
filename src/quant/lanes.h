// Four floats at a time (GCC and Clang vector extension: SSE, NEON). The quantisers give every lane a group
// of its own, so that all sums of a group are plain lane-wise sums and results do not depend on neighbours.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace dw::quant {

inline constexpr int kLanes = 4;
using F4 = float __attribute__((vector_size(16)));
using M4 = int32_t __attribute__((vector_size(16)));  // a mask: all bits of a lane set, or none

inline F4 splat(float value) {
  return F4{value, value, value, value};
}
inline F4 select(M4 mask, F4 yes, F4 no) {
  return F4((mask & M4(yes)) | (~mask & M4(no)));
}
// A NaN in a gives b. (GCC makes four instructions of the comparison.)
#if defined(__SSE2__)
inline F4 min(F4 a, F4 b) {
  return _mm_min_ps(a, b);
}
inline F4 max(F4 a, F4 b) {
  return _mm_max_ps(a, b);
}
#else
inline F4 min(F4 a, F4 b) {
  return select(a < b, a, b);
}
inline F4 max(F4 a, F4 b) {
  return select(a > b, a, b);
}
#endif
inline F4 absolute(F4 a) {
  return F4(M4(a) & 0x7fffffff);
}
// To the nearest integer, ties to even; |a| < 2^22.
inline F4 round_lanes(F4 a) {
  const F4 shift = splat(0x1.8p23f);
  return (a + shift) - shift;
}
// 1 / a, or 0 where a is 0.
inline F4 inverse(F4 a) {
  return select(a == splat(0), splat(0), splat(1) / a);
}
inline float sum(F4 a) {
  return (a[0] + a[1]) + (a[2] + a[3]);
}

}  // namespace dw::quant
