#include "text/chat_template.h"

namespace dw {
namespace {

constexpr std::string_view kChatml = R"({%- if tools %}
    {{- raise_exception('this model file has no chat template, and the built-in ChatML cannot describe tools') }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\n' ~ (message.content or '') ~ '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

constexpr std::string_view kPlain = R"({%- if tools %}
    {{- raise_exception('this model file has no chat template; plain completion cannot describe tools') }}
{%- endif %}
{%- for message in messages %}
    {{- message.content or '' }}
{%- endfor %})";

Expected<Json> joined_parts(const Json::Array& parts, size_t number) {
  std::string text;
  for (const Json& part : parts) {
    const Json* type = part.find("type");
    const Json* piece = part.find("text");
    const bool is_text =
        type && type->as_string() && *type->as_string() == "text" && piece && piece->as_string();
    if (!is_text) {
      const std::string kind = type && type->as_string() ? "'" + *type->as_string() + "'" : "unknown";
      return make_error("message ", number, ": a content part is of the type ", kind,
                        "; this model reads only parts of the type 'text'");
    }
    if (&part != &parts.front()) text += '\n';
    text += *piece->as_string();
  }
  return Json(std::move(text));
}

// A tool call whose arguments are a JSON object written in a string gets the object itself.
Json with_parsed_arguments(const Json& call) {
  const auto parsed = [](const Json& holder) {
    Json out = holder;
    const Json* arguments = holder.find("arguments");
    if (!arguments || !arguments->as_string()) return out;
    auto value = parse_json(*arguments->as_string());
    if (value && value->as_object()) out.set("arguments", std::move(*value));
    return out;
  };
  if (!call.as_object()) return call;
  Json out = parsed(call);
  if (const Json* function = call.find("function"); function && function->as_object())
    out.set("function", parsed(*function));
  return out;
}

Expected<Json> prepared(const Json& message, size_t number, bool join_parts) {
  if (!message.as_object()) return make_error("message ", number, " is not an object");
  const Json* role = message.find("role");
  if (!role || !role->as_string()) return make_error("message ", number, " has no 'role' (a string)");
  Json out = message;
  const Json* content = message.find("content");
  if (content && !content->is_null() && !content->as_string() && !content->as_array())
    return make_error("message ", number, ": 'content' must be a string or an array of parts, not ",
                      content->type_name());
  if (join_parts && content && content->as_array()) {
    auto text = joined_parts(*content->as_array(), number);
    if (!text) return text.error();
    out.set("content", std::move(*text));
  }
  if (const Json* calls = message.find("tool_calls"); calls && !calls->is_null()) {
    if (!calls->as_array()) return make_error("message ", number, ": 'tool_calls' must be an array");
    Json::Array list;
    for (const Json& call : *calls->as_array()) list.push_back(with_parsed_arguments(call));
    out.set("tool_calls", Json(std::move(list)));
  }
  return out;
}

}  // namespace

Expected<ChatTemplate> ChatTemplate::create(std::string_view source) {
  auto parsed = jinja::Template::parse(source);
  if (!parsed) return parsed.error();
  return ChatTemplate(std::move(*parsed));
}

ChatTemplate ChatTemplate::builtin(bool has_chatml_tokens) {
  auto parsed = jinja::Template::parse(has_chatml_tokens ? kChatml : kPlain);
  return ChatTemplate(std::move(*parsed));
}

Expected<std::string> ChatTemplate::apply(const Json& messages, const Json& tools,
                                          const ChatOptions& options) const {
  if (!messages.as_array()) return make_error("the messages must be an array, not ", messages.type_name());
  if (!tools.is_null() && !tools.as_array())
    return make_error("the tools must be an array, not ", tools.type_name());
  Json::Array list;
  for (const Json& message : *messages.as_array()) {
    auto ready = prepared(message, list.size() + 1, options.join_text_parts);
    if (!ready) return ready.error();
    list.push_back(std::move(*ready));
  }
  Json context;
  context.set("messages", Json(std::move(list)));
  context.set("tools", tools);
  context.set("documents", Json());
  context.set("add_generation_prompt", Json(options.add_generation_prompt));
  if (!options.bos_token.empty()) context.set("bos_token", Json(options.bos_token));
  if (!options.eos_token.empty()) context.set("eos_token", Json(options.eos_token));
  if (options.enable_thinking) context.set("enable_thinking", Json(*options.enable_thinking));
  if (!options.extra.is_null() && !options.extra.as_object())
    return make_error("the extra variables of a chat template must be an object, not ",
                      options.extra.type_name());
  if (const Json::Object* extra = options.extra.as_object())
    for (const auto& [name, value] : *extra) context.set(name, value);
  return template_.render(context, options.limits, options.clock);
}

}  // namespace dw
