// F32, F16 and BF16: rounding to nearest even. What overflows becomes the largest finite number.
#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "quant/codecs.h"

namespace dw::quant {
namespace {

void store16(std::byte* out, int64_t index, uint16_t value) {
  std::memcpy(out + 2 * index, &value, sizeof value);
}

// float_to_half for finite values, without branches: a subnormal half is the low bits of value + 1/2.
uint16_t narrow_to_half(float value) {
  const uint32_t bits = float_to_bits(value);
  const uint32_t magnitude = std::min(bits & 0x7fffffffu, 0x477fe000u);
  const uint32_t small = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  return uint16_t(((bits >> 16) & 0x8000u) | (magnitude < 0x38800000u ? small : normal));
}

}  // namespace

void quantize_f32(const float* values, std::byte* blocks, int64_t element_count, const float*) {
  if (element_count > 0) std::memcpy(blocks, values, size_t(element_count) * sizeof(float));
}

void quantize_f16(const float* values, std::byte* blocks, int64_t element_count, const float*) {
  for (int64_t i = 0; i < element_count; ++i) store16(blocks, i, narrow_to_half(values[i]));
}

void quantize_bf16(const float* values, std::byte* blocks, int64_t element_count, const float*) {
  for (int64_t i = 0; i < element_count; ++i) {
    const uint32_t bits = float_to_bits(values[i]);
    const uint32_t magnitude = std::min(bits & 0x7fffffffu, 0x7f7f0000u);
    const uint32_t rounded = (magnitude + 0x7fffu + ((magnitude >> 16) & 1u)) >> 16;
    store16(blocks, i, uint16_t(((bits >> 16) & 0x8000u) | rounded));
  }
}

}  // namespace dw::quant
