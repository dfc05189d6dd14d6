// How the weights of a type become the register operand of wgmma (mma_gemm.h): f16 in fragment places.
#pragma once

#include <cuda_bf16.h>

#include "kernels/gpu/weights.h"

namespace dw::gpu {

// Quantised weights are computed times this, so that small scales keep their bits in f16; |w| < 1000.
inline constexpr float kMmaWeightScale = 64;

DW_DEVICE uint32_t half2_bits(__half2 value) {
  return reinterpret_cast<const uint32_t&>(value);
}

template <quant::Type kType>
struct MmaOperand {
  using Trait = Weights<kType>;
  using Raw = typename Trait::Raw;
  static constexpr bool kSplit = false;
  static constexpr float kScale = kMmaWeightScale;
  static constexpr bool kRoomy = true;  // two blocks fit a multiprocessor's registers

  struct Ready {
    int q[8];
    __half2 scale[2], offset[2];
  };
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    return Trait::fetch(row, columns, chunk);
  }
  DW_DEVICE Ready prepare(const Raw& raw, int chunk, const IqTables& tables) {
    const Chunk decoded = Trait::decode(raw, chunk, tables);
    Ready ready;
#pragma unroll
    for (int i = 0; i < 8; ++i) ready.q[i] = decoded.q[i];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      ready.scale[i] = __float2half2_rn(decoded.scale[i] * kScale);
      ready.offset[i] = __float2half2_rn(decoded.offset[i] * kScale);
    }
    return ready;
  }
  // Weights 4 s .. 4 s + 3 of the chunk: two and two.
  DW_DEVICE void fragment(const Ready& ready, int s, uint32_t& first, uint32_t& second, uint32_t&,
                          uint32_t&) {
    const int half = Trait::kTwoScales ? s / 4 : 0;
    // Byte b of q + 128 under the exponent of 1024 is the f16 1024 + 128 + q.
    const uint32_t bytes = uint32_t(ready.q[s]) ^ 0x80808080u;
    const uint32_t words[2] = {__byte_perm(bytes, 0x64646464u, 0x4140),
                               __byte_perm(bytes, 0x64646464u, 0x4342)};
    uint32_t results[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const __half2 q = __hsub2(reinterpret_cast<const __half2&>(words[i]), __float2half2_rn(1152.0f));
      results[i] = half2_bits(Trait::kOffset ? __hfma2(q, ready.scale[half], ready.offset[half])
                                             : __hmul2(q, ready.scale[half]));
    }
    first = results[0], second = results[1];
  }
};

// Sixteen-byte loads of unquantised weights.
template <int kLoads>
struct FloatChunk {
  uint4 loads[kLoads];
};

template <>
struct MmaOperand<quant::Type::F16> {
  using Raw = FloatChunk<4>;
  using Ready = Raw;
  static constexpr bool kSplit = false;
  static constexpr float kScale = 0.5f;  // a product, so that loads never write what wgmma still reads
  static constexpr bool kRoomy = false;

  DW_DEVICE Raw fetch(const uint8_t* row, int, int chunk) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < 4; ++i) raw.loads[i] = reinterpret_cast<const uint4*>(row)[4 * chunk + i];
    return raw;
  }
  DW_DEVICE Ready prepare(const Raw& raw, int, const IqTables&) {
    return raw;
  }
  DW_DEVICE uint32_t scaled(uint32_t word) {
    return half2_bits(__hmul2(reinterpret_cast<const __half2&>(word), __float2half2_rn(kScale)));
  }
  DW_DEVICE void fragment(const Ready& ready, int s, uint32_t& first, uint32_t& second, uint32_t&,
                          uint32_t&) {
    const uint4& load = ready.loads[s / 2];
    first = scaled(s % 2 == 0 ? load.x : load.z);
    second = scaled(s % 2 == 0 ? load.y : load.w);
  }
};

template <>
struct MmaOperand<quant::Type::BF16> {
  using Raw = FloatChunk<4>;
  using Ready = Raw;
  static constexpr bool kSplit = false;
  static constexpr float kScale = kMmaWeightScale;
  static constexpr bool kRoomy = false;

  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int chunk) {
    return MmaOperand<quant::Type::F16>::fetch(row, columns, chunk);
  }
  DW_DEVICE Ready prepare(const Raw& raw, int, const IqTables&) { return raw; }
  DW_DEVICE uint32_t halves(uint32_t word) {
    return half2_bits(__floats2half2_rn(__uint_as_float(word << 16) * kScale,
                                        __uint_as_float(word & 0xffff0000u) * kScale));
  }
  DW_DEVICE void fragment(const Ready& ready, int s, uint32_t& first, uint32_t& second, uint32_t&,
                          uint32_t&) {
    const uint4& load = ready.loads[s / 2];
    first = halves(s % 2 == 0 ? load.x : load.z);
    second = halves(s % 2 == 0 ? load.y : load.w);
  }
};

// fp32: the sum of two f16, times the sum of two f16 of x, less the product of the two small ones.
template <>
struct MmaOperand<quant::Type::F32> {
  using Raw = FloatChunk<8>;
  using Ready = Raw;
  static constexpr bool kSplit = true;
  static constexpr float kScale = 1;
  static constexpr bool kRoomy = false;

  DW_DEVICE Raw fetch(const uint8_t* row, int, int chunk) {
    Raw raw;
#pragma unroll
    for (int i = 0; i < 8; ++i) raw.loads[i] = reinterpret_cast<const uint4*>(row)[8 * chunk + i];
    return raw;
  }
  DW_DEVICE Ready prepare(const Raw& raw, int, const IqTables&) {
    return raw;
  }
  DW_DEVICE void split(uint32_t x, uint32_t y, uint32_t& high, uint32_t& low) {
    const float a = __uint_as_float(x), b = __uint_as_float(y);
    const __half2 rounded = __floats2half2_rn(a, b);
    const float2 back = __half22float2(rounded);
    high = half2_bits(rounded);
    low = half2_bits(__floats2half2_rn(a - back.x, b - back.y));
  }
  DW_DEVICE void fragment(const Ready& ready, int s, uint32_t& first, uint32_t& second, uint32_t& low_first,
                          uint32_t& low_second) {
    const uint4& load = ready.loads[s];
    split(load.x, load.y, first, low_first);
    split(load.z, load.w, second, low_second);
  }
};

}  // namespace dw::gpu
