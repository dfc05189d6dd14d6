// A conversation with a model: its messages, its settings and the one engine session that runs it. Every turn
// hands the whole conversation to the engine, which keeps what it already has.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat_prompt.h"
#include "engine/engine.h"
#include "flags.h"

namespace dw {

struct ChatSettings {
  SamplingFlags sampling;
  int32_t max_tokens = -1;
  std::string system;
  std::optional<bool> thinking;  // empty: the template's own default
  std::vector<std::string> stops;
};

class ChatSession {
 public:
  // Called with new reasoning and new answer text (either may be empty), in this order.
  using OnText = std::function<void(std::string_view reasoning, std::string_view answer)>;

  ChatSession(Engine& engine, const ChatPrompt& prompt, SessionId session, ChatSettings settings)
      : engine_(engine), prompt_(prompt), session_(session), settings_(std::move(settings)) {}

  // Errors leave the conversation as it was. Ctrl+C keeps the part of the answer that was said; before the
  // first word it takes the message back.
  Expected<FinishReason> say(std::string text, const OnText& on_text);
  // Another answer to the last message.
  Expected<FinishReason> regenerate(const OnText& on_text);
  void clear();

  // NAME VALUE as /set takes them. Errors: unknown name, no number, out of range.
  Expected<void> set(const std::string& name, const std::string& value);
  void set_thinking(bool on) { settings_.thinking = on; }
  std::string show() const;  // settings, context use, times, model: one line each

  Expected<void> save(const std::string& path) const;
  Expected<void> load(const std::string& path);

  size_t turn_count() const;

 private:
  Expected<FinishReason> answer(const OnText& on_text);
  std::vector<ChatMessage> with_system() const;

  Engine& engine_;
  const ChatPrompt& prompt_;
  SessionId session_;
  ChatSettings settings_;
  std::vector<ChatMessage> messages_;  // user and assistant
};

}  // namespace dw
