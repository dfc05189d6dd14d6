#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dw {
namespace {

using testing::HasSubstr;

std::string rendered(const ChatTemplate& tmpl, std::string_view messages, const ChatOptions& options = {},
                     std::string_view tools = "null") {
  const auto text = tmpl.apply(*parse_json(messages), *parse_json(tools), options);
  return text ? *text : "error: " + text.error().message;
}
ChatTemplate made(std::string_view source) {
  auto tmpl = ChatTemplate::create(source);
  EXPECT_TRUE(tmpl);
  return std::move(*tmpl);
}

constexpr std::string_view kTalk =
    R"([{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":null}])";

TEST(ChatTemplate, BuiltinChatml) {
  ChatOptions options;
  EXPECT_EQ(rendered(ChatTemplate::builtin(true), kTalk, options),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n<|im_end|"
            ">\n<|im_start|>assistant\n");
  options.add_generation_prompt = false;
  EXPECT_EQ(rendered(ChatTemplate::builtin(true), R"([{"role":"user","content":"U"}])", options),
            "<|im_start|>user\nU<|im_end|>\n");
}

TEST(ChatTemplate, BuiltinPlainCompletion) {
  EXPECT_EQ(rendered(ChatTemplate::builtin(false), kTalk), "SU");
}

TEST(ChatTemplate, BuiltinsRefuseTools) {
  for (bool chatml : {true, false})
    EXPECT_THAT(rendered(ChatTemplate::builtin(chatml), kTalk, {}, R"([{"type":"function"}])"),
                HasSubstr("cannot describe tools"));
}

TEST(ChatTemplate, PassesOptionsToTheTemplate) {
  const ChatTemplate tmpl = made(
      "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ enable_thinking }}{{ effort }}{{ tools "
      "}}");
  ChatOptions options;
  EXPECT_EQ(rendered(tmpl, "[]", options), "TrueNone");
  options.bos_token = "<s>";
  options.eos_token = "</s>";
  options.enable_thinking = false;
  options.extra = *parse_json(R"({"effort":"low"})");
  EXPECT_EQ(rendered(tmpl, "[]", options, "[{}]"), "<s></s>TrueFalselow[{}]");
}

TEST(ChatTemplate, ReadsTheInjectedClock) {
  ChatOptions options;
  options.clock = [] {
    std::tm now{};
    now.tm_year = 99;
    now.tm_mday = 2;
    return now;
  };
  EXPECT_EQ(rendered(made("{{ strftime_now('%Y-%m-%d') }}"), "[]", options), "1999-01-02");
}

TEST(ChatTemplate, JoinsTextParts) {
  const ChatTemplate tmpl = made("{{ messages[0].content }}");
  constexpr std::string_view parts =
      R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])";
  EXPECT_EQ(rendered(tmpl, parts), "a\nb");
  ChatOptions options;
  options.join_text_parts = false;
  EXPECT_EQ(rendered(made("{{ messages[0].content|length }}"), parts, options), "2");
  EXPECT_THAT(rendered(tmpl, R"([{"role":"user","content":[{"type":"image_url"}]}])"),
              HasSubstr("message 1: a content part is of the type 'image_url'"));
}

TEST(ChatTemplate, ParsesArgumentsOfToolCalls) {
  const ChatTemplate tmpl = made("{{ messages[0].tool_calls|tojson }}");
  EXPECT_EQ(
      rendered(
          tmpl,
          R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\": [1]}"}}]}])"),
      R"([{"function": {"name": "f", "arguments": {"a": [1]}}}])");
  EXPECT_EQ(rendered(tmpl, R"([{"role":"assistant","tool_calls":[{"name":"f","arguments":"not json"}]}])"),
            R"([{"name": "f", "arguments": "not json"}])");
}

TEST(ChatTemplate, RefusesWrongMessages) {
  const ChatTemplate tmpl = ChatTemplate::builtin(true);
  EXPECT_THAT(rendered(tmpl, "{}"), HasSubstr("messages must be an array"));
  EXPECT_THAT(rendered(tmpl, R"([{"role":"user","content":""},3])"), HasSubstr("message 2 is not an object"));
  EXPECT_THAT(rendered(tmpl, R"([{"content":"x"}])"), HasSubstr("message 1 has no 'role'"));
  EXPECT_THAT(rendered(tmpl, R"([{"role":"user","content":5}])"), HasSubstr("'content' must be a string"));
  EXPECT_THAT(rendered(tmpl, R"([{"role":"user","tool_calls":5}])"),
              HasSubstr("'tool_calls' must be an array"));
  EXPECT_THAT(rendered(tmpl, "[]", {}, "{}"), HasSubstr("tools must be an array"));
}

TEST(ChatTemplate, CarriesBytesThatAreNotUtf8) {
  Json message;
  message.set("role", Json("user"));
  message.set("content", Json("a\xff\xc3z"));
  const auto text = made("{{ messages[0].content.upper() }}{{ messages[0].content|length }}")
                        .apply(Json(Json::Array{message}), Json(), {});
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "A\xff\xc3Z4");
}

TEST(ChatTemplate, RefusesBrokenTemplates) {
  const auto tmpl = ChatTemplate::create("line\n{% for %}");
  ASSERT_FALSE(tmpl);
  EXPECT_THAT(tmpl.error().message, HasSubstr("chat template, line 2:"));
}

}  // namespace
}  // namespace dw
