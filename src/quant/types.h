// The tensor element types of GGUF files: names, block sizes, scalar dequantise and quantise.
// A row is a whole number of blocks; a block holds block_size elements in block_bytes bytes.
// Layouts: GGUF specification and the `gguf` Python package (gguf.quants), with which dequantise is
// bit-exact.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace dw::quant {

// Numbers are those of the file format (ggml_type).
enum class Type : uint32_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q8_1 = 9,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  Q8_K = 15,
  IQ2_XXS = 16,
  IQ2_XS = 17,
  IQ3_XXS = 18,
  IQ1_S = 19,
  IQ4_NL = 20,
  IQ3_S = 21,
  IQ2_S = 22,
  IQ4_XS = 23,
  I8 = 24,
  I16 = 25,
  I32 = 26,
  I64 = 27,
  F64 = 28,
  IQ1_M = 29,
  BF16 = 30,
  MXFP4 = 39,
};

// blocks: element_count / block_size blocks; out: element_count floats.
using DequantizeFn = void (*)(const std::byte* blocks, float* out, int64_t element_count);
// Optional importance per element (same length as values, or nullptr): the weight of its squared error.
using QuantizeFn = void (*)(const float* values, std::byte* blocks, int64_t element_count,
                            const float* importance);

struct TypeInfo {
  Type type;
  std::string_view name;  // "Q4_K"
  uint32_t block_size;    // elements
  uint32_t block_bytes;
  DequantizeFn dequantize;  // nullptr: the engine cannot use tensors of this type (integers, F64, Q8_1)
  QuantizeFn quantize;      // nullptr: read only

  double bits_per_element() const { return 8.0 * block_bytes / block_size; }
};

std::span<const TypeInfo> all_types();
const TypeInfo* find_type(Type type);              // nullptr when the number is unknown
const TypeInfo* find_type(std::string_view name);  // case-insensitive; nullptr when unknown
const TypeInfo& type_info(Type type);              // aborts when unknown

// Bytes of a row of element_count elements; element_count must be a multiple of the block size.
uint64_t row_bytes(Type type, uint64_t element_count);

}  // namespace dw::quant
