#include "model/synth_vocabulary.h"

#include <algorithm>
#include <unordered_set>

namespace dw {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUnused = 5;
constexpr int32_t kSpecialCount = 3;
// The published vocabulary has 293 rows from <|endoftext|> to its end.
constexpr int32_t kRowsFromEndOfText = 293;

constexpr std::string_view kWords[] = {
    "the",   "of",    "and",   "to",    "in",   "that", "is",   "was",   "he",    "for",   "it",    "with",
    "as",    "his",   "on",    "be",    "at",   "by",   "had",  "not",   "but",   "from",  "or",    "have",
    "they",  "which", "one",   "you",   "were", "her",  "all",  "she",   "there", "would", "their", "we",
    "him",   "been",  "has",   "when",  "who",  "will", "more", "no",    "if",    "out",   "so",    "said",
    "what",  "up",    "its",   "about", "into", "than", "them", "can",   "only",  "other", "new",   "some",
    "could", "time",  "these", "two",   "may",  "then", "do",   "first", "any",   "my",    "now",   "such",
    "like",  "our",   "over",  "man",   "me",   "even",
};

std::string encode_utf8(uint32_t code) {  // below 0x800 is enough here
  if (code < 0x80) return std::string(1, char(code));
  return {char(0xc0 | (code >> 6)), char(0x80 | (code & 0x3f))};
}

// GPT-2's printable stand-in of each byte.
std::vector<std::string> byte_symbols() {
  std::vector<std::string> symbols;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    symbols.push_back(encode_utf8(printable ? byte : next++));
  }
  return symbols;
}

class Builder {
 public:
  Builder(SynthVocabulary& vocabulary, int32_t size) : vocabulary_(vocabulary), size_(size) {}

  bool add(const std::string& token, int32_t type) {
    if (!seen_.insert(token).second) return false;
    vocabulary_.tokens.push_back(token);
    vocabulary_.token_types.push_back(type);
    return true;
  }
  int32_t count() const { return int32_t(vocabulary_.tokens.size()); }

  // Builds the word from its letters, from left to right.
  void merge_word(std::string_view word, const std::string& front) {
    std::string left = front;
    for (const char letter : word) {
      if (count() >= size_ - kSpecialCount) return;
      const std::string right(1, letter);
      if (left.empty()) {
        left = right;
        continue;
      }
      if (add(left + right, kNormal)) vocabulary_.merges.push_back(left + " " + right);
      left += right;
    }
  }

  uint32_t add_special(const std::string& token) {
    add(token, kControl);
    return uint32_t(count() - 1);
  }

  void fill(int32_t count_wanted) {
    while (count() < count_wanted) add("[PAD" + std::to_string(count()) + "]", kUnused);
  }

 private:
  SynthVocabulary& vocabulary_;
  int32_t size_;
  std::unordered_set<std::string> seen_;
};

constexpr char kChatTemplate[] =
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

}  // namespace

Expected<SynthVocabulary> make_synth_vocabulary(int32_t size) {
  if (size < kLeastSynthVocabulary)
    return make_error("a vocabulary of ", size, " tokens is too small; ", kLeastSynthVocabulary,
                      " are needed");
  SynthVocabulary vocabulary;
  Builder builder(vocabulary, size);
  const std::vector<std::string> symbols = byte_symbols();
  for (const std::string& symbol : symbols) builder.add(symbol, kNormal);
  for (const std::string_view word : kWords) builder.merge_word(word, symbols[' ']);
  for (const std::string_view word : kWords) builder.merge_word(word, "");
  builder.fill(std::min(size - kSpecialCount, size - kRowsFromEndOfText));
  vocabulary.end_of_text = builder.add_special("<|endoftext|>");
  vocabulary.message_start = builder.add_special("<|im_start|>");
  vocabulary.message_end = builder.add_special("<|im_end|>");
  builder.fill(size);
  return vocabulary;
}

void write_vocabulary(gguf::Writer& writer, const SynthVocabulary& vocabulary) {
  writer.add("tokenizer.ggml.model", "gpt2");
  writer.add("tokenizer.ggml.pre", "qwen2");
  writer.add("tokenizer.ggml.tokens", vocabulary.tokens);
  writer.add("tokenizer.ggml.token_type", vocabulary.token_types);
  writer.add("tokenizer.ggml.merges", vocabulary.merges);
  writer.add("tokenizer.ggml.bos_token_id", vocabulary.end_of_text);
  writer.add("tokenizer.ggml.eos_token_id", vocabulary.message_end);
  writer.add("tokenizer.ggml.padding_token_id", vocabulary.end_of_text);
  writer.add("tokenizer.ggml.add_bos_token", false);
  writer.add("tokenizer.chat_template", kChatTemplate);
}

}  // namespace dw
