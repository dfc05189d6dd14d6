// Floats and the types of 32-element blocks. The order of every product and sum is that of gguf.quants, so
// that results are equal bit for bit.
#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codecs.h"
#include "quant/iq_tables.h"

namespace dw::quant {
namespace {

// half_to_float without branches, for loops over many: a half's bits, moved up, are its value times 2^-112.
float widen_half(uint16_t h) {
  const uint32_t magnitude = uint32_t(h & 0x7fffu) << 13;
  const uint32_t finite = float_to_bits(bits_to_float(magnitude) * 0x1p112f);
  const uint32_t special = magnitude | 0x7f800000u;
  const uint32_t bits = magnitude >= 0x0f800000u ? special : finite;
  return bits_to_float(bits | (uint32_t(h & 0x8000u) << 16));
}

}  // namespace

void dequantize_f32(const std::byte* blocks, float* out, int64_t element_count) {
  if (element_count > 0) std::memcpy(out, blocks, size_t(element_count) * sizeof(float));
}

void dequantize_f16(const std::byte* blocks, float* out, int64_t element_count) {
  for (int64_t i = 0; i < element_count; ++i) out[i] = widen_half(load_unaligned<uint16_t>(blocks + 2 * i));
}

void dequantize_bf16(const std::byte* blocks, float* out, int64_t element_count) {
  for (int64_t i = 0; i < element_count; ++i)
    out[i] = bfloat16_to_float(load_unaligned<uint16_t>(blocks + 2 * i));
}

void dequantize_q8_0(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ8_0, 32>(blocks, out, element_count, [](const BlockQ8_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 32; ++i) y[i] = float(block.qs[i]) * d;
  });
}

void dequantize_q4_0(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ4_0, 32>(blocks, out, element_count, [](const BlockQ4_0& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      y[i] = d * float((block.qs[i] & 15) - 8);
      y[16 + i] = d * float((block.qs[i] >> 4) - 8);
    }
  });
}

void dequantize_q4_1(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ4_1, 32>(blocks, out, element_count, [](const BlockQ4_1& block, float* y) {
    const float d = half_to_float(block.d);
    const float m = half_to_float(block.m);
    for (int i = 0; i < 16; ++i) {
      y[i] = d * float(block.qs[i] & 15) + m;
      y[16 + i] = d * float(block.qs[i] >> 4) + m;
    }
  });
}

void dequantize_q5_0(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ5_0, 32>(blocks, out, element_count, [](const BlockQ5_0& block, float* y) {
    const float d = half_to_float(block.d);
    const uint32_t high = block.qh;
    for (int i = 0; i < 16; ++i) {
      y[i] = d * float(int((block.qs[i] & 15u) | (((high >> i) & 1u) << 4)) - 16);
      y[16 + i] = d * float(int((block.qs[i] >> 4) | (((high >> (16 + i)) & 1u) << 4)) - 16);
    }
  });
}

void dequantize_q5_1(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ5_1, 32>(blocks, out, element_count, [](const BlockQ5_1& block, float* y) {
    const float d = half_to_float(block.d);
    const float m = half_to_float(block.m);
    const uint32_t high = block.qh;
    for (int i = 0; i < 16; ++i) {
      y[i] = d * float((block.qs[i] & 15u) | (((high >> i) & 1u) << 4)) + m;
      y[16 + i] = d * float((block.qs[i] >> 4) | (((high >> (16 + i)) & 1u) << 4)) + m;
    }
  });
}

void dequantize_mxfp4(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockMXFP4, 32>(blocks, out, element_count, [](const BlockMXFP4& block, float* y) {
    const float d = e8m0_half(block.e);
    for (int i = 0; i < 16; ++i) {
      y[i] = d * float(kMxfp4Values[block.qs[i] & 15]);
      y[16 + i] = d * float(kMxfp4Values[block.qs[i] >> 4]);
    }
  });
}

void dequantize_iq4_nl(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ4_NL, 32>(blocks, out, element_count, [](const BlockIQ4_NL& block, float* y) {
    const float d = half_to_float(block.d);
    for (int i = 0; i < 16; ++i) {
      y[i] = d * float(kIq4NlValues[block.qs[i] & 15]);
      y[16 + i] = d * float(kIq4NlValues[block.qs[i] >> 4]);
    }
  });
}

}  // namespace dw::quant
