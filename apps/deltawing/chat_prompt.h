// Turns messages into prompt tokens with the chat template of the model (or one the user gave).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "text/chat_template.h"

namespace dw {

class ChatPrompt {
 public:
  // template_file empty: the file's own template, if any.
  Expected<void> load(const Engine& engine, const std::string& template_file);
  bool has_template() const { return template_.has_value(); }

  // The text as it is; a system message is put before it.
  Expected<std::vector<int32_t>> encode_plain(std::string_view text, std::string_view system) const;
  // One user message (and a system message), ready for the answer.
  Expected<std::vector<int32_t>> encode_single(std::string_view text, std::string_view system) const;
  // A whole conversation, ready for the answer.
  Expected<std::vector<int32_t>> encode(const std::vector<ChatMessage>& messages,
                                        const ChatOptions& options) const;

 private:
  const Tokenizer* tokenizer_ = nullptr;
  std::optional<ChatTemplate> template_;
};

}  // namespace dw
