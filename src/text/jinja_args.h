// Binds the arguments of a built-in function, method, filter or test to its parameters.
#pragma once

#include <initializer_list>
#include <string_view>

#include "text/jinja_value.h"

namespace dw::jinja {

class Bound {
 public:
  // `names` in order; a name that starts with '-' is positional only. Fails as Python would on too many,
  // missing or unknown arguments.
  Bound(Runtime& rt, std::string_view function, Args& args, std::initializer_list<std::string_view> names,
        size_t required = 0);

  bool has(size_t i) const { return given_[i]; }
  bool has_value(size_t i) const { return given_[i] && !values_[i].is_none(); }  // given and not None
  const Value& operator[](size_t i) const { return values_[i]; }
  const std::string& str(size_t i) const;  // fails when it is no string
  int64_t integer(size_t i, int64_t otherwise) const;
  bool flag(size_t i, bool otherwise) const { return given_[i] ? truth(values_[i]) : otherwise; }

 private:
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

}  // namespace dw::jinja
