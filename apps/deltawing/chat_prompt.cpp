#include "chat_prompt.h"

#include "console.h"

namespace dw {
namespace {

std::string token_text(const Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id && tokenizer.contains(*id) ? std::string(tokenizer.token_bytes(*id)) : std::string();
}

std::string transcript(const std::vector<ChatMessage>& messages) {
  std::string text;
  for (const ChatMessage& m : messages) {
    if (m.role == "system")
      text += m.content + "\n\n";
    else
      text += (m.role == "user" ? "User: " : "Assistant: ") + m.content + "\n";
  }
  return text + "Assistant:";
}

Json to_json(const std::vector<ChatMessage>& messages) {
  Json::Array list;
  for (const ChatMessage& m : messages) {
    Json entry;
    entry.set("role", m.role);
    entry.set("content", m.content);
    if (!m.reasoning.empty()) entry.set("reasoning_content", m.reasoning);
    list.push_back(std::move(entry));
  }
  return list;
}

bool ends_with_think(std::string_view text) {
  const size_t last = text.find_last_not_of(" \t\r\n");
  return last != std::string_view::npos && text.substr(0, last + 1).ends_with("<think>");
}

}  // namespace

Expected<void> ChatPrompt::load(const Engine& engine, const std::string& template_file) {
  tokenizer_ = &engine.tokenizer();
  auto add_bos = engine.file().get_bool("tokenizer.ggml.add_bos_token");
  if (!add_bos) return add_bos.error();
  if (add_bos->value_or(false)) first_token_ = tokenizer_->bos();

  std::optional<std::string> source;
  if (!template_file.empty()) {
    auto text = read_file(template_file);
    if (!text) return text.error();
    source = std::move(*text);
  } else {
    auto text = engine.file().get_string("tokenizer.chat_template");
    if (!text) return text.error();
    source = std::move(*text);
  }
  if (source) {
    auto parsed = ChatTemplate::create(*source);
    if (!parsed)
      return make_error(template_file.empty() ? "the chat template of the model" : template_file, ": ",
                        parsed.error().message,
                        "; give another with --chat-template-file, or do without with --raw");
    template_ = std::move(*parsed);
    form_ = Form::kTemplate;
  } else if (tokenizer_->find("<|im_start|>") && tokenizer_->find("<|im_end|>")) {
    template_ = ChatTemplate::builtin(true);
    form_ = Form::kChatml;
  }
  return {};
}

std::vector<std::string> ChatPrompt::stops() const {
  if (form_ == Form::kTranscript) return {"\nUser:"};
  return {};
}

Expected<std::string> ChatPrompt::render(const std::vector<ChatMessage>& messages,
                                         std::optional<bool> thinking) const {
  if (form_ == Form::kTranscript) return transcript(messages);
  ChatOptions options;
  options.enable_thinking = thinking;
  options.bos_token = token_text(*tokenizer_, tokenizer_->bos());
  options.eos_token = token_text(*tokenizer_, tokenizer_->eos());
  return template_->apply(to_json(messages), Json(), options);
}

Expected<std::vector<int32_t>> ChatPrompt::tokenize(std::string_view text, bool parse_special) const {
  EncodeOptions options;
  options.parse_special = parse_special;
  auto tokens = tokenizer_->encode(text, options);
  if (!tokens) return tokens;
  if (first_token_ && (tokens->empty() || tokens->front() != *first_token_))
    tokens->insert(tokens->begin(), *first_token_);
  return tokens;
}

Expected<std::vector<int32_t>> ChatPrompt::encode_plain(std::string_view text,
                                                        std::string_view system) const {
  std::string whole(system);
  if (!system.empty()) whole += "\n\n";
  whole += text;
  return tokenize(whole, false);
}

Expected<std::vector<int32_t>> ChatPrompt::encode_single(std::string_view text,
                                                         std::string_view system) const {
  std::vector<ChatMessage> messages;
  if (!system.empty()) messages.push_back({"system", std::string(system), {}});
  messages.push_back({"user", std::string(text), {}});
  auto encoded = encode(messages, std::nullopt);
  if (!encoded) return encoded.error();
  return std::move(encoded->tokens);
}

Expected<ChatTokens> ChatPrompt::encode(const std::vector<ChatMessage>& messages,
                                        std::optional<bool> thinking) const {
  auto text = render(messages, thinking);
  if (!text) return text.error();
  auto tokens = tokenize(*text, form_ != Form::kTranscript);
  if (!tokens) return tokens.error();
  return ChatTokens{std::move(*tokens), ends_with_think(*text)};
}

}  // namespace dw
