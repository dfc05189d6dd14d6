// Templates that try to run for ever, to fill memory or to exhaust the stack end with a sentence that names
// the line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/jinja.h"

namespace dw {
namespace {

using testing::HasSubstr;

std::string outcome(std::string_view source, const jinja::Limits& limits = {}) {
  const auto parsed = jinja::Template::parse(source);
  if (!parsed) return parsed.error().message;
  Json context;
  context.set("n", Json(1));
  const auto text = parsed->render(context, limits);
  return text ? "rendered " + std::to_string(text->size()) : text.error().message;
}

std::string repeated(std::string_view piece, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += piece;
  return out;
}

TEST(JinjaLimits, RecursionOfMacros) {
  EXPECT_THAT(outcome("\n{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
              HasSubstr("line 2: macros call each other"));
  EXPECT_THAT(outcome("{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}"),
              HasSubstr("macros call each other"));
  EXPECT_THAT(outcome("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
              HasSubstr("recursive loop"));
  EXPECT_THAT(outcome("{% macro f() %}{{ " + repeated("[", 80) + "f()" + repeated("]", 80) +
                      " }}{% endmacro %}{{ f() }}"),
              HasSubstr("recurses too deeply"));
}

TEST(JinjaLimits, EndlessWork) {
  const std::string loops = repeated("{% for i in range(10000) %}", 4) + repeated("{% endfor %}", 4);
  EXPECT_THAT(outcome(loops), HasSubstr("line 1: the template does too much work"));
  EXPECT_THAT(outcome("{{ range(1000000000) }}"), HasSubstr("range longer than"));
  EXPECT_THAT(outcome("{{ ([0] * 1000000000)|length }}"), HasSubstr("too much"));
  EXPECT_THAT(outcome("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] "
                      "%}{% endfor %}{{ ns.x }}"),
              HasSubstr("too much work"));
  // Names that every round leaves undefined count as work, even when the round ends before them.
  std::string sets;
  for (int i = 0; i < 2000; ++i) sets += "{% set a" + std::to_string(i) + " = 1 %}";
  EXPECT_THAT(outcome("{% for i in range(100000) %}{% continue %}" + sets + "{% endfor %}"),
              HasSubstr("too much work"));
}

TEST(JinjaLimits, MissingNamesInHostileTemplates) {
  EXPECT_THAT(outcome("{% filter upper" + repeated("|lower", 380) + "|nosuch %}x{% endfilter %}"),
              HasSubstr("no filter named 'nosuch'"));
  EXPECT_THAT(outcome("{{ ('a' * 1000000000) or n|nosuch }}"), HasSubstr("no filter named 'nosuch'"));
  EXPECT_THAT(outcome("{{ " + repeated("false or ", 380) + "(n is nosuch) }}"),
              HasSubstr("no test named 'nosuch'"));
  EXPECT_EQ(outcome(repeated("{{ 1 or (n|nosuch) }}", 10000)), "rendered 10000");
}

TEST(JinjaLimits, EndlessText) {
  const std::string doubling =
      "{% set ns = namespace(x='ab') %}{% for i in range(99) %}\n{% set ns.x = ns.x ~ ns.x %}{% endfor %}";
  EXPECT_THAT(outcome(doubling), HasSubstr("line 2: a text grows past the limit"));
  EXPECT_THAT(outcome("{{ 'a' * 9223372036854775807 }}"), HasSubstr("a text grows past the limit"));
  EXPECT_THAT(outcome("{{ 'ab' * 9223372036854775807 }}"), HasSubstr("too long"));
  EXPECT_THAT(outcome("{{ '%999999999d' % 1 }}"), HasSubstr("a text grows past the limit"));
  EXPECT_THAT(outcome("{{ 'a'.center(999999999999) }}"), HasSubstr("a text grows past the limit"));
  EXPECT_THAT(outcome("{{ '{:>999999999}'.format(1) }}"), HasSubstr("a text grows past the limit"));
  jinja::Limits small;
  small.output_bytes = 10;
  EXPECT_THAT(outcome("{% for i in range(20) %}x{% endfor %}", small), HasSubstr("limit of 10 bytes"));
  EXPECT_EQ(outcome("{% for i in range(10) %}x{% endfor %}", small), "rendered 10");
  small.output_bytes = 1 << 20;
  small.memory_bytes = 1 << 16;
  EXPECT_THAT(
      outcome(
          "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = ns.x + [i] %}{% endfor %}",
          small),
      HasSubstr("builds too much data"));
}

TEST(JinjaLimits, DeepSyntax) {
  EXPECT_THAT(outcome("{{ " + repeated("(", 100000)), HasSubstr("too deeply"));
  EXPECT_THAT(outcome("{{ " + repeated("[", 100000)), HasSubstr("too deeply"));
  EXPECT_THAT(outcome("{{ " + repeated("-", 100000) + "1 }}"), HasSubstr("too deeply"));
  EXPECT_THAT(outcome("{{ " + repeated("not ", 100000) + "1 }}"), HasSubstr("too deeply"));
  EXPECT_THAT(outcome("{{ 1" + repeated(" + 1", 100000) + " }}"), HasSubstr("too long or too deep"));
  EXPECT_THAT(outcome("{{ 1" + repeated("|abs", 100000) + " }}"), HasSubstr("too long or too deep"));
  EXPECT_THAT(outcome("{{ n" + repeated(".x", 100000) + " }}"), HasSubstr("too long or too deep"));
  EXPECT_THAT(outcome(repeated("{% if n %}", 100000)), HasSubstr("too deeply"));
  EXPECT_EQ(outcome("{{ " + repeated("(", 30) + "1" + repeated(")", 30) + " }}"), "rendered 1");
  EXPECT_EQ(outcome("{{ 'a'" + repeated(" + 'a'", 300) + " }}"), "rendered 301");
}

TEST(JinjaLimits, DeepValues) {
  EXPECT_THAT(
      outcome("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"),
      HasSubstr("nested more than"));
  EXPECT_THAT(outcome("{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = "
                      "ns.x|map('abs') %}{% endfor %}"),
              HasSubstr("nested more than"));
  // A namespace that holds itself is printed, and not leaked.
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% set ns.self_ = [ns] %}{{ ns }}"), "rendered 42");
  EXPECT_EQ(outcome("{% for i in [1] recursive %}{{ loop.changed(loop) }}{% endfor %}"), "rendered 4");
}

TEST(JinjaLimits, IntegersOverflowWithASentence) {
  for (const char* source :
       {"{{ 9223372036854775807 + 1 }}", "{{ 10 ** 30 }}", "{{ -9223372036854775807 - 2 }}",
        "{{ 99999999999999999999 }}", "{{ 4611686018427387904 * 2 }}", "{{ '99999999999999999999'|int }}",
        "{{ 1e30|int }}"})
    EXPECT_THAT(outcome(source), HasSubstr("64 bits")) << source;
}

TEST(JinjaLimits, ErrorsNameTheLine) {
  EXPECT_THAT(outcome("a\nb\n{{ missing.x }}"), HasSubstr("line 3: 'missing' is undefined"));
  EXPECT_THAT(outcome("a\n{% if %}"), HasSubstr("line 2: "));
  EXPECT_THAT(outcome("a\n\n{{ raise_exception('no such role') }}"), HasSubstr("line 3: no such role"));
  EXPECT_THAT(outcome("{% include 'x' %}"), HasSubstr("'include' is not supported"));
  EXPECT_THAT(outcome("\xff"), HasSubstr("not valid UTF-8"));
}

}  // namespace
}  // namespace dw
