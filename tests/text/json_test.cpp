#include "text/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace dw {
namespace {

std::string round_trip(std::string_view text) {
  const auto value = parse_json(text);
  return value ? print_json(*value) : value.error().message;
}

TEST(Json, ReadsAndPrintsEveryType) {
  EXPECT_EQ(round_trip(" { \"a\" : [ 1 , -2.5e3, true,false ,null,\"x\" ] , \"b\":{} } "),
            R"({"a":[1,-2500.0,true,false,null,"x"],"b":{}})");
  EXPECT_EQ(round_trip("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(round_trip("-9223372036854775808"), "-9223372036854775808");
  EXPECT_EQ(round_trip("0.1"), "0.1");
  EXPECT_EQ(round_trip("1e22"), "1e+22");
  EXPECT_EQ(round_trip("[]"), "[]");
}

TEST(Json, DecodesEscapes) {
  EXPECT_EQ(*parse_json(R"("\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00")")->as_string(),
            "\"\\/\b\f\n\r\t\u00e9\U0001f600");
  EXPECT_EQ(round_trip("\"\\u0001\\u007f\""), "\"\\u0001\x7f\"");
}

TEST(Json, AsciiOnlyStringsUsePairs) {
  std::string out;
  append_json_string(out, "\u00e9\U0001f600", true);
  EXPECT_EQ(out, "\"\\u00e9\\ud83d\\ude00\"");
}

TEST(Json, Indents) {
  EXPECT_EQ(print_json(*parse_json(R"({"a":[1,{}],"b":[]})"), 2),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}");
}

TEST(Json, RefusesWithASentence) {
  const std::pair<std::string, const char*> cases[] = {{"", "ends where a value"},
                                                       {"{", "name in double quotes"},
                                                       {"[1", "',' or ']'"},
                                                       {"[1,]", "a value was expected"},
                                                       {"{\"a\":1,}", "name in double quotes"},
                                                       {"{\"a\" 1}", "':' was expected"},
                                                       {"{\"a\":1,\"a\":2}", "appears twice"},
                                                       {"nul", "a value was expected"},
                                                       {"NaN", "a value was expected"},
                                                       {"01", "must not start with 0"},
                                                       {"1.", "a digit was expected"},
                                                       {"1e", "a digit was expected"},
                                                       {"-", "a value was expected"},
                                                       {"9223372036854775808", "64 bits"},
                                                       {"1e999", "too large"},
                                                       {"\"a", "no closing quote"},
                                                       {"\"\\x\"", "unknown escape"},
                                                       {"\"\\u12\"", "hexadecimal"},
                                                       {"\"\\ud800\"", "surrogate"},
                                                       {"\"\\udc00\"", "surrogate"},
                                                       {"\"\n\"", "must be escaped"},
                                                       {"\"\xff\"", "UTF-8"},
                                                       {"\"\xc0\x80\"", "UTF-8"},
                                                       {"1 2", "after the value"},
                                                       {std::string(100000, '['), "too deeply"}};
  for (const auto& [text, problem] : cases) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value) << text;
    EXPECT_THAT(value.error().message, testing::HasSubstr(problem)) << text;
    EXPECT_THAT(value.error().message, testing::HasSubstr("byte ")) << text;
  }
}

TEST(Json, SetReplacesOrAppends) {
  Json value;
  value.set("a", Json(1));
  value.set("b", Json("x"));
  value.set("a", Json(2.5));
  EXPECT_EQ(print_json(value), R"({"a":2.5,"b":"x"})");
  EXPECT_EQ(value.find("zz"), nullptr);
  EXPECT_EQ(print_json(Json(HUGE_VAL)), "null");
}

}  // namespace
}  // namespace dw
