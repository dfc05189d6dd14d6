// Vectors of 4 floats through the vector extension of GCC and Clang: SSE2, NEON or plain scalars, whatever
// the compiler's baseline has. 16 bytes are the widest that every baseline passes in registers.
#pragma once

#include <cstring>

#include "base/half.h"
#include "kernels/cpu/simd.h"

namespace dw::cpu {

struct VecPortable {
  typedef float Reg __attribute__((vector_size(16)));
  typedef int32_t Int __attribute__((vector_size(16)));
  static constexpr int64_t kWidth = 4;
  static constexpr int kTileRows = 4;      // of a register tile of the small GEMM
  static constexpr int kTileVectors = 2;   // 8 accumulators of 16 registers
  static constexpr int kStateVectors = 4;  // columns of the recurrent state at once
  static constexpr int kSolveRows = 8;     // rows of a triangular solve kept in registers

  static DW_INLINE Reg zero() { return Reg{0, 0, 0, 0}; }
  static DW_INLINE Reg set(float x) { return Reg{x, x, x, x}; }
  static DW_INLINE Reg load(const float* p) {
    Reg x;
    std::memcpy(&x, p, sizeof x);
    return x;
  }
  static DW_INLINE void store(float* p, Reg x) { std::memcpy(p, &x, sizeof x); }
  static DW_INLINE Reg load_partial(const float* p, int64_t n) {
    Reg x = zero();
    for (int64_t i = 0; i < n; ++i) x[i] = p[i];
    return x;
  }
  static DW_INLINE void store_partial(float* p, Reg x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = x[i];
  }
  static DW_INLINE Reg add(Reg a, Reg b) { return a + b; }
  static DW_INLINE Reg sub(Reg a, Reg b) { return a - b; }
  static DW_INLINE Reg mul(Reg a, Reg b) { return a * b; }
  static DW_INLINE Reg div(Reg a, Reg b) { return a / b; }
  static DW_INLINE Reg fma(Reg a, Reg b, Reg c) { return a * b + c; }
  // max and min give b when either is NaN.
  static DW_INLINE Reg max(Reg a, Reg b) { return pick(a > b, a, b); }
  static DW_INLINE Reg min(Reg a, Reg b) { return pick(a < b, a, b); }
  static DW_INLINE Reg abs(Reg a) { return Reg(Int(a) & 0x7fffffff); }
  static DW_INLINE Reg round(Reg a) {  // |a| < 2^22; to nearest even
    const Reg shift = set(12582912.0f);
    return (a + shift) - shift;
  }
  // n in [-126, 127]
  static DW_INLINE Reg scale_by_power_of_two(Reg a, Reg n) {
    return a * Reg((__builtin_convertvector(n, Int) + 127) << 23);
  }
  static DW_INLINE Reg zero_if_less(Reg x, Reg bound, Reg y) { return Reg(~Int(x < bound) & Int(y)); }
  static DW_INLINE Reg select_less(Reg a, Reg b, Reg yes, Reg no) { return pick(a < b, yes, no); }
  static DW_INLINE uint32_t equal_bits(Reg a, Reg b) {
    const Int same = a == b;
    return uint32_t(same[0] & 1) | uint32_t(same[1] & 2) | uint32_t(same[2] & 4) | uint32_t(same[3] & 8);
  }
  static DW_INLINE float reduce_add(Reg a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  // Lane i: the sum of the lanes of x[i].
  static DW_INLINE Reg sum_each(const Reg x[4]) {
    return Reg{reduce_add(x[0]), reduce_add(x[1]), reduce_add(x[2]), reduce_add(x[3])};
  }
  static DW_INLINE float reduce_max(Reg a) {
    const float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
  }

  static DW_INLINE Reg load_half(const uint16_t* p) {
    return Reg{half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
  }
  static DW_INLINE void store_half(uint16_t* p, Reg x) {
    for (int i = 0; i < 4; ++i) p[i] = float_to_half(x[i]);
  }
  static DW_INLINE float from_half(uint16_t h) { return half_to_float(h); }
  static DW_INLINE uint16_t to_half(float x) { return float_to_half(x); }
  static DW_INLINE Reg load_int8(const int8_t* p) {
    return Reg{float(p[0]), float(p[1]), float(p[2]), float(p[3])};
  }
  static DW_INLINE void store_int8(int8_t* p, Reg x) {  // x holds whole numbers
    for (int i = 0; i < 4; ++i) p[i] = int8_t(x[i]);
  }

 private:
  static DW_INLINE Reg pick(Int mask, Reg yes, Reg no) { return Reg((mask & Int(yes)) | (~mask & Int(no))); }
};

}  // namespace dw::cpu
