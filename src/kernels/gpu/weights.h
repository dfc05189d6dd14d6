// How the GPU kernels see a quantised weight matrix. A row is cut into chunks of 32 weights; a chunk decodes
// to int8 quants and a scale and offset for each half of 16:
//   w[i] = scale[i / 16] * q[i] + offset[i / 16]
// so that an integer dot product with activations quantised in groups of 32 (ops::Activations: x = d * a, s =
// sum of a over 16) is d * sum over halves of (scale * dot(q, a) + offset * s).
//
// The device's layout of a row is planes: what a chunk reads with 16-byte (or 8, 4) loads lies together,
// chunk after chunk, then the next plane; each plane begins at a multiple of 16 bytes, and so does each row
// (row_bytes()). Nothing is re-rounded: repack() moves bits.
//
// Weights<type> is the trait of a type:
//   kTwoScales        the halves differ in scale or offset (else index 0 stands for both)
//   kOffset           offset is not zero
//   kFine             quants as fine as the int8 activations: products add a second int8 plane, the residual
//   of
//                     the activations
//   Raw, fetch()      the bytes of one chunk in registers (loads only, so that several can be in flight)
//   decode()          Raw -> Chunk
//   row_bytes(columns), repack(file row, device row, columns, chunk): one thread a chunk; columns % 32 == 0
// F32, F16 and BF16 have no trait here: FloatWeights<type>::get(row, column) gives the value.
#pragma once

#include <cstdint>

#include "kernels/gpu/compat.h"
#include "quant/types.h"

namespace dw::gpu {

// Look-up tables of the IQ types in device memory (quant/iq_tables.h).
struct IqTables {
  const uint64_t* iq2xxs = nullptr;
  const uint64_t* iq2xs = nullptr;
  const uint64_t* iq2s = nullptr;
  const uint32_t* iq3xxs = nullptr;
  const uint32_t* iq3s = nullptr;
  const uint64_t* iq1 = nullptr;
  const uint8_t* signs = nullptr;
};

struct Chunk {
  int q[8];  // q[j]: weights 4j .. 4j + 3, a byte each
  float scale[2];
  float offset[2];
};

template <quant::Type kType>
struct Weights;

inline constexpr __host__ __device__ uint64_t round_up_16(uint64_t n) {
  return (n + 15) / 16 * 16;
}

// Planes: quants [chunks][32], scales [chunks] f16.
template <>
struct Weights<quant::Type::Q8_0> {
  static constexpr bool kTwoScales = false, kOffset = false, kFine = true;
  struct Raw {
    int4 low, high;
    uint16_t d;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return uint64_t(columns) + round_up_16(uint64_t(columns) / 32 * 2);
  }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.low = reinterpret_cast<const int4*>(row)[2 * chunk];
    raw.high = reinterpret_cast<const int4*>(row)[2 * chunk + 1];
    raw.d = reinterpret_cast<const uint16_t*>(row + columns)[chunk];
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int, const IqTables&) {
    Chunk c;
    c.q[0] = raw.low.x, c.q[1] = raw.low.y, c.q[2] = raw.low.z, c.q[3] = raw.low.w;
    c.q[4] = raw.high.x, c.q[5] = raw.high.y, c.q[6] = raw.high.z, c.q[7] = raw.high.w;
    c.scale[0] = c.scale[1] = half_bits_to_float(raw.d);
    c.offset[0] = c.offset[1] = 0;
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 34 * chunk;
    for (int i = 0; i < 32; ++i) row[32 * chunk + i] = block[2 + i];
    row[columns + 2 * chunk] = block[0];
    row[columns + 2 * chunk + 1] = block[1];
  }
};

// Planes: quants [chunks][16] (byte i: weight i low, weight i + 16 high nibble), headers [chunks / 8][16]:
// the file's d, dmin and 12 bytes of 6-bit scales and mins.
template <>
struct Weights<quant::Type::Q4_K> {
  static constexpr bool kTwoScales = false, kOffset = true, kFine = false;
  struct Raw {
    int4 quants;
    uint4 header;
  };
  static __host__ __device__ uint64_t row_bytes(int64_t columns) { return uint64_t(columns) / 256 * 144; }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    Raw raw;
    raw.quants = reinterpret_cast<const int4*>(row)[chunk];
    raw.header = reinterpret_cast<const uint4*>(row + columns / 2)[chunk / 8];
    return raw;
  }
  DW_DEVICE Chunk decode(const Raw& raw, int chunk, const IqTables&) {
    Chunk c;
    c.q[0] = raw.quants.x & 0x0f0f0f0f, c.q[4] = (raw.quants.x >> 4) & 0x0f0f0f0f;
    c.q[1] = raw.quants.y & 0x0f0f0f0f, c.q[5] = (raw.quants.y >> 4) & 0x0f0f0f0f;
    c.q[2] = raw.quants.z & 0x0f0f0f0f, c.q[6] = (raw.quants.z >> 4) & 0x0f0f0f0f;
    c.q[3] = raw.quants.w & 0x0f0f0f0f, c.q[7] = (raw.quants.w >> 4) & 0x0f0f0f0f;
    // Groups 0..3: six low bits of byte g; groups 4..7: a nibble of word w and two bits above the former.
    const int g = chunk & 7, shift = 8 * (g & 3);
    const uint32_t s = raw.header.y >> shift, m = raw.header.z >> shift, high = raw.header.w >> shift;
    const uint32_t scale = g < 4 ? s & 63 : (high & 15) | ((s >> 2) & 48);
    const uint32_t minimum = g < 4 ? m & 63 : ((high >> 4) & 15) | ((m >> 2) & 48);
    c.scale[0] = c.scale[1] = half_bits_to_float(uint16_t(raw.header.x)) * float(scale);
    c.offset[0] = c.offset[1] = -half_bits_to_float(uint16_t(raw.header.x >> 16)) * float(minimum);
    return c;
  }
  DW_DEVICE void repack(const uint8_t* file, uint8_t* row, int columns, int chunk) {
    const uint8_t* block = file + 144 * (chunk / 8);
    // The file's byte 32 p + l holds weight l of chunk 2p low, of chunk 2p + 1 high.
    const uint8_t* source = block + 16 + 32 * ((chunk & 7) / 2);
    const int shift = 4 * (chunk & 1);
    for (int i = 0; i < 16; ++i)
      row[16 * chunk + i] = uint8_t(((source[i] >> shift) & 15) | ((source[i + 16] >> shift) & 15) << 4);
    if ((chunk & 7) == 0)
      for (int i = 0; i < 16; ++i) row[columns / 2 + 2 * chunk + i] = block[i];
  }
};

}  // namespace dw::gpu
