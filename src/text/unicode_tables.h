// Generated Unicode tables (tools/oracle/make_unicode_tables.py), flat so that they stay small in the source.
#pragma once

#include <cstdint>
#include <span>

namespace dw::unicode_tables {

// [runs, 2]: first code point, count << 3 | CharacterClass. Code points of no run are kOther.
extern const std::span<const uint32_t> kClasses;
// [runs, 2]: first code point, count << 8 | canonical combining class. Others have class 0.
extern const std::span<const uint32_t> kCombiningClasses;
// [pairs, 3]: composed, first, second, ascending by composed: both directions hold. No Hangul syllables.
extern const std::span<const uint32_t> kCompositions;
// [rows, 3]: code point, first, second (0: none), ascending: only taken apart, never put together.
extern const std::span<const uint32_t> kOneWayDecompositions;

}  // namespace dw::unicode_tables
