#include "text/jinja_args.h"

#include <algorithm>

namespace dw::jinja {

Bound::Bound(Runtime&, std::string_view function, Args& args, std::initializer_list<std::string_view> names,
             size_t required)
    : function_(function), names_(names), values_(names.size()), given_(names.size()) {
  if (args.positional.size() > names_.size())
    fail("'", function, "' takes at most ", names_.size(), " argument(s), got ", args.positional.size());
  for (size_t i = 0; i < args.positional.size(); ++i) {
    values_[i] = std::move(args.positional[i]);
    given_[i] = true;
  }
  for (auto& [name, value] : args.named) {
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at == names_.end()) fail("'", function, "' has no argument '", name, "'");
    const size_t i = size_t(at - names_.begin());
    if (given_[i]) fail("'", function, "' got the argument '", name, "' twice");
    values_[i] = std::move(value);
    given_[i] = true;
  }
  for (size_t i = 0; i < required; ++i) {
    std::string_view name = names_[i];
    if (name.front() == '-') name.remove_prefix(1);
    if (!given_[i]) fail("'", function, "' needs the argument '", name, "'");
  }
}

const std::string& Bound::str(size_t i) const {
  if (values_[i].is_undefined()) fail(values_[i].undefined_message());
  if (!values_[i].is_string()) fail("'", function_, "' needs a string, got '", type_name(values_[i]), "'");
  return values_[i].str();
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!given_[i]) return otherwise;
  if (values_[i].is_undefined()) fail(values_[i].undefined_message());
  if (!values_[i].is_integral())
    fail("'", function_, "' needs an integer, got '", type_name(values_[i]), "'");
  return values_[i].as_int();
}

}  // namespace dw::jinja
