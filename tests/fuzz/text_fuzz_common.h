// What the tokenizer's fuzz targets share: a small good vocabulary and the properties that must hold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace dw::fuzz {

inline dw::VocabularyData good_vocabulary(const std::string& pre) {
  dw::VocabularyData data;
  data.pre = pre;
  char32_t spare = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    data.tokens.emplace_back();
    dw::append_utf8(printable ? char32_t(byte) : spare++, data.tokens.back());
  }
  for (const std::string merge :
       {"a a", "aa aa", "t h", "th e", "\xc4\xa0 the", "aa a", "e r", "\xc4\x8a \xc4\x8a",
        "\xc3\xa2 \xc4\xa4", "\xc4\xa0 a", "' s", "a b", "ab ab", "b a", "1 2"}) {
    const size_t space = merge.find(' ');
    data.merges.push_back(merge);
    data.tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
  }
  data.types.assign(data.tokens.size(), 1);
  for (const std::string special : {"<|s|>", "<|s|><|e|>", "<|"}) {
    data.tokens.push_back(special);
    data.types.push_back(3);
  }
  for (const std::string user : {"<t>", "</t>", "<t", "ab!"}) {
    data.tokens.push_back(user);
    data.types.push_back(4);
  }
  data.bos = data.eos = int32_t(data.tokens.size()) - 7;
  return data;
}

inline bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const dw::Utf8Character character = dw::decode_utf8(text);
    if (character.code_point == dw::kInvalidCodePoint) return false;
    text.remove_prefix(character.size_bytes);
  }
  return true;
}

// bytes with every maximal ill-formed subpart replaced, in one go.
inline std::string repair(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const dw::Utf8Status status = dw::inspect_utf8(bytes);
    const bool complete = status.kind == dw::Utf8Status::Kind::kComplete;
    out += complete ? bytes.substr(0, status.size_bytes) : std::string_view("\xef\xbf\xbd");
    bytes.remove_prefix(status.size_bytes);
  }
  return out;
}

inline void check_stream(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool show_special) {
  dw::Detokenizer detokenizer(tokenizer, show_special);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string piece = detokenizer.append(id).value();
    DW_CHECK(is_valid_utf8(piece), "a streamed piece is not UTF-8");
    streamed += piece;
  }
  streamed += detokenizer.flush();
  DW_CHECK(streamed == repair(tokenizer.decode(ids, show_special).value()),
           "streamed text differs from whole text");
}

inline void check_text(const Tokenizer& tokenizer, std::string_view text, bool parse_special) {
  const auto ids = tokenizer.encode(text, {.parse_special = parse_special, .normalize = false}).value();
  DW_CHECK(tokenizer.decode(ids, true).value() == text, "the round trip lost something");
  check_stream(tokenizer, ids, true);
  const auto again = tokenizer.encode(text, {.parse_special = parse_special, .normalize = false}).value();
  DW_CHECK(again == ids, "the same text gave other ids");
  const auto normalized =
      tokenizer.encode(text, {.add_special = true, .parse_special = parse_special}).value();
  check_stream(tokenizer, normalized, false);
}

}  // namespace dw::fuzz
