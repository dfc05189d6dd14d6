// Token ids to text, one at a time: what it gives out is always whole, valid UTF-8. A character that is still
// incomplete is held back until its last byte comes; bytes that can belong to no character become U+FFFD, one
// for each maximal ill-formed subpart (Unicode 3.9), as Hugging Face's decode does. However the ids are split
// into calls, the text put together is the same.
#pragma once

#include <cstdint>
#include <string>

#include "base/expected.h"
#include "text/tokenizer.h"

namespace dw {

class Detokenizer {
 public:
  // The tokenizer must outlive this. show_special: control tokens appear as they read.
  explicit Detokenizer(const Tokenizer& tokenizer, bool show_special = false)
      : tokenizer_(&tokenizer), show_special_(show_special) {}

  // The text that this token completes; may be empty. Error: an id outside the vocabulary.
  Expected<std::string> append(int32_t id);
  // Ends the text: the held-back start of a character, if any, as U+FFFD. The detokenizer is then as new.
  std::string flush();

 private:
  const Tokenizer* tokenizer_;
  bool show_special_;
  std::string pending_;  // the start of a character, 0..3 bytes
};

}  // namespace dw
