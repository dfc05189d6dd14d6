// Pre-tokenizers: cut text into the pieces within which BPE may merge. Each is a hand-written automaton that
// finds what the model family's regular expression finds (leftmost, first alternative that matches), in
// linear time. Bytes that are not UTF-8 count as characters of no class, like punctuation.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/expected.h"
#include "text/unicode.h"

namespace dw {

class Pretokenizer {
 public:
  // Regular expressions, all with \p and \s as the Hugging Face tokenizers package defines them:
  //   qwen2:     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*
  //              |\s*[\r\n]+|\s+(?!\S)|\s+
  //   qwen35:    as qwen2, \p{M} going with \p{L} in the second and fourth alternative
  //   llama-bpe: as qwen2 with \p{N}{1,3}
  //   gpt-2:     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  // name is GGUF's tokenizer.ggml.pre; other names for the same expressions are accepted. Error: unknown
  // name.
  static Expected<Pretokenizer> create(std::string_view name, std::shared_ptr<const UnicodeData> unicode);

  // The size in bytes of the first piece of text, which must not be empty; 1 .. text.size().
  size_t next(std::string_view text) const;

  bool normalizes() const { return rules_.normalizes; }          // text is brought to NFC first
  bool ignores_merges() const { return rules_.ignores_merges; }  // a piece that is a token is that token

 private:
  struct Rules {
    bool gpt2_style = false;  // " ?" before a word, not any one character; case-sensitive contractions
    bool marks_are_letters = false;
    int max_digits = 1;  // longest run of \p{N} in one piece; 0: no limit
    bool normalizes = false;
    bool ignores_merges = false;
  };
  enum class Kind : uint8_t { kOther, kWord, kNumber, kMark, kSpace, kEnd };
  struct Character {
    char32_t code_point;
    size_t end;  // offset of the next character
    Kind kind;
  };

  Pretokenizer(Rules rules, std::shared_ptr<const UnicodeData> unicode);
  Character at(std::string_view text, size_t offset) const;
  size_t contraction(std::string_view text) const;
  size_t run(std::string_view text, size_t offset, Kind kind) const;
  size_t punctuation(std::string_view text, size_t offset) const;
  size_t space(std::string_view text) const;
  bool is_punctuation(Kind kind) const { return kind == Kind::kOther || kind == Kind::kMark; }

  Rules rules_;
  std::shared_ptr<const UnicodeData> unicode_;
};

}  // namespace dw
