// The scalar decoders and encoders behind TypeInfo, one pair a type; private to this room. Signatures and
// units: DequantizeFn and QuantizeFn of types.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/check.h"

namespace dw::quant {

// Calls decode(block, out) for each block of a row.
template <class Block, int kElements, class Decode>
void for_each_block(const std::byte* blocks, float* out, int64_t element_count, const Decode& decode) {
  DW_CHECK(element_count >= 0 && element_count % kElements == 0, "a row is a whole number of blocks");
  const Block* block = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < element_count / kElements; ++i) decode(block[i], out + i * kElements);
}

void dequantize_f32(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_f16(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_bf16(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q8_0(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q4_0(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q4_1(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q5_0(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q5_1(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_mxfp4(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q2_k(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q3_k(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q4_k(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q5_k(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q6_k(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_q8_k(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq1_s(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq1_m(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq2_xxs(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq2_xs(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq2_s(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq3_xxs(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq3_s(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq4_nl(const std::byte* blocks, float* out, int64_t element_count);
void dequantize_iq4_xs(const std::byte* blocks, float* out, int64_t element_count);

// Encoders: values must be finite. importance: the weight of an element's squared error, any scale, >= 0;
// nullptr weighs all elements the same, so that the plain squared error is what is made small. Deterministic;
// a block's bytes depend on its own values only. Where a value is larger than a block can hold (a scale is
// binary16: up to 65504) it becomes the largest the block holds, never infinity.
void quantize_f32(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_f16(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_bf16(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q8_0(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q4_0(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q4_1(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q5_0(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q5_1(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_mxfp4(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_iq4_nl(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q2_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q3_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q4_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q5_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q6_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_q8_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance);
void quantize_iq4_xs(const float* values, std::byte* blocks, int64_t element_count, const float* importance);

}  // namespace dw::quant
