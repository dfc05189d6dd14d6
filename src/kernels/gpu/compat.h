// What differs between NVIDIA and AMD in kernel code, under one name each: wave width, lane exchange, packed
// integer and half dot products, fast functions. One source compiles with nvcc (sm_80 and later; waves of 32)
// and with clang for gfx906 (waves of 64). Device code only; with DW_GPU_HOST (tests of the weight traits
// without a GPU) a shim instead.
#pragma once

#include <cstdint>

#if defined(DW_GPU_HOST)
#include "kernels/gpu/host_shim.h"
#else

#if defined(__HIP__)
#define DW_GPU_HIP 1
#include <hip/hip_runtime.h>
#else
#define DW_GPU_CUDA 1
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

namespace dw::gpu {

#if defined(DW_GPU_HIP)
inline constexpr int kWave = 64;
using f16 = _Float16;
typedef _Float16 f16x2 __attribute__((ext_vector_type(2)));
#else
inline constexpr int kWave = 32;
using f16 = __half;
using f16x2 = __half2;
#endif

#define DW_DEVICE static __device__ __forceinline__

// Launch bounds; blocks: that a multiprocessor should hold, on NVIDIA only (HIP's second bound counts waves).
#if defined(DW_GPU_HIP)
#define DW_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads)
#else
#define DW_LAUNCH_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#endif

// A kernel's parameter that lies in constant memory and may be indexed there.
#if defined(DW_GPU_HIP)
#define DW_GRID_CONSTANT
#else
#define DW_GRID_CONSTANT __grid_constant__
#endif

DW_DEVICE float half_bits_to_float(uint16_t bits) {
#if defined(DW_GPU_HIP)
  return float(__builtin_bit_cast(_Float16, bits));
#else
  return __half2float(__ushort_as_half(bits));
#endif
}

DW_DEVICE uint16_t float_to_half_bits(float x) {  // nearest, ties to even
#if defined(DW_GPU_HIP)
  return __builtin_bit_cast(uint16_t, _Float16(x));
#else
  return __half_as_ushort(__float2half_rn(x));
#endif
}

DW_DEVICE float bfloat_bits_to_float(uint16_t bits) {
  return __uint_as_float(uint32_t(bits) << 16);
}

// c + the sum of four products of signed bytes.
DW_DEVICE int dot4(int a, int b, int c) {
#if defined(DW_GPU_CUDA)
  return __dp4a(a, b, c);
#elif defined(__gfx906__)
  return __builtin_amdgcn_sdot4(a, b, c, false);
#else
  for (int i = 0; i < 4; ++i) c += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
  return c;
#endif
}

// c + a.x * b.x + a.y * b.y, the products and the sum in fp32; bits: two halves.
DW_DEVICE float dot2_half(uint32_t a, uint32_t b, float c) {
#if defined(DW_GPU_HIP)
#if defined(__gfx906__)
  return __builtin_amdgcn_fdot2(__builtin_bit_cast(f16x2, a), __builtin_bit_cast(f16x2, b), c, false);
#else
  (void)a, (void)b;  // the host's pass of the compiler
  return c;
#endif
#else
  const float2 x = __half22float2(reinterpret_cast<const __half2&>(a));
  const float2 y = __half22float2(reinterpret_cast<const __half2&>(b));
  return fmaf(x.x, y.x, fmaf(x.y, y.y, c));
#endif
}

// Byte i of the result is byte (selector nibble / byte i) of the eight bytes {high, low}; indices 0..7, given
// as four bytes.
DW_DEVICE uint32_t select_bytes(uint32_t low, uint32_t high, uint32_t indices) {
#if defined(DW_GPU_HIP)
  return __builtin_amdgcn_perm(high, low, indices);
#else
  // prmt takes nibbles: gather them from the bytes.
  const uint32_t a = indices | (indices >> 4);
  return __byte_perm(low, high, (a & 0xffu) | ((a >> 8) & 0xff00u));
#endif
}

// The value of lane (lane ^ mask) of the wave; mask < kWave.
DW_DEVICE float lane_xor(float v, int mask) {
#if defined(DW_GPU_HIP)
  return __shfl_xor(v, mask, kWave);
#else
  return __shfl_xor_sync(~0u, v, mask);
#endif
}
DW_DEVICE int lane_xor(int v, int mask) {
#if defined(DW_GPU_HIP)
  return __shfl_xor(v, mask, kWave);
#else
  return __shfl_xor_sync(~0u, v, mask);
#endif
}
DW_DEVICE float lane_read(float v, int lane) {
#if defined(DW_GPU_HIP)
  return __shfl(v, lane, kWave);
#else
  return __shfl_sync(~0u, v, lane);
#endif
}
DW_DEVICE int lane_read(int v, int lane) {
#if defined(DW_GPU_HIP)
  return __shfl(v, lane, kWave);
#else
  return __shfl_sync(~0u, v, lane);
#endif
}

#if defined(DW_GPU_HIP)
// Data-parallel primitives of GCN: quad_perm[1,0,3,2], quad_perm[2,3,0,1], row_half_mirror, row_mirror.
template <int kControl, int kRowMask = 0xf>
DW_DEVICE float dpp_move(float x) {
  return __int_as_float(__builtin_amdgcn_update_dpp(0, __float_as_int(x), kControl, kRowMask, 0xf, true));
}
#endif

// Sum over groups of kWidth consecutive lanes (a power of two), in every lane of the group.
template <int kWidth = kWave>
DW_DEVICE float lanes_sum(float v) {
#if defined(DW_GPU_HIP)
  if (kWidth >= 2) v += dpp_move<0xb1>(v);
  if (kWidth >= 4) v += dpp_move<0x4e>(v);
  if (kWidth >= 8) v += dpp_move<0x141>(v);
  if (kWidth >= 16) v += dpp_move<0x140>(v);
  if (kWidth >= 32) v += lane_xor(v, 16);
  if (kWidth >= 64) v += lane_xor(v, 32);
  return v;
#else
#pragma unroll
  for (int mask = 1; mask < kWidth; mask *= 2) v += lane_xor(v, mask);
  return v;
#endif
}
template <int kWidth = kWave>
DW_DEVICE float lanes_max(float v) {
#if defined(DW_GPU_HIP)
  if (kWidth >= 2) v = fmaxf(v, dpp_move<0xb1>(v));
  if (kWidth >= 4) v = fmaxf(v, dpp_move<0x4e>(v));
  if (kWidth >= 8) v = fmaxf(v, dpp_move<0x141>(v));
  if (kWidth >= 16) v = fmaxf(v, dpp_move<0x140>(v));
  if (kWidth >= 32) v = fmaxf(v, lane_xor(v, 16));
  if (kWidth >= 64) v = fmaxf(v, lane_xor(v, 32));
  return v;
#else
#pragma unroll
  for (int mask = 1; mask < kWidth; mask *= 2) v = fmaxf(v, lane_xor(v, mask));
  return v;
#endif
}
template <int kWidth = kWave>
DW_DEVICE int lanes_sum_int(int v) {
#pragma unroll
  for (int mask = 1; mask < kWidth; mask *= 2) v += lane_xor(v, mask);
  return v;
}

DW_DEVICE float fast_exp(float x) {
  return __expf(x);
}
DW_DEVICE float fast_reciprocal(float x) {
#if defined(DW_GPU_HIP)
  return __builtin_amdgcn_rcpf(x);
#else
  return __frcp_rn(x);
#endif
}
// Exact to a few units in the last place, also where x is large: exp(-x) overflows to infinity, 1/inf = 0.
DW_DEVICE float sigmoid(float x) {
  return 1.0f / (1.0f + __expf(-x));
}
DW_DEVICE float silu(float x) {
  return x / (1.0f + __expf(-x));
}

// The kernel's only argument, read again. On gfx906 what a kernel's last part needs of its arguments would
// otherwise stay in scalar registers from the start and push others out.
template <class T>
DW_DEVICE T arguments_again(const T& arguments) {
#if defined(DW_GPU_HIP) && defined(__HIP_DEVICE_COMPILE__)
  (void)arguments;
  auto* segment = __builtin_amdgcn_kernarg_segment_ptr();
  asm volatile("" : "+s"(segment));
  T again;
  __builtin_memcpy(&again, (const void*)segment, sizeof(T));
  return again;
#else
  return arguments;
#endif
}

// A kernel may start before the one in front of it in the stream has ended (programmatic dependent launch).
// Every kernel calls wait_for_previous() before it reads or writes anything but weights, and may call
// allow_next() once its own blocks all run.
DW_DEVICE void wait_for_previous() {
#if defined(DW_GPU_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}
DW_DEVICE void allow_next() {
#if defined(DW_GPU_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Asks for `bytes` (a multiple of 16) of weights at a 16-byte aligned address, for the cache that all blocks
// share; one thread calls it. A hint: nothing waits for it, and other devices do nothing.
DW_DEVICE void prefetch_weights([[maybe_unused]] const void* address, [[maybe_unused]] uint32_t bytes) {
#if defined(DW_GPU_CUDA) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(address)),
               "r"(bytes));
#else
  (void)address, (void)bytes;
#endif
}

}  // namespace dw::gpu

#endif  // DW_GPU_HOST
