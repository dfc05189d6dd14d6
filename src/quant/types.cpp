#include "quant/types.h"

#include <array>

#include "base/check.h"
#include "quant/blocks.h"
#include "quant/codecs.h"

namespace dw::quant {
namespace {

template <class Block>
constexpr TypeInfo block_type(Type type, std::string_view name, uint32_t block_size, DequantizeFn dequantize,
                              QuantizeFn quantize) {
  return {type, name, block_size, uint32_t(sizeof(Block)), dequantize, quantize};
}

constexpr std::array kTypes = {
    block_type<float>(Type::F32, "F32", 1, dequantize_f32, quantize_f32),
    block_type<uint16_t>(Type::F16, "F16", 1, dequantize_f16, quantize_f16),
    block_type<BlockQ4_0>(Type::Q4_0, "Q4_0", 32, dequantize_q4_0, quantize_q4_0),
    block_type<BlockQ4_1>(Type::Q4_1, "Q4_1", 32, dequantize_q4_1, quantize_q4_1),
    block_type<BlockQ5_0>(Type::Q5_0, "Q5_0", 32, dequantize_q5_0, quantize_q5_0),
    block_type<BlockQ5_1>(Type::Q5_1, "Q5_1", 32, dequantize_q5_1, quantize_q5_1),
    block_type<BlockQ8_0>(Type::Q8_0, "Q8_0", 32, dequantize_q8_0, quantize_q8_0),
    block_type<BlockQ8_1>(Type::Q8_1, "Q8_1", 32, nullptr, nullptr),
    block_type<BlockQ2_K>(Type::Q2_K, "Q2_K", 256, dequantize_q2_k, quantize_q2_k),
    block_type<BlockQ3_K>(Type::Q3_K, "Q3_K", 256, dequantize_q3_k, quantize_q3_k),
    block_type<BlockQ4_K>(Type::Q4_K, "Q4_K", 256, dequantize_q4_k, quantize_q4_k),
    block_type<BlockQ5_K>(Type::Q5_K, "Q5_K", 256, dequantize_q5_k, quantize_q5_k),
    block_type<BlockQ6_K>(Type::Q6_K, "Q6_K", 256, dequantize_q6_k, quantize_q6_k),
    block_type<BlockQ8_K>(Type::Q8_K, "Q8_K", 256, dequantize_q8_k, quantize_q8_k),
    block_type<BlockIQ2_XXS>(Type::IQ2_XXS, "IQ2_XXS", 256, dequantize_iq2_xxs, nullptr),
    block_type<BlockIQ2_XS>(Type::IQ2_XS, "IQ2_XS", 256, dequantize_iq2_xs, nullptr),
    block_type<BlockIQ3_XXS>(Type::IQ3_XXS, "IQ3_XXS", 256, dequantize_iq3_xxs, nullptr),
    block_type<BlockIQ1_S>(Type::IQ1_S, "IQ1_S", 256, dequantize_iq1_s, nullptr),
    block_type<BlockIQ4_NL>(Type::IQ4_NL, "IQ4_NL", 32, dequantize_iq4_nl, quantize_iq4_nl),
    block_type<BlockIQ3_S>(Type::IQ3_S, "IQ3_S", 256, dequantize_iq3_s, nullptr),
    block_type<BlockIQ2_S>(Type::IQ2_S, "IQ2_S", 256, dequantize_iq2_s, nullptr),
    block_type<BlockIQ4_XS>(Type::IQ4_XS, "IQ4_XS", 256, dequantize_iq4_xs, quantize_iq4_xs),
    block_type<int8_t>(Type::I8, "I8", 1, nullptr, nullptr),
    block_type<int16_t>(Type::I16, "I16", 1, nullptr, nullptr),
    block_type<int32_t>(Type::I32, "I32", 1, nullptr, nullptr),
    block_type<int64_t>(Type::I64, "I64", 1, nullptr, nullptr),
    block_type<double>(Type::F64, "F64", 1, nullptr, nullptr),
    block_type<BlockIQ1_M>(Type::IQ1_M, "IQ1_M", 256, dequantize_iq1_m, nullptr),
    block_type<uint16_t>(Type::BF16, "BF16", 1, dequantize_bf16, quantize_bf16),
    block_type<BlockMXFP4>(Type::MXFP4, "MXFP4", 32, dequantize_mxfp4, quantize_mxfp4),
};

// Locale-free: type names are ASCII.
char lower(char c) {
  return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

}  // namespace

std::span<const TypeInfo> all_types() {
  return kTypes;
}

const TypeInfo* find_type(Type type) {
  for (const TypeInfo& info : kTypes)
    if (info.type == type) return &info;
  return nullptr;
}

const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& info : kTypes)
    if (equal_ignoring_case(info.name, name)) return &info;
  return nullptr;
}

const TypeInfo& type_info(Type type) {
  const TypeInfo* info = find_type(type);
  DW_CHECK(info != nullptr, "a tensor type number that no table row names");
  return *info;
}

uint64_t row_bytes(Type type, uint64_t element_count) {
  const TypeInfo& info = type_info(type);
  DW_CHECK(element_count % info.block_size == 0, "a row is a whole number of blocks");
  return element_count / info.block_size * info.block_bytes;
}

}  // namespace dw::quant
