// Renders templates in bulk for tools/oracle/compare_templates.py: each line of the input is an object
// {"template", "context", "now"}; each line of the output is {"output": text} or {"error": sentence}.
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>

#include "text/jinja.h"

namespace {

dw::Json render_line(const std::string& line) {
  dw::Json out;
  const auto input = dw::parse_json(line);
  if (!input) {
    out.set("input_error", dw::Json(input.error().message));
    return out;
  }
  const dw::Json* source = input->find("template");
  const dw::Json* context = input->find("context");
  if (!source || !source->as_string() || !context) {
    out.set("input_error", dw::Json("a line needs 'template' and 'context'"));
    return out;
  }
  const auto parsed = dw::jinja::Template::parse(*source->as_string());
  if (!parsed) {
    out.set("error", dw::Json(parsed.error().message));
    return out;
  }
  const auto clock = [] {
    std::tm now{};
    now.tm_year = 124;  // 2024-07-26, a Friday
    now.tm_mon = 6;
    now.tm_mday = 26;
    now.tm_wday = 5;
    now.tm_yday = 207;
    return now;
  };
  const auto text = parsed->render(*context, {}, clock);
  if (text)
    out.set("output", dw::Json(*text));
  else
    out.set("error", dw::Json(text.error().message));
  return out;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);)
    std::cout << dw::print_json(render_line(line)) << '\n';
  return 0;
}
