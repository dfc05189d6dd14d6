// The parameters of Tensile's kernel names: abbreviation, full name, meaning. Facts of Common.py
// (validParameters) of both Tensile versions that tensile.h names.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace dw::profile {

enum class TensileValue : uint8_t {
  kNumbers,  // "2", "n1", "16_16_1", "0p25"
  kWord,     // capitals of a word: "SB", "GLC"; may be a number too
};

struct TensileParameter {
  std::string_view key, full_name, meaning;
  TensileValue value = TensileValue::kNumbers;
};

// Several rows may share a key; they stand in the order in which the names print them.
std::span<const TensileParameter> tensile_parameters();

}  // namespace dw::profile
