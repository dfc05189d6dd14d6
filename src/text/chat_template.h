// Turns a conversation into the text of a prompt by the Jinja template that a model file carries
// (`tokenizer.chat_template`), as Hugging Face's apply_chat_template does. Files without a template get a
// built-in one: ChatML where the vocabulary has its markers, otherwise the plain concatenation of the
// messages (a base model completes text).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/expected.h"
#include "text/jinja.h"
#include "text/json.h"

namespace dw {

struct ChatOptions {
  bool add_generation_prompt = true;
  std::optional<bool> enable_thinking;  // the template's own default when not set
  std::string bos_token, eos_token;     // texts of the tokens; empty when the vocabulary has none
  Json extra;                           // an object: more variables for the template, or null
  bool join_text_parts = true;          // content given as parts reaches the template as one string
  jinja::Limits limits;
  jinja::Runtime::Clock clock;  // what strftime_now() reads; the local time when empty
};

class ChatTemplate {
 public:
  // Errors: the template is not UTF-8 or not valid Jinja; the sentence names the line.
  static Expected<ChatTemplate> create(std::string_view source);
  // For files without a template; has_chatml_tokens: the vocabulary holds <|im_start|> and <|im_end|>.
  static ChatTemplate builtin(bool has_chatml_tokens);

  // `messages` is an array of objects: role (a string), content (a string, null, or an array of parts
  // {"type": "text", "text": ...}), and what else the template knows (reasoning_content, tool_calls, name,
  // tool_call_id). Arguments of tool calls that are JSON objects in a string (OpenAI's form) become objects.
  // `tools` is null or an array of objects. Errors: a message of the wrong shape (its number is named), a
  // part that is not text, an error in the template with its line, or the sentence that the template raises.
  Expected<std::string> apply(const Json& messages, const Json& tools, const ChatOptions& options) const;

 private:
  explicit ChatTemplate(jinja::Template parsed) : template_(std::move(parsed)) {}
  jinja::Template template_;
};

}  // namespace dw
