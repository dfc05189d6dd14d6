#include "text/pretokenizer.h"

#include <algorithm>
#include <array>

namespace dw {
namespace {

bool is_newline(char32_t c) {
  return c == '\r' || c == '\n';
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? char(c + 32) : c;
}

}  // namespace

Pretokenizer::Pretokenizer(Rules rules, std::shared_ptr<const UnicodeData> unicode)
    : rules_(rules), unicode_(std::move(unicode)) {}

Expected<Pretokenizer> Pretokenizer::create(std::string_view name,
                                            std::shared_ptr<const UnicodeData> unicode) {
  struct Row {
    std::string_view name;
    Rules rules;
  };
  const Rules qwen2{.normalizes = true};
  const Rules qwen35{.marks_are_letters = true, .normalizes = true};
  const Rules llama3{.max_digits = 3, .ignores_merges = true};
  const Rules gpt2{.gpt2_style = true, .max_digits = 0};
  const std::array<Row, 10> rows{{{"qwen2", qwen2},
                                  {"deepseek-r1-qwen", qwen2},
                                  {"qwen35", qwen35},
                                  {"qwen3.5", qwen35},
                                  {"llama-bpe", llama3},
                                  {"llama3", llama3},
                                  {"llama-v3", llama3},
                                  {"gpt-2", gpt2},
                                  {"gpt2", gpt2},
                                  {"phi-2", gpt2}}};
  const auto row = std::ranges::find(rows, name, &Row::name);
  if (row != rows.end()) return Pretokenizer(row->rules, std::move(unicode));
  std::string known;
  for (const Row& each : rows) known.append(known.empty() ? "" : ", ").append(each.name);
  return make_error("the tokenizer's pre-tokenizer (tokenizer.ggml.pre) is \"", name.substr(0, 64),
                    "\", which is not supported; supported are ", known);
}

Pretokenizer::Character Pretokenizer::at(std::string_view text, size_t offset) const {
  if (offset >= text.size()) return {kInvalidCodePoint, offset, Kind::kEnd};
  const Utf8Character character = decode_utf8(text.substr(offset));
  Kind kind = Kind(unicode_->classify(character.code_point));
  if (kind == Kind::kMark && rules_.marks_are_letters) kind = Kind::kWord;
  return {character.code_point, offset + character.size_bytes, kind};
}

// The size of 's 't 're 've 'm 'll 'd at the front of text, 0 for none.
size_t Pretokenizer::contraction(std::string_view text) const {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto letter = [&](size_t i) { return rules_.gpt2_style ? text[i] : lower(text[i]); };
  const char first = letter(1);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  // U+017F (long s) folds to s under (?i).
  if (!rules_.gpt2_style && text.substr(1, 2) == "\xc5\xbf") return 3;
  if (text.size() < 3) return 0;
  const char second = letter(2);
  const bool found =
      (first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l');
  return found ? 3 : 0;
}

size_t Pretokenizer::run(std::string_view text, size_t offset, Kind kind) const {
  for (Character next = at(text, offset); next.kind == kind; next = at(text, offset)) offset = next.end;
  return offset;
}

size_t Pretokenizer::punctuation(std::string_view text, size_t offset) const {
  for (Character next = at(text, offset); is_punctuation(next.kind); next = at(text, offset)) {
    offset = next.end;
  }
  if (rules_.gpt2_style) return offset;
  while (offset < text.size() && is_newline(static_cast<unsigned char>(text[offset]))) ++offset;
  return offset;
}

// text starts with a space that no other alternative took: \s*[\r\n]+, then \s+(?!\S), then \s+.
size_t Pretokenizer::space(std::string_view text) const {
  size_t end = 0, last = 0, newline_end = 0;  // last: where the run's last character starts
  for (Character next = at(text, 0); next.kind == Kind::kSpace; next = at(text, end)) {
    last = end;
    end = next.end;
    if (is_newline(next.code_point)) newline_end = end;
  }
  if (newline_end != 0 && !rules_.gpt2_style) return newline_end;
  if (end == text.size() || last == 0) return end;
  return last;
}

size_t Pretokenizer::next(std::string_view text) const {
  const Character first = at(text, 0);
  if (first.code_point == '\'') {
    if (const size_t size = contraction(text); size != 0) return size;
  }
  if (first.kind == Kind::kWord) return run(text, first.end, Kind::kWord);
  if (first.kind == Kind::kNumber) {
    if (rules_.max_digits == 0) return run(text, first.end, Kind::kNumber);
    size_t end = first.end;
    for (int count = 1; count < rules_.max_digits; ++count) {
      const Character following = at(text, end);
      if (following.kind != Kind::kNumber) break;
      end = following.end;
    }
    return end;
  }
  const Character second = at(text, first.end);
  const bool blank = first.code_point == ' ';
  if (rules_.gpt2_style ? blank : !is_newline(first.code_point)) {
    if (second.kind == Kind::kWord) return run(text, second.end, Kind::kWord);
  }
  if (blank && rules_.gpt2_style && second.kind == Kind::kNumber) {
    return run(text, second.end, Kind::kNumber);
  }
  if (is_punctuation(first.kind)) return punctuation(text, first.end);
  if (blank && is_punctuation(second.kind)) return punctuation(text, second.end);
  return space(text);
}

}  // namespace dw
