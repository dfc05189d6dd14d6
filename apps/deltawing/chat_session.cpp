#include "chat_session.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/units.h"
#include "console.h"
#include "json_output.h"
#include "text/reasoning.h"

namespace dw {
namespace {

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

template <class Number>
Expected<Number> parse_number(const std::string& name, const std::string& text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    return make_error("'", text, "' is no value for ", name);
  return value;
}

template <class Number>
Expected<void> assign(const std::string& name, const std::string& text, Number& target) {
  auto value = parse_number<Number>(name, text);
  if (!value) return value.error();
  target = *value;
  return {};
}

template <class Number>
void line(std::string& out, const char* name, Number value) {
  char text[96];
  if constexpr (std::is_integral_v<Number>)
    std::snprintf(text, sizeof text, "%-18s %lld\n", name, static_cast<long long>(value));
  else
    std::snprintf(text, sizeof text, "%-18s %g\n", name, double(value));
  out += text;
}

void text_line(std::string& out, const std::string& name, const std::string& value) {
  out += name + std::string(name.size() < 18 ? 18 - name.size() : 0, ' ') + " " + value + "\n";
}

}  // namespace

size_t ChatSession::turn_count() const {
  return size_t(std::count_if(messages_.begin(), messages_.end(),
                              [](const ChatMessage& m) { return m.role == "user"; }));
}

std::vector<ChatMessage> ChatSession::with_system() const {
  std::vector<ChatMessage> all;
  if (!settings_.system.empty()) all.push_back({"system", settings_.system, {}});
  all.insert(all.end(), messages_.begin(), messages_.end());
  return all;
}

Expected<FinishReason> ChatSession::answer(const OnText& on_text) {
  InterruptGuard guard;
  auto prompt = prompt_.encode(with_system(), settings_.thinking);
  if (!prompt) return prompt.error();
  if (int64_t(prompt->tokens.size()) >= engine_.context_tokens())
    return make_error("the conversation has ", prompt->tokens.size(), " tokens and the context only ",
                      engine_.context_tokens(), "; /clear starts a new one, or start with more (-c)");
  GenerateOptions options;
  auto sampling = settings_.sampling.resolved();
  if (!sampling) return sampling.error();
  options.sampling = *sampling;
  options.max_tokens = settings_.max_tokens;
  options.stops = settings_.stops;
  for (const std::string& stop : prompt_.stops()) options.stops.push_back(stop);

  if (auto set = engine_.set_prompt(session_, prompt->tokens); !set) return set.error();
  ReasoningSplitter splitter(prompt->in_reasoning);
  ChatMessage message{"assistant", {}, {}};
  FinishReason reason = FinishReason::kNone;
  auto started = engine_.generate(session_, options, [&](const Generated& g) {
    std::string reasoning, answer;
    splitter.push(g.text, reasoning, answer);
    if (g.finish != FinishReason::kNone) splitter.flush(reasoning, answer);
    if (message.content.empty() && message.reasoning.empty() &&
        prompt_.form() == ChatPrompt::Form::kTranscript)
      answer.erase(0, std::min(answer.size(), answer.find_first_not_of(' ')));
    message.reasoning += reasoning;
    message.content += answer;
    reason = g.finish;
    on_text(reasoning, answer);
    return true;
  });
  if (!started) return started.error();
  while (engine_.has_work()) {
    if (InterruptGuard::interrupted()) {
      engine_.cancel(session_);
      break;
    }
    if (auto done = engine_.step(); !done) {
      engine_.cancel(session_);
      return done.error();
    }
  }
  message.reasoning = trimmed(std::move(message.reasoning));
  message.content = trimmed(std::move(message.content));
  const bool nothing = message.content.empty() && message.reasoning.empty();
  if (reason == FinishReason::kCancelled && nothing) return reason;
  messages_.push_back(std::move(message));
  return reason;
}

Expected<FinishReason> ChatSession::say(std::string text, const OnText& on_text) {
  const size_t before = messages_.size();
  messages_.push_back({"user", std::move(text), {}});
  auto reason = answer(on_text);
  if (messages_.size() == before + 1) messages_.pop_back();
  return reason;
}

Expected<FinishReason> ChatSession::regenerate(const OnText& on_text) {
  if (messages_.empty()) return make_error("there is no answer to generate again");
  const std::vector<ChatMessage> before = messages_;
  if (messages_.back().role == "assistant") messages_.pop_back();
  const size_t asked = messages_.size();
  auto reason = answer(on_text);
  if (messages_.size() == asked) messages_ = before;
  return reason;
}

void ChatSession::clear() {
  messages_.clear();
  engine_.clear(session_);
}

Expected<void> ChatSession::set(const std::string& name, const std::string& value) {
  ChatSettings changed = settings_;
  SamplingOptions& o = changed.sampling.options;
  Expected<void> done;
  if (name == "system")
    changed.system = value;
  else if (name == "temp")
    done = assign(name, value, o.temperature);
  else if (name == "top-k")
    done = assign(name, value, o.top_k);
  else if (name == "top-p")
    done = assign(name, value, o.top_p);
  else if (name == "min-p")
    done = assign(name, value, o.min_p);
  else if (name == "typical")
    done = assign(name, value, o.typical_p);
  else if (name == "repeat-penalty")
    done = assign(name, value, o.repetition_penalty);
  else if (name == "presence-penalty")
    done = assign(name, value, o.presence_penalty);
  else if (name == "frequency-penalty")
    done = assign(name, value, o.frequency_penalty);
  else if (name == "repeat-last-n")
    done = assign(name, value, o.penalty_window);
  else if (name == "seed")
    done = assign(name, value, changed.sampling.seed);
  else if (name == "predict")
    done = assign(name, value, changed.max_tokens);
  else
    return make_error("there is no setting '", name,
                      "'; /show lists them (temp, top-k, top-p, min-p, typical, repeat-penalty, "
                      "presence-penalty, frequency-penalty, repeat-last-n, seed, predict, system)");
  if (!done) return done;
  if (changed.max_tokens < -1) return make_error("predict must be -1 (until the end) or more");
  if (auto ok = check_sampling(o, engine_.model().hyper_parameters().vocabulary); !ok) return ok.error();
  settings_ = std::move(changed);
  return {};
}

std::string ChatSession::show() const {
  const SamplingOptions& o = settings_.sampling.options;
  const SessionTimes& t = engine_.times(session_);
  std::string out;
  auto name = engine_.file().get_string("general.name");
  text_line(out, "model", name && name->has_value() ? **name : engine_.options().model_path);
  text_line(out, "file", engine_.options().model_path);
  text_line(out, "device", engine_.device_description());
  const char* forms[] = {"the model's", "ChatML", "a plain transcript"};
  text_line(out, "template", forms[int(prompt_.form())]);
  text_line(out, "context",
            std::to_string(engine_.tokens(session_).size()) + " of " +
                std::to_string(engine_.context_tokens()) + " tokens");
  text_line(out, "turns", std::to_string(turn_count()));
  text_line(out, "last turn",
            std::to_string(t.prompt_tokens) + " prompt tokens in " + format_seconds(t.prompt_seconds) + " (" +
                std::to_string(t.reused_tokens) + " more were known), " + std::to_string(t.generated_tokens) +
                " generated in " + format_seconds(t.generation_seconds));
  line(out, "temp", o.temperature);
  line(out, "top-k", o.top_k);
  line(out, "top-p", o.top_p);
  line(out, "min-p", o.min_p);
  line(out, "typical", o.typical_p);
  line(out, "repeat-penalty", o.repetition_penalty);
  line(out, "presence-penalty", o.presence_penalty);
  line(out, "frequency-penalty", o.frequency_penalty);
  line(out, "repeat-last-n", o.penalty_window);
  line(out, "seed", settings_.sampling.seed);
  line(out, "predict", settings_.max_tokens);
  text_line(out, "thinking",
            !settings_.thinking   ? "as the template likes"
            : *settings_.thinking ? "on"
                                  : "off");
  text_line(out, "system", settings_.system.empty() ? "none" : settings_.system);
  return out;
}

Expected<void> ChatSession::save(const std::string& path) const {
  return write_private_file(path, conversation_json(with_system()) + "\n");
}

Expected<void> ChatSession::load(const std::string& path) {
  auto text = read_file(path);
  if (!text) return text.error();
  auto messages = parse_conversation(*text);
  if (!messages) return make_error(path, ": ", messages.error().message);
  std::string system;
  if (!messages->empty() && messages->front().role == "system") {
    system = messages->front().content;
    messages->erase(messages->begin());
  }
  settings_.system = std::move(system);
  messages_ = std::move(*messages);
  return {};
}

}  // namespace dw
