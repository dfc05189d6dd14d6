// Renders every template of tests/data/text/templates.json (made by tools/oracle/make_template_fixtures.py)
// and compares with what jinja2 gave.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "text/jinja.h"

namespace dw {
namespace {

std::tm fixture_clock() {
  std::tm now{};
  now.tm_year = 124;  // 2024-07-26, a Friday
  now.tm_mon = 6;
  now.tm_mday = 26;
  now.tm_wday = 5;
  now.tm_yday = 207;
  return now;
}

TEST(JinjaFixtures, EveryCaseGivesWhatJinja2Gives) {
  std::ifstream file(DW_TEST_DATA "/text/templates.json");
  std::stringstream text;
  text << file.rdbuf();
  const auto document = parse_json(text.str());
  ASSERT_TRUE(document) << document.error().message;
  const Json::Array& cases = *document->find("cases")->as_array();
  const Json::Array& shared = *document->find("shared")->as_array();
  ASSERT_GT(cases.size(), 500u);
  for (const Json& item : cases) {
    const Json& source = *item.find("template");
    const std::string& tmpl =
        source.as_int() ? *shared[size_t(*source.as_int())].as_string() : *source.as_string();
    const Json* context = document->find("contexts")->find(*item.find("context")->as_string());
    ASSERT_TRUE(context);
    const Json* expected = item.find("expected");
    const auto parsed = jinja::Template::parse(tmpl);
    std::string error = parsed ? "" : parsed.error().message;
    std::string output;
    if (parsed) {
      const auto rendered = parsed->render(*context, {}, fixture_clock);
      if (rendered)
        output = *rendered;
      else
        error = rendered.error().message;
    }
    if (expected->is_null()) {
      EXPECT_NE(error, "") << "no error from: " << tmpl << "\ngot: " << output;
      EXPECT_NE(error.find("line "), std::string::npos) << error;
    } else {
      EXPECT_EQ(error, "") << tmpl;
      EXPECT_EQ(output, *expected->as_string()) << tmpl;
    }
  }
}

}  // namespace
}  // namespace dw
