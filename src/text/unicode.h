// What the tokenizer needs of Unicode: UTF-8 stepping, the four character classes the pre-tokenizers' regular
// expressions ask for, and Normalization Form C (UAX #15). The tables reproduce the Hugging Face `tokenizers`
// package (see tools/oracle/make_unicode_tables.py), so that token ids do not hang on a library's version.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dw {

enum class CharacterClass : uint8_t { kOther, kLetter, kNumber, kMark, kSpace };

// Stands for a byte that is not part of well-formed UTF-8; its class is kOther.
inline constexpr char32_t kInvalidCodePoint = 0x110000;

struct Utf8Character {
  char32_t code_point;  // kInvalidCodePoint for a byte that starts no well-formed sequence
  uint32_t size_bytes;  // 1..4; 1 for an invalid byte
};

// The character at the front of text, which must not be empty.
Utf8Character decode_multibyte_utf8(std::string_view text);
inline Utf8Character decode_utf8(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return {lead, 1};
  return decode_multibyte_utf8(text);
}
void append_utf8(char32_t code_point, std::string& out);

// How the front of text (not empty) stands as UTF-8, for input that arrives in pieces.
//   kComplete: size_bytes make one character;  kIncomplete: all of text is the start of one;
//   kIllFormed: size_bytes make a maximal ill-formed subpart (Unicode 3.9, table 3-8), one U+FFFD.
struct Utf8Status {
  enum class Kind { kComplete, kIncomplete, kIllFormed } kind;
  uint32_t size_bytes;
};
Utf8Status inspect_utf8(std::string_view text);

// The tables, spread out for direct look-up (1.1 MB). Immutable after construction.
class UnicodeData {
 public:
  UnicodeData();

  CharacterClass classify(char32_t c) const { return CharacterClass(table_[c] & 7); }
  // Appends text in NFC to out. Bytes that are not UTF-8 are copied as they are and separate what stands
  // around them.
  void append_nfc(std::string_view text, std::string& out) const;
  // True when append_nfc would change nothing that this quick check can tell (false may be a false alarm).
  bool is_surely_nfc(std::string_view text) const;

 private:
  struct Pair {
    uint64_t key;
    char32_t composed;
  };
  struct Decomposition {
    char32_t code_point, first, second;
  };
  struct Ordered {
    char32_t code_point;
    uint8_t combining;
  };

  // Characters that may change or combine with what stands before them; all others start a fresh segment.
  bool is_sensitive(char32_t c) const { return (table_[c] & 8) != 0; }
  size_t find_sensitive(std::string_view text, size_t from, size_t& segment_start) const;
  uint8_t combining_class(char32_t c) const;
  void decompose(char32_t c, std::vector<Ordered>& out) const;
  char32_t compose(char32_t first, char32_t second) const;  // 0: they do not compose
  void append_nfc_segment(std::string_view segment, std::string& out) const;

  std::vector<uint8_t> table_;                 // [0x110001]: class in bits 0-2, sensitive in bit 3
  std::vector<Pair> pairs_;                    // ascending by key = first << 32 | second
  std::vector<Decomposition> decompositions_;  // ascending by code point
};

}  // namespace dw
