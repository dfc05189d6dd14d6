// Python's text formatting: "..." % values and "...".format(...).
#pragma once

#include "text/jinja_value.h"

namespace dw::jinja {

struct FormatSpec {
  char32_t fill = ' ';
  char align = 0;  // '<', '>', '^', '=' or 0: the type's own
  char sign = '-';
  bool alternate = false;
  char grouping = 0;  // ',' or '_'
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

Value percent_format(Runtime& rt, const Value& format, const Value& values);
std::string brace_format(Runtime& rt, const std::string& format, Args& args);
// One value with a parsed specification, as format(value, spec).
std::string format_value(Runtime& rt, const Value& value, const FormatSpec& spec);
// Python's round(value, digits) of a float.
double round_float(double value, int64_t digits);

}  // namespace dw::jinja
