// Byte-level BPE tokenizer of the GPT-2 and Qwen family, made from the vocabulary a model file carries. Token
// ids are those of the Hugging Face `tokenizers` package. A Tokenizer is immutable and safe to use from many
// threads at once.
//
// Text that is not UTF-8: the bytes that are part of no well-formed sequence are encoded one by one through
// the byte tokens that every vocabulary here must have, so decode(encode(x)) == x for every byte string once
// normalisation is off (or changes nothing). Hugging Face cannot be given such text; on well-formed text the
// two agree.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/expected.h"

namespace dw {

enum class TokenType : int32_t {  // GGUF's tokenizer.ggml.token_type
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// What a GGUF file says under tokenizer.ggml.*; nothing of it is trusted.
struct VocabularyData {
  // Normal tokens in GPT-2's byte alphabet ("Ġthe" for " the"); control and user-defined ones as they read.
  std::vector<std::string> tokens{};
  std::vector<int32_t> types{};                    // TokenType each; empty: all normal
  std::vector<std::string> merges{};               // "left right", best rank first
  std::string pre{};                               // see text/pretokenizer.h
  int32_t bos = -1, eos = -1, eot = -1, pad = -1;  // token ids, -1: absent
  bool add_bos = false, add_eos = false;
};

struct EncodeOptions {
  bool add_special = false;    // add bos and eos where the vocabulary asks for them
  bool parse_special = false;  // find control tokens in the text; user-defined ones always are
  bool normalize = true;       // NFC where the model family uses it (Qwen)
};

class Tokenizer {
 public:
  // Errors: empty vocabulary; sizes that do not match; ids out of range; unknown pre; a normal token outside
  // the byte alphabet; a merge whose halves or result are no tokens; a byte without a token; add_bos without
  // bos. A token text that stands twice means its later id, as in Hugging Face's vocabulary.
  static Expected<Tokenizer> create(VocabularyData vocabulary);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Error: text longer than 1 GiB.
  Expected<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options = {}) const;
  // The bytes of all tokens, one after another; control tokens only if show_special. They may end inside a
  // character: text/detokenizer.h turns them into text. Error: an id outside the vocabulary.
  Expected<std::string> decode(std::span<const int32_t> ids, bool show_special = false) const;

  int32_t size() const;
  bool contains(int32_t id) const { return id >= 0 && id < size(); }
  // The following need contains(id). token_bytes is what the token stands for, empty for unused ones.
  std::string_view token_bytes(int32_t id) const;
  TokenType token_type(int32_t id) const;
  bool is_special(int32_t id) const;  // control or unknown: hidden when decoding
  // eos, eot and the control tokens known to end a turn or text in the families this reads.
  bool is_end_of_generation(int32_t id) const;
  std::optional<int32_t> find(std::string_view text) const;  // by the text in the vocabulary

  std::optional<int32_t> bos() const;
  std::optional<int32_t> eos() const;
  std::optional<int32_t> eot() const;
  std::optional<int32_t> pad() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dw
