// Stands in for the GPU toolkit where the weight traits are compiled as plain C++ (tests that need no GPU):
// the vector types and the few device functions that weights*.h call. Never part of a kernel.
#pragma once

#include <bit>
#include <cstdint>

#include "base/half.h"

#define DW_DEVICE static inline
#define __host__
#define __device__

namespace dw::gpu {

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

DW_DEVICE float half_bits_to_float(uint16_t bits) {
  return half_to_float(bits);
}
DW_DEVICE float bfloat_bits_to_float(uint16_t bits) {
  return bfloat16_to_float(bits);
}
DW_DEVICE float __uint_as_float(uint32_t bits) {
  return bits_to_float(bits);
}
DW_DEVICE int __popc(uint32_t bits) {
  return std::popcount(bits);
}
DW_DEVICE uint32_t select_bytes(uint32_t low, uint32_t high, uint32_t indices) {
  const uint64_t bytes = uint64_t(high) << 32 | low;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) result |= uint32_t(bytes >> (8 * ((indices >> (8 * i)) & 7)) & 255) << (8 * i);
  return result;
}

}  // namespace dw::gpu
