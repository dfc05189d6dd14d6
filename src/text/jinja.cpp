#include "text/jinja.h"

#include <new>

#include "text/jinja_ast.h"
#include "text/jinja_eval.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

Value from_json(Runtime& rt, const Json& json) {
  rt.step();
  if (const bool* flag = json.as_bool()) return Value::boolean(*flag);
  if (const int64_t* integer = json.as_int()) return Value::integer(*integer);
  if (const double* real = json.as_double()) return Value::real(*real);
  if (const std::string* text = json.as_string()) return rt.text(*text);
  if (const Json::Array* array = json.as_array()) {
    const DepthGuard guard(rt);
    std::vector<Value> items;
    items.reserve(array->size());
    for (const Json& item : *array) items.push_back(from_json(rt, item));
    return rt.list(std::move(items));
  }
  if (const Json::Object* object = json.as_object()) {
    const DepthGuard guard(rt);
    auto dict = std::make_shared<DictObject>();
    for (const auto& [name, value] : *object) dict->set(rt, rt.text(name), from_json(rt, value));
    return rt.dict(std::move(dict));
  }
  return Value::none();
}

Error at_line(const TemplateError& error, int line) {
  return make_error("chat template, line ", error.line ? error.line : line, ": ", error.message);
}

}  // namespace

Template::Template(std::unique_ptr<Syntax> syntax) : syntax_(std::move(syntax)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Expected<Template> Template::parse(std::string_view source) {
  if (const size_t bad = find_invalid_utf8(source); bad != std::string_view::npos)
    return make_error("chat template: byte ", bad, " is not valid UTF-8");
  try {
    return Template(std::make_unique<Syntax>(jinja::parse(source)));
  } catch (const TemplateError& error) {
    return at_line(error, 1);
  } catch (const std::bad_alloc&) {
    return make_error("chat template: not enough memory to parse it");
  }
}

Expected<std::string> Template::render(const Json& context, const Limits& limits,
                                       const Runtime::Clock& clock) const {
  Runtime rt(limits);
  rt.clock = clock;
  try {
    if (!context.as_object()) return make_error("chat template: its variables must be a JSON object");
    const Value variables = from_json(rt, context);
    return Interpreter(rt, *syntax_, variables.dict()).run();
  } catch (const TemplateError& error) {
    return at_line(error, rt.line);
  } catch (const std::bad_alloc&) {
    return make_error("chat template, line ", rt.line, ": not enough memory");
  }
}

}  // namespace dw::jinja
