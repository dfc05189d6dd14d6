#include "text/jinja_format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

constexpr int64_t kMaxPrecision = 1000;

std::string printed(const char* format, int precision, double value) {
  std::string out(size_t(std::snprintf(nullptr, 0, format, precision, value)), '\0');
  std::snprintf(out.data(), out.size() + 1, format, precision, value);
  return out;
}

// |value| in a style of printf; `type` is one of e f g (or upper case).
std::string float_digits(double value, char type, int64_t precision, bool alternate) {
  const bool upper = type >= 'A' && type <= 'Z';
  const double magnitude = std::fabs(value);
  if (!std::isfinite(magnitude))
    return std::isnan(magnitude) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf");
  if (precision > kMaxPrecision) fail("a precision of ", precision, " digits is too large");
  const std::string format = std::string(alternate ? "%#.*" : "%.*") + type;
  return printed(format.c_str(), int(precision), magnitude);
}

// A float without a type: like repr, or like 'g' with at least one digit after the point.
std::string plain_float_digits(double value, int64_t precision) {
  const double magnitude = std::fabs(value);
  if (precision < 0 || !std::isfinite(value)) return float_repr(magnitude);
  if (precision > kMaxPrecision) fail("a precision of ", precision, " digits is too large");
  precision = std::max<int64_t>(precision, 1);
  const std::string scientific = printed("%.*e", int(precision - 1), magnitude);
  const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
  std::string out = printed("%.*g", int(precision), magnitude);
  if (exponent >= precision - 1 &&
      out.find('e') == std::string::npos) {  // repr style wants ".0" or an exponent
    std::string digits = scientific.substr(0, scientific.find('e'));
    while (digits.find('.') != std::string::npos && (digits.back() == '0' || digits.back() == '.')) {
      const bool point = digits.back() == '.';
      digits.pop_back();
      if (point) break;
    }
    return digits + scientific.substr(scientific.find('e'));
  }
  if (out.find_first_of(".e") == std::string::npos) out += ".0";
  return out;
}

std::string based_digits(uint64_t value, char type) {
  const unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
  const char* digits = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out.insert(out.begin(), digits[value % base]);
    value /= base;
  } while (value);
  return out;
}

void group_digits(std::string& digits, char separator, size_t every) {
  size_t end = 0;
  while (end < digits.size() && std::isalnum(static_cast<unsigned char>(digits[end])) && digits[end] != 'e')
    ++end;
  for (size_t i = end; i > every; i -= every) digits.insert(i - every, 1, separator);
}

std::string pad(Runtime& rt, const std::string& prefix, const std::string& body, const FormatSpec& spec,
                char align) {
  const int64_t length = count_code_points(prefix) + count_code_points(body);
  const int64_t missing = std::max<int64_t>(spec.width - length, 0);
  rt.check_length(4 * missing + int64_t(prefix.size() + body.size()));
  if (spec.align) align = spec.align;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before, after;
  for (int64_t i = 0; i < left; ++i) append_utf8(before, spec.fill);
  for (int64_t i = left; i < missing; ++i) append_utf8(after, spec.fill);
  if (align == '=') return prefix + before + body;
  return before + prefix + body + after;
}

