// A Jinja2 template: parsed once, rendered many times. The environment is the one that Hugging Face's
// apply_chat_template gives a template: ImmutableSandboxedEnvironment(trim_blocks, lstrip_blocks, loop
// controls, `generation` blocks) with its tojson, raise_exception and strftime_now. Strings are code points,
// numbers print as Python prints them, integers are of 64 bits (an overflow is an error). A template cannot
// run without end, exhaust memory or the stack: see Limits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/expected.h"
#include "text/jinja_value.h"
#include "text/json.h"

namespace dw::jinja {

struct Syntax;

class Template {
 public:
  // Errors: the template is not UTF-8 or not valid Jinja; the sentence names the line.
  static Expected<Template> parse(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `context` is an object: the template's variables. Errors name the line; a raise_exception() gives its
  // message.
  Expected<std::string> render(const Json& context, const Limits& limits = {},
                               const Runtime::Clock& clock = {}) const;

 private:
  explicit Template(std::unique_ptr<Syntax> syntax);
  std::unique_ptr<Syntax> syntax_;
};

}  // namespace dw::jinja
