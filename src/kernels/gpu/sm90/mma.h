// Warp-level pieces of sm_80 and later: matrix products of f16 with fp32 sums, asynchronous copies.
#pragma once

#include "kernels/gpu/compat.h"

namespace dw::gpu::sm90 {

// d += a b, m16n8k16. Lane (g = lane / 4, t = lane % 4) holds a: rows g (a0, a2), g + 8 (a1, a3), columns 2t,
// 2t + 1 (a0, a1) and 8 more (a2, a3); b: rows as a's columns (b0, b1), column g; d: rows g (d0, d1), g + 8
// (d2, d3), columns 2t, 2t + 1.
DW_DEVICE void mma_f16(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                       uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// An 8 x 8 matrix of halves, two neighbours of a row in a lane (row lane / 4): its transpose.
DW_DEVICE uint32_t transpose_halves(uint32_t x) {
  uint32_t y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

DW_DEVICE uint32_t shared_address(const void* pointer) {
  return uint32_t(__cvta_generic_to_shared(pointer));
}

// 16 bytes from global to shared memory; zeros where !valid (the source must be readable all the same).
DW_DEVICE void copy_async(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
DW_DEVICE void copy_wait_all() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}
DW_DEVICE void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
DW_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 2^x to 2 units in the last place; tiny results are zero.
DW_DEVICE float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

DW_DEVICE uint32_t pack_halves(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}
// What pack_halves() lost.
DW_DEVICE uint32_t pack_residuals(uint32_t halves, float low, float high) {
  const float2 rounded = __half22float2(reinterpret_cast<const __half2&>(halves));
  return pack_halves(low - rounded.x, high - rounded.y);
}

// Four signed bytes (biased: x ^ 0x80808080) and a pair of f16 scales: halves of bytes `selector`.
DW_DEVICE uint32_t scaled_halves(uint32_t biased, uint32_t selector, __half2 scales) {
  const uint32_t raw = __byte_perm(biased, 0x64646464u, selector);  // 1024 + byte
  const __half2 value =
      __hmul2(__hsub2(reinterpret_cast<const __half2&>(raw), __half2half2(__ushort_as_half(0x6480))), scales);
  return reinterpret_cast<const uint32_t&>(value);
}

}  // namespace dw::gpu::sm90