std::string sign_text(bool negative, char sign) {
  return negative ? "-" : sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string format_float(Runtime& rt, double value, const FormatSpec& spec) {
  const bool negative = std::signbit(value) && !std::isnan(value);
  std::string digits;
  char type = spec.type;
  if (type == 0) {
    digits = plain_float_digits(value, spec.precision);
  } else if (type == '%') {
    digits = float_digits(value * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.alternate) + "%";
  } else {
    if (type == 'n') type = 'g';
    const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    digits = float_digits(value, type, (type | 0x20) == 'g' ? std::max<int64_t>(precision, 1) : precision,
                          spec.alternate);
  }
  if (spec.grouping && std::isfinite(value)) group_digits(digits, spec.grouping, 3);
  return pad(rt, sign_text(negative, spec.sign), digits, spec, '>');
}

std::string format_integer(Runtime& rt, int64_t value, const FormatSpec& spec) {
  if (spec.type && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos)
    return format_float(rt, double(value), spec);
  if (spec.precision >= 0) fail("a precision is not allowed for an integer");
  if (spec.type == 'c') {
    if (value < 0 || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
      fail("%c needs a character's number");
    std::string text;
    append_utf8(text, char32_t(value));
    return pad(rt, "", text, spec, '<');
  }
  if (spec.type && std::string_view("bdnoxX").find(spec.type) == std::string_view::npos)
    fail("unknown format code '", spec.type, "' for an integer");
  const uint64_t magnitude = value < 0 ? 0 - uint64_t(value) : uint64_t(value);
  std::string prefix = sign_text(value < 0, spec.sign);
  if (spec.alternate && spec.type && spec.type != 'd' && spec.type != 'n')
    prefix += std::string("0") + spec.type;
  std::string digits = based_digits(magnitude, spec.type);
  const bool decimal = spec.type == 0 || spec.type == 'd' || spec.type == 'n';
  if (spec.grouping == ',' && !decimal) fail("',' groups decimal digits only");
  if (spec.grouping) group_digits(digits, spec.grouping, decimal ? 3 : 4);
  return pad(rt, prefix, digits, spec, '>');
}

std::string format_text(Runtime& rt, std::string text, const FormatSpec& spec) {
  if (spec.precision >= 0 && count_code_points(text) > spec.precision) {
    size_t end = 0;
    for (int64_t i = 0; i < spec.precision; ++i) next_code_point(text, end);
    text.resize(end);
  }
  return pad(rt, "", text, spec, '<');
}

}  // namespace

std::string format_value(Runtime& rt, const Value& value, const FormatSpec& spec) {
  const bool spec_given = spec.align || spec.alternate || spec.grouping || spec.width ||
                          spec.precision >= 0 || spec.type || spec.sign != '-' || spec.fill != ' ';
  if (!spec_given) return to_str(rt, value);
  if (value.is_integral()) return format_integer(rt, value.as_int(), spec);
  if (value.is(Type::kFloat)) {
    if (spec.type && std::string_view("eEfFgGn%").find(spec.type) == std::string_view::npos)
      fail("unknown format code '", spec.type, "' for a float");
    return format_float(rt, value.as_float(), spec);
  }
  if (!value.is_string()) fail("a value of type '", type_name(value), "' takes no format specification");
  if ((spec.type && spec.type != 's') || spec.align == '=' || spec.grouping || spec.alternate ||
      spec.sign != '-')
    fail("this format specification is not for a string");
  return format_text(rt, value.str(), spec);
}

double round_float(double value, int64_t digits) {
  if (!std::isfinite(value) || value == 0 || digits > 323) return value;
  if (digits < -308) return std::copysign(0.0, value);
  if (digits >= 0) return std::strtod(printed("%.*f", int(digits), value).c_str(), nullptr);
  // The exact decimal digits of the integer part decide, half to even.
  const long double scale = std::pow(10.0L, (long double)(-digits));
  return double(std::nearbyint((long double)(value) / scale) * scale);
}

namespace {

// The state of one "..." % values.
class PercentFormatter {
 public:
  PercentFormatter(Runtime& rt, const std::string& format, const Value& values, bool escape)
      : rt_(rt), format_(format), values_(values), escape_(escape) {
    tuple_ = values.is(Type::kTuple);
    mapping_ =
        values.is_dict() || values.is(Type::kList) || values.is_undefined() || custom_as<Range>(values);
  }

  std::string run() {
    std::string out;
    while (at_ < format_.size()) {
      if (format_[at_] != '%') {
        out += format_[at_++];
        continue;
      }
      ++at_;
      directive(out);
      rt_.check_length(int64_t(out.size()));
    }
    const size_t count = tuple_ ? values_.items().size() : 1;
    if (!mapping_ && !keyed_ && used_ < count) fail("not all arguments were used by a % format");
    return out;
  }

 private:
  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }
  const Value& next_value() {
    if (keyed_) return key_value_;
    if (tuple_ ? used_ >= values_.items().size() : used_ >= 1) fail("not enough arguments for a % format");
    return tuple_ ? values_.items()[used_++] : (++used_, values_);
  }
  void parse_key() {
    if (!values_.is_dict()) fail("a % format with names needs a dict");
    int depth = 1;
    const size_t start = ++at_;
    while (depth > 0) {
      if (at_ >= format_.size()) fail("a % format has an unclosed name");
      depth += format_[at_] == '(' ? 1 : format_[at_] == ')' ? -1 : 0;
      ++at_;
    }
    const std::string key = format_.substr(start, at_ - start - 1);
    const Value* found = values_.dict().find(key);
    if (!found) fail("a % format names '", key, "', which is not in the dict");
    key_value_ = *found;
    keyed_ = true;
  }
  int64_t parse_number() {
    if (peek() == '*') {
      ++at_;
      const Value& value = next_value();
      if (!value.is_integral()) fail("'*' in a % format needs an integer");
      return value.as_int();
    }
    int64_t number = 0;
    while (peek() >= '0' && peek() <= '9') {
      number = number * 10 + (format_[at_++] - '0');
      if (number > (int64_t(1) << 31)) fail("a width in a % format is too large");
    }
    return number;
  }
  void directive(std::string& out);
  std::string convert(const Value& value, FormatSpec spec, char type, bool left, bool zero);

  Runtime& rt_;
  const std::string& format_;
  const Value& values_;
  bool escape_;
  bool tuple_ = false, mapping_ = false, keyed_ = false;
  Value key_value_;
  size_t at_ = 0, used_ = 0;
};

void PercentFormatter::directive(std::string& out) {
  if (peek() == '(') parse_key();
  FormatSpec spec;
  bool left = false, zero = false;
  for (; at_ < format_.size() && std::string_view("-+ #0").find(peek()) != std::string_view::npos; ++at_) {
    left |= peek() == '-';
    zero |= peek() == '0';
    spec.alternate |= peek() == '#';
    if (peek() == '+') spec.sign = '+';
    if (peek() == ' ' && spec.sign != '+') spec.sign = ' ';
  }
  spec.width = parse_number();
  if (spec.width < 0) {
    left = true;
    spec.width = spec.width == INT64_MIN ? INT64_MAX / 8 : -spec.width;
  }
  spec.width = std::min<int64_t>(spec.width, INT64_MAX / 8);
  if (peek() == '.') {
    ++at_;
    spec.precision = std::max<int64_t>(parse_number(), 0);
  }
  while (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
  if (at_ >= format_.size()) fail("a % format ends after '%'");
  const char type = format_[at_++];
  if (type == '%') {
    out += '%';
    return;
  }
  if (std::string_view("sradiuoxXeEfFgGc").find(type) == std::string_view::npos)
    fail("unknown character '", type, "' in a % format");
  const Value value = next_value();
  std::string text = convert(value, spec, type, left, zero);
  out += escape_ && !value.is_safe() ? html_escape(text) : text;
}

std::string PercentFormatter::convert(const Value& value, FormatSpec spec, char type, bool left, bool zero) {
  spec.align = left ? '<' : '>';
  if (type == 's' || type == 'r' || type == 'a') {
    return format_text(rt_, type == 's' ? to_str(rt_, value) : to_repr(rt_, value), spec);
  }
  if (type == 'c') {
    if (!value.is_string() && !value.is(Type::kInt)) fail("%c needs an integer or a character");
    if (value.is_string() && string_length(value) != 1) fail("%c needs a single character");
    spec.precision = -1;
    if (value.is_string()) return format_text(rt_, value.str(), spec);
    spec.type = 'c';
    return format_integer(rt_, value.as_int(), spec);
  }
  if (value.is_undefined()) fail(value.undefined_message());
  if (!value.is_number()) fail("%", type, " needs a number, got '", type_name(value), "'");
  if (zero && !left) {
    spec.align = '=';
    spec.fill = '0';
  }
  if (std::string_view("eEfFgG").find(type) != std::string_view::npos) {
    spec.type = type;
    return format_float(rt_, value.as_float(), spec);
  }
  const bool based = type == 'o' || type == 'x' || type == 'X';
  if (based && !value.is_integral()) fail("%", type, " needs an integer, got '", type_name(value), "'");
  if (!value.is_integral() && !(std::fabs(value.as_float()) < 0x1p63))
    fail("a number is too large for %", type);
  const int64_t number = value.is_integral() ? value.as_int() : int64_t(value.as_float());
  std::string prefix = sign_text(number < 0, spec.sign);
  if (spec.alternate && based) prefix += std::string("0") + type;
  std::string digits = based_digits(number < 0 ? 0 - uint64_t(number) : uint64_t(number), based ? type : 'd');
  if (spec.precision > kMaxPrecision) fail("a precision of ", spec.precision, " digits is too large");
  if (int64_t(digits.size()) < spec.precision) digits.insert(0, size_t(spec.precision) - digits.size(), '0');
  return pad(rt_, prefix, digits, spec, '>');
}

}  // namespace

Value percent_format(Runtime& rt, const Value& format, const Value& values) {
  PercentFormatter formatter(rt, format.str(), values, format.is_safe());
  return rt.text(formatter.run(), format.is_safe());
}

}  // namespace dw::jinja
