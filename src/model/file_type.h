// File types: the named mixes of tensor types that quantised GGUF files are published in (Q4_K_M, IQ4_XS,
// ...), and the rule that gives each tensor of a Qwen3-Next file its type. The rules are those of llama.cpp's
// llama-quantize without an importance matrix, so that files are the same size and of the same kind whoever
// made them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/expected.h"
#include "quant/types.h"

namespace dw {

// The number is the value of general.file_type.
enum class FileTypeId : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 7,
  kQ5_0 = 8,
  kQ5_1 = 9,
  kQ2_K = 10,
  kQ3_K_S = 11,
  kQ3_K_M = 12,
  kQ3_K_L = 13,
  kQ4_K_S = 14,
  kQ4_K_M = 15,
  kQ5_K_S = 16,
  kQ5_K_M = 17,
  kQ6_K = 18,
  kIQ2_XXS = 19,
  kIQ2_XS = 20,
  kQ2_K_S = 21,
  kIQ3_XS = 22,
  kIQ3_XXS = 23,
  kIQ1_S = 24,
  kIQ4_NL = 25,
  kIQ3_S = 26,
  kIQ3_M = 27,
  kIQ2_S = 28,
  kIQ2_M = 29,
  kIQ4_XS = 30,
  kIQ1_M = 31,
  kBF16 = 32,
  kMXFP4 = 38,
};

struct FileType {
  FileTypeId id;
  std::string_view name;  // "Q4_K_M"
  quant::Type base;       // of most tensors
};

std::span<const FileType> all_file_types();
const FileType* find_file_type(std::string_view name);  // case-insensitive; nullptr when unknown
const FileType* find_file_type(uint64_t number);

struct MixTensor {
  std::string name;
  std::array<uint64_t, 4> shape{1, 1, 1, 1};  // file order
  quant::Type source = quant::Type::F32;      // kept by tensors that are never quantised (norms, router, ...)
};

struct TypeOverride {
  std::regex pattern;  // searched in the tensor's name
  quant::Type type;
};
// "PATTERN=TYPE", e.g. "ffn_down_exps=Q6_K". The Error says what is wrong with it.
Expected<TypeOverride> parse_type_override(const std::string& text);

struct MixOptions {
  FileType file_type{};
  uint32_t block_count = 0;  // MTP blocks included
  uint32_t expert_count = 0;
  uint32_t head_group = 1;              // query heads to a KV head
  bool pure = false;                    // the base type for everything that is quantised
  std::vector<TypeOverride> overrides;  // the first that matches wins
};

struct TypeChoice {
  quant::Type type;
  std::string note;  // why another type than the mix's was taken; usually empty
};

// One choice a tensor, in the order given.
std::vector<TypeChoice> choose_types(std::span<const MixTensor> tensors, const MixOptions& options);

// Norms, routers, convolutions, vectors: never quantised.
bool is_quantisable(const MixTensor& tensor);

}  // namespace dw
