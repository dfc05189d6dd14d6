// Any text and any ids through the tokenizer: the round trip is lossless, what is streamed is valid UTF-8 and
// the same in whatever steps; any vocabulary is refused or works. Input: one byte of switches, then text (or,
// with bit 7, changes to a good vocabulary, then text).
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using dw::Tokenizer;

dw::VocabularyData good_vocabulary(const std::string& pre) {
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

const Tokenizer& good_tokenizer(unsigned which) {
  static const Tokenizer tokenizers[] = {Tokenizer::create(good_vocabulary("qwen2")).value(),
                                         Tokenizer::create(good_vocabulary("qwen35")).value(),
                                         Tokenizer::create(good_vocabulary("llama-bpe")).value(),
                                         Tokenizer::create(good_vocabulary("gpt-2")).value()};
  return tokenizers[which % 4];
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const dw::Utf8Character character = dw::decode_utf8(text);
    if (character.code_point == dw::kInvalidCodePoint) return false;
    text.remove_prefix(character.size_bytes);
  }
  return true;
}

// bytes with every maximal ill-formed subpart replaced, in one go.
std::string repair(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const dw::Utf8Status status = dw::inspect_utf8(bytes);
    const bool complete = status.kind == dw::Utf8Status::Kind::kComplete;
    out += complete ? bytes.substr(0, status.size_bytes) : std::string_view("\xef\xbf\xbd");
    bytes.remove_prefix(status.size_bytes);
  }
  return out;
}

void check_stream(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool show_special) {
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

void check_text(const Tokenizer& tokenizer, std::string_view text, bool parse_special) {
  const auto ids = tokenizer.encode(text, {.parse_special = parse_special, .normalize = false}).value();
  DW_CHECK(tokenizer.decode(ids, true).value() == text, "the round trip lost something");
  check_stream(tokenizer, ids, true);
  const auto again = tokenizer.encode(text, {.parse_special = parse_special, .normalize = false}).value();
  DW_CHECK(again == ids, "the same text gave other ids");
  const auto normalized =
      tokenizer.encode(text, {.add_special = true, .parse_special = parse_special}).value();
  check_stream(tokenizer, normalized, false);
}

void check_normalization(std::string_view text) {
  static const dw::UnicodeData unicode;
  std::string once, twice;
  unicode.append_nfc(text, once);
  unicode.append_nfc(once, twice);
  DW_CHECK(once == twice, "NFC is not idempotent");
  DW_CHECK(is_valid_utf8(once) == is_valid_utf8(text), "NFC made or mended broken UTF-8");
}

// Takes bytes from the front of data to change one thing of the vocabulary.
void spoil(dw::VocabularyData& data, std::string_view& input) {
  const auto take = [&]() -> unsigned {
    if (input.empty()) return 0;
    const auto byte = static_cast<unsigned char>(input.front());
    input.remove_prefix(1);
    return byte;
  };
  const auto take_text = [&] {
    const std::string text(input.substr(0, take() % 9));
    input.remove_prefix(std::min(input.size(), text.size()));
    return text;
  };
  const unsigned what = take();
  const size_t index = take() * 2 + (what >> 7);
  switch (what % 8) {
    case 0:
      data.tokens[index % data.tokens.size()] = take_text();
      break;
    case 1:
      data.types[index % data.types.size()] = int32_t(take() % 8);
      break;
    case 2:
      data.merges[index % data.merges.size()] = take_text();
      break;
    case 3:
      data.bos = int32_t(take()) * 2 - 1;
      break;
    case 4:
      data.merges.push_back(data.tokens[index % data.tokens.size()] + " " + data.tokens[take()]);
      break;
    case 5:
      data.add_bos = !data.add_bos;
      break;
    case 6:
      data.tokens.push_back(take_text());
      data.types.push_back(int32_t(index % 7));
      break;
    default:
      data.tokens.push_back(data.tokens[index % data.tokens.size()] + data.tokens[take()]);
      data.types.push_back(1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const unsigned switches = bytes[0];
  std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  if ((switches & 0x80) != 0) {
    const char* const names[] = {"qwen2", "qwen35", "llama-bpe", "gpt-2"};
    dw::VocabularyData data = good_vocabulary(names[switches % 4]);
    for (unsigned i = 0; i <= (switches >> 4 & 3); ++i) spoil(data, input);
    const auto tokenizer = Tokenizer::create(std::move(data));
    if (tokenizer) {
      check_text(*tokenizer, input, (switches & 4) != 0);
    } else {
      DW_CHECK(!tokenizer.error().message.empty() && is_valid_utf8(tokenizer.error().message),
               "bad error message");
    }
    return 0;
  }
  const Tokenizer& tokenizer = good_tokenizer(switches);
  check_text(tokenizer, input, (switches & 4) != 0);
  check_normalization(input);
  std::vector<int32_t> ids;
  for (const char c : input)
    ids.push_back((static_cast<unsigned char>(c) + int32_t(switches >> 3) * 2) % tokenizer.size());
  check_stream(tokenizer, ids, (switches & 8) != 0);
  return 0;
}
