// Numbers as traces write them, without a detour through floating point.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace dw::profile {

// Decimal digits with an optional sign; nothing else around them. Empty: no number, or out of range.
std::optional<int64_t> parse_integer(std::string_view text);

// A decimal number times 10^shift, rounded to the nearest integer (halves away from zero): "12.3456" with
// shift 3 is 12346. Exponents are read too. Empty: no number, or the result is out of range.
std::optional<int64_t> parse_scaled(std::string_view text, int shift);

// A number with the separators of some locale: "27,595,520", "27.595.520", "1,234.5", "1.234,5". A single
// separator followed by three digits separates thousands when `integral` (the unit has no fractions), else a
// comma does and a point is the decimal point. Scaled as parse_scaled.
std::optional<int64_t> parse_grouped(std::string_view text, int shift, bool integral);

// The power of ten that turns a unit into nanoseconds: "ns" 0, "us" or "usecond" 3, ... Empty: no time unit.
std::optional<int> time_shift(std::string_view unit);

}  // namespace dw::profile
