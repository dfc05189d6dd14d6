// The kernels that Deltawing knows by name, as data. A rule holds for a name when its pattern fits the
// function's own name (base_name) and the whole name holds its second text; the first rule that holds counts.
// docs/how-to.md says how to add one.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "profile/names/kernel_name.h"

namespace dw::profile {

enum class NameReader : uint8_t {
  kArguments,   // template arguments, as far as the rule names them
  kLibrary,     // tiles, types and layouts in names of cuBLAS, cuDNN and CUTLASS
  kCollective,  // operation, type, algorithm and protocol in names of NCCL and RCCL
};

struct NameRule {
  std::string_view own;     // '*' stands for any text: "mul_mat_vec_q*"
  std::string_view inside;  // anywhere in the whole name; empty: any
  std::string_view family;
  Category category;
  std::string_view words;
  // What the template arguments are, comma-separated in their order; empty: not of interest.
  std::string_view arguments = {};
  NameReader reader = NameReader::kArguments;
};

// Each family's rules; rule_tables() holds them in the order in which they are tried.
std::span<const NameRule> deltawing_rules();
std::span<const NameRule> profiler_rules();  // own is held against the whole name: these are sentences
std::span<const NameRule> communication_rules();
std::span<const NameRule> ggml_rules();
std::span<const NameRule> attention_rules();
std::span<const NameRule> serving_rules();
std::span<const NameRule> pytorch_rules();
std::span<const NameRule> library_rules();
std::span<const NameRule> triton_rules();
std::span<const std::span<const NameRule>> rule_tables();

bool fits(std::string_view text, std::string_view pattern);

// own: the function's own name; whole: the whole name. Null: no rule holds.
const NameRule* find_rule(std::string_view own, std::string_view whole);

}  // namespace dw::profile
