// What the name of a GPU kernel says: which software it belongs to, what it does, in a word and in a
// sentence. Any name of any trace may come in: mangled or demangled C++, Triton, Tensile, rows of profilers
// for copies, cut off or damaged. Recognition is by rules (name_rules.h) and, for Tensile, by a decoder
// (tensile.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dw::profile {

enum class Category : uint8_t {
  kGemm,
  kQuantisedMatmul,  // products with quantised weights, and the quantising and dequantising they need
  kAttention,
  kLinearAttention,
  kConv,
  kNorm,
  kElementwise,
  kMemory,     // copies, fills, gathers, changes of layout or type
  kReduction,  // sums, softmax, scans, sorts
  kRouting,    // choice of experts and order of their tokens
  kCommunication,
  kSampling,
  kOther,
};
std::string_view category_name(Category category);  // "GEMM", "quantised matmul", ...
std::span<const Category> all_categories();

struct NameDetail {
  std::string key;      // as in the name: "GLVWA"; or what it is: "head size"
  std::string value;    // in the name's spelling
  std::string meaning;  // in words; empty: not known
};

struct KernelName {
  std::string_view family;  // "rocBLAS", "ggml", "PyTorch", ...; "unknown"
  Category category = Category::kOther;
  std::string short_name;  // at most 64 characters, printable
  std::string words;       // one sentence without a full stop
  std::vector<NameDetail> details;
};

KernelName describe(std::string_view raw);

}  // namespace dw::profile
