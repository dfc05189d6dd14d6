// Turns messages into prompt tokens with the chat template of the model (or one the user gave). A model
// without a template gets ChatML when its vocabulary has the markers, else a plain transcript
// ("User: ... Assistant: ...").
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "text/chat_template.h"

namespace dw {

struct ChatMessage {
  std::string role;  // system, user, assistant
  std::string content;
  std::string reasoning;  // of an assistant: what stood between <think> and </think>
};

struct ChatTokens {
  std::vector<int32_t> tokens;
  bool in_reasoning = false;  // the prompt ends inside <think>: the answer begins with reasoning
};

class ChatPrompt {
 public:
  enum class Form { kTemplate, kChatml, kTranscript };

  // template_file empty: the file's own template, if any. The engine must outlive this.
  Expected<void> load(const Engine& engine, const std::string& template_file);
  bool has_template() const { return form_ == Form::kTemplate; }
  Form form() const { return form_; }
  // What ends an answer besides the end-of-text tokens: the next turn of a transcript.
  std::vector<std::string> stops() const;

  // The text as it is; a system message is put before it. Special tokens in the text are text.
  Expected<std::vector<int32_t>> encode_plain(std::string_view text, std::string_view system) const;
  // One user message (and a system message), ready for the answer.
  Expected<std::vector<int32_t>> encode_single(std::string_view text, std::string_view system) const;
  // A whole conversation, ready for the answer. thinking: enable_thinking of the template; empty: its own
  // default.
  Expected<ChatTokens> encode(const std::vector<ChatMessage>& messages, std::optional<bool> thinking) const;

 private:
  Expected<std::string> render(const std::vector<ChatMessage>& messages, std::optional<bool> thinking) const;
  // With the token every sequence of this model begins with, unless the text has it already.
  Expected<std::vector<int32_t>> tokenize(std::string_view text, bool parse_special) const;

  const Tokenizer* tokenizer_ = nullptr;
  std::optional<int32_t> first_token_;  // bos, where the vocabulary asks for it
  std::optional<ChatTemplate> template_;
  Form form_ = Form::kTranscript;
};

}  // namespace dw
