#include "text/vocabulary.h"

#include <algorithm>
#include <limits>

#include "text/unicode.h"

namespace dw {
namespace {

// GPT-2's byte alphabet: printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    bytes_.fill(-1);
    char32_t spare = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      characters_[size_t(byte)] = printable ? char32_t(byte) : spare++;
      bytes_[characters_[size_t(byte)]] = int16_t(byte);
    }
  }
  std::string character(int byte) const {
    std::string out;
    append_utf8(characters_[size_t(byte)], out);
    return out;
  }
  // Appends the bytes text stands for; false if it has a character outside the alphabet.
  bool append_bytes(std::string_view text, std::string& out) const {
    while (!text.empty()) {
      const Utf8Character character = decode_utf8(text);
      if (character.code_point >= bytes_.size() || bytes_[character.code_point] < 0) return false;
      out += char(bytes_[character.code_point]);
      text.remove_prefix(character.size_bytes);
    }
    return true;
  }

 private:
  std::array<char32_t, 256> characters_{};
  std::array<int16_t, 0x100 + 68> bytes_{};
};

// Token text for an error message: shortened, control bytes and broken UTF-8 shown as ?.
std::string quote(std::string_view text) {
  std::string out = "\"";
  size_t shown = 0;
  while (!text.empty() && ++shown <= 40) {
    const Utf8Character character = decode_utf8(text);
    const bool plain = character.code_point >= 0x20 && character.code_point < kInvalidCodePoint;
    out += plain ? text.substr(0, character.size_bytes) : "?";
    text.remove_prefix(character.size_bytes);
  }
  return out + (text.empty() ? "\"" : "...\"");
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// "<0x0A>", or -1.
int parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool is_end_text(std::string_view text) {
  constexpr std::array<std::string_view, 5> kEnds{"<|endoftext|>", "<|im_end|>", "<|eot_id|>",
                                                  "<|end_of_text|>", "<|eom_id|>"};
  return std::ranges::find(kEnds, text) != kEnds.end();
}

Expected<void> check_sizes(const VocabularyData& data) {
  if (data.tokens.empty()) return make_error("the tokenizer's vocabulary is empty");
  if (data.tokens.size() > size_t(std::numeric_limits<int32_t>::max())) {
    return make_error("the tokenizer's vocabulary has ", data.tokens.size(),
                      " tokens, more than ids can count");
  }
  if (data.merges.size() > size_t(std::numeric_limits<int32_t>::max()) / 2) {
    return make_error("the tokenizer has ", data.merges.size(), " merges, more than ranks can count");
  }
  if (!data.types.empty() && data.types.size() != data.tokens.size()) {
    return make_error("the tokenizer has ", data.tokens.size(), " tokens but ", data.types.size(),
                      " token types");
  }
  const auto size = int32_t(data.tokens.size());
  const std::array<std::pair<std::string_view, int32_t>, 4> ids{
      {{"bos", data.bos}, {"eos", data.eos}, {"eot", data.eot}, {"padding", data.pad}}};
  for (const auto& [name, id] : ids) {
    if (id < -1 || id >= size) {
      return make_error("the tokenizer's ", name, " token id is ", id, ", but ids go from 0 to ", size - 1);
    }
  }
  if (data.add_bos && data.bos < 0) return make_error("the tokenizer is to add a bos token but names none");
  if (data.add_eos && data.eos < 0) return make_error("the tokenizer is to add an eos token but names none");
  return {};
}

Expected<void> add_token(Vocabulary& vocabulary, const ByteAlphabet& alphabet, int32_t id) {
  const std::string& text = vocabulary.data.tokens[size_t(id)];
  const int32_t number = vocabulary.data.types.empty() ? 1 : vocabulary.data.types[size_t(id)];
  if (number < 1 || number > 6) {
    return make_error("token ", id, " ", quote(text), " has type ", number, ", but types go from 1 to 6");
  }
  const auto type = TokenType(number);
  vocabulary.types.push_back(type);
  switch (type) {
    case TokenType::kNormal:
      if (!alphabet.append_bytes(text, vocabulary.bytes)) {
        return make_error("token ", id, " ", quote(text),
                          " has a character that stands for no byte in the byte-level alphabet");
      }
      break;
    case TokenType::kByte: {
      const int byte = parse_byte_token(text);
      if (byte < 0) return make_error("byte token ", id, " reads ", quote(text), ", not like <0x0A>");
      vocabulary.bytes += char(byte);
      break;
    }
    case TokenType::kUnused:
      break;
    default:
      vocabulary.bytes += text;
  }
  if (type == TokenType::kUserDefined) vocabulary.user_defined.insert(text, id);
  if (type == TokenType::kUserDefined || type == TokenType::kControl) vocabulary.all_special.insert(text, id);
  const bool is_end = id == vocabulary.data.eos || id == vocabulary.data.eot;
  vocabulary.ends_generation.push_back(is_end || (type == TokenType::kControl && is_end_text(text)));
  vocabulary.offsets.push_back(vocabulary.bytes.size());
  vocabulary.ids[text] = id;
  return {};
}

}  // namespace

Expected<std::unique_ptr<Vocabulary>> build_vocabulary(VocabularyData data) {
  if (auto checked = check_sizes(data); !checked) return checked.error();
  const ByteAlphabet alphabet;
  auto vocabulary = std::make_unique<Vocabulary>();
  vocabulary->data = std::move(data);
  vocabulary->offsets.push_back(0);
  vocabulary->ids.reserve(vocabulary->data.tokens.size());
  for (int32_t id = 0; id < int32_t(vocabulary->data.tokens.size()); ++id) {
    if (auto added = add_token(*vocabulary, alphabet, id); !added) return added.error();
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = vocabulary->ids.find(alphabet.character(byte));
    const bool usable =
        found != vocabulary->ids.end() && vocabulary->types[size_t(found->second)] == TokenType::kNormal;
    if (!usable) {
      return make_error("the vocabulary has no token for byte ", byte, " (", quote(alphabet.character(byte)),
                        "), so text with that byte could not be encoded");
    }
    vocabulary->byte_ids[size_t(byte)] = found->second;
  }
  return vocabulary;
}

Expected<MergeTable> build_merges(const Vocabulary& vocabulary) {
  MergeTable table(vocabulary.data.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < vocabulary.data.merges.size(); ++rank) {
    const std::string_view merge = vocabulary.data.merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string_view::npos) {
      return make_error("merge ", rank, " reads ", quote(merge), ", not two tokens with a space between");
    }
    joined.assign(merge.substr(0, space)).append(merge.substr(space + 1));
    const std::array<std::string_view, 3> texts{merge.substr(0, space), merge.substr(space + 1), joined};
    std::array<int32_t, 3> ids{};
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto found = vocabulary.ids.find(texts[i]);
      if (found == vocabulary.ids.end() || vocabulary.types[size_t(found->second)] != TokenType::kNormal) {
        return make_error("merge ", rank, " ", quote(merge), " needs ", quote(texts[i]),
                          ", which is not a normal token of the vocabulary");
      }
      ids[i] = found->second;
    }
    table.insert(ids[0], ids[1], {int32_t(rank), ids[2]});
  }
  return table;
}

}  // namespace dw
