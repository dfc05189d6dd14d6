// Filters over text and numbers.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja_args.h"
#include "text/jinja_format.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

// The input as text, keeping the mark of safe strings (markupsafe's soft_str).
Value soft(Runtime& rt, const Value& value) {
  return value.is_string() ? value : rt.text(to_str(rt, value));
}
const std::string& need_string(const Value& value, std::string_view filter) {
  if (value.is_undefined()) fail(value.undefined_message());
  if (!value.is_string()) fail("'", filter, "' needs a string, got '", type_name(value), "'");
  return value.str();
}

template <const char* method>
Value as_method(Runtime& rt, const Value& self, Args& args) {
  return find_string_method(method)(rt, soft(rt, self), args);
}
constexpr char kUpper[] = "upper", kLower[] = "lower", kCapitalize[] = "capitalize";

Value filter_trim(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "trim", args, {"chars"});
  Args inner;
  if (bound.has(0)) inner.positional.push_back(bound[0]);
  return find_string_method("strip")(rt, soft(rt, self), inner);
}

Value filter_title(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "title", args, {});
  std::u32string out, word;
  const auto flush = [&] {
    if (word.empty()) return;
    out += to_upper(word.substr(0, 1));
    out += to_lower(word.substr(1));
    word.clear();
  };
  for (char32_t code : decode_utf8(to_str(rt, self))) {
    if (code == '-' || code == '(' || code == '{' || code == '[' || code == '<' || is_space(code)) {
      flush();
      out += code;
    } else {
      word += code;
    }
  }
  flush();
  return rt.text(encode_utf8(out));
}

Value filter_string(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "string", args, {});
  return soft(rt, self);
}
Value filter_safe(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "safe", args, {});
  return rt.text(to_str(rt, self), true);
}
Value filter_escape(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "escape", args, {});
  return self.is_safe() ? self : rt.text(html_escape(to_str(rt, self)), true);
}
Value filter_forceescape(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "forceescape", args, {});
  return rt.text(html_escape(to_str(rt, self)), true);
}

Value filter_replace(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "replace", args, {"old", "new", "count"}, 2);
  Args inner;
  inner.positional = {rt.text(to_str(rt, bound[0])), rt.text(to_str(rt, bound[1]))};
  if (bound.has_value(2)) inner.positional.push_back(Value::integer(bound.integer(2, -1)));
  return find_string_method("replace")(rt, rt.text(to_str(rt, self)), inner);
}

Value filter_format(Runtime& rt, const Value& self, Args& args) {
  if (!args.positional.empty() && !args.named.empty())
    fail("'format' takes positional or keyword arguments, not both");
  if (args.named.empty()) return percent_format(rt, soft(rt, self), rt.tuple(std::move(args.positional)));
  auto dict = std::make_shared<DictObject>();
  for (auto& [name, value] : args.named) dict->set(rt, Value::text(name), std::move(value));
  return percent_format(rt, soft(rt, self), rt.dict(std::move(dict)));
}

Value filter_indent(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "indent", args, {"width", "first", "blank"});
  const int64_t width = bound.has(0) && bound[0].is_string() ? 0 : bound.integer(0, 4);
  rt.check_length(width);
  const std::string indent = bound.has(0) && bound[0].is_string()
                                 ? bound.str(0)
                                 : std::string(size_t(std::max<int64_t>(width, 0)), ' ');
  const std::string text = need_string(self, "indent") + "\n";
  std::string out = bound.flag(1, false) ? indent : "";
  bool first = true;
  for (std::string_view line : split_lines(text, false)) {
    rt.step();
    if (!first) {
      out += '\n';
      if (bound.flag(2, false) || !line.empty()) out += indent;
    }
    first = false;
    out += line;
    rt.check_length(int64_t(out.size()));
  }
  return rt.text(std::move(out), self.is_safe());
}

Value filter_center(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "center", args, {"width"});
  Args inner;
  inner.positional.push_back(Value::integer(bound.integer(0, 80)));
  return find_string_method("center")(rt, soft(rt, self), inner);
}

Value filter_truncate(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "truncate", args, {"length", "killwords", "end", "leeway"});
  const std::u32string text = decode_utf8(need_string(self, "truncate"));
  const std::u32string end = bound.has(2) ? decode_utf8(bound.str(2)) : U"...";
  const int64_t length = bound.integer(0, 255), leeway = bound.has_value(3) ? bound.integer(3, 5) : 5;
  if (length < int64_t(end.size()) || leeway < 0) fail("'truncate' got a length or leeway that is too small");
  if (int64_t(text.size()) <= length || int64_t(text.size()) - length <= leeway) return self;
  std::u32string kept = text.substr(0, size_t(length) - end.size());
  const size_t space = kept.rfind(' ');
  if (!bound.flag(1, false) && space != std::u32string::npos) kept.resize(space);
  return rt.text(encode_utf8(kept + end));
}

Value filter_wordcount(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "wordcount", args, {});
  int64_t words = 0;
  bool inside = false;
  for (char32_t code : decode_utf8(to_str(rt, self))) {
    const bool part = code == '_' || is_alpha(code) || is_numeric(code) || is_digit(code);
    words += part && !inside;
    inside = part;
  }
  return Value::integer(words);
}

void append_quoted(std::string& out, const std::string& text, bool query) {
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query);
    const auto byte = static_cast<unsigned char>(c);
    if (plain)
      out += c;
    else if (c == ' ' && query)
      out += '+';
    else
      (out += '%').append({"0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]});
  }
}
Value filter_urlencode(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "urlencode", args, {});
  std::string out;
  auto iterator = self.is_string() ? nullptr : try_iterate(rt, self);
  if (!iterator) {
    append_quoted(out, to_str(rt, self), false);
    return rt.text(std::move(out));
  }
  const auto pair_out = [&](const Value& key, const Value& value) {
    if (!out.empty()) out += '&';
    append_quoted(out, to_str(rt, key), true);
    out += '=';
    append_quoted(out, to_str(rt, value), true);
    rt.check_length(int64_t(out.size()));
  };
  if (self.is_dict()) {
    for (const auto& [key, value] : self.dict().entries) pair_out(key, value);
    return rt.text(std::move(out));
  }
  for (Value item; iterator->next(rt, item);) {
    const std::vector<Value> pair = to_vector(rt, item);
    if (pair.size() != 2) fail("'urlencode' needs pairs of a key and a value");
    pair_out(pair[0], pair[1]);
  }
  return rt.text(std::move(out));
}

Value filter_xmlattr(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "xmlattr", args, {"autospace"});
  if (!self.is_dict()) fail("'xmlattr' needs a mapping, got '", type_name(self), "'");
  std::string out;
  for (const auto& [key, value] : self.dict().entries) {
    if (value.is_none() || value.is_undefined()) continue;
    const std::string& name = need_string(key, "xmlattr");
    if (name.find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      fail("invalid character in the attribute name '", name, "'");
    if (!out.empty()) out += ' ';
    const std::string text = to_str(rt, value);
    out += (key.is_safe() ? name : html_escape(name)) + "=\"" + (value.is_safe() ? text : html_escape(text)) +
           "\"";
    rt.check_length(int64_t(out.size()));
  }
  return rt.text(bound.flag(0, true) && !out.empty() ? " " + out : out);
}

// Text as Python's int() or float() takes it: no surrounding spaces, no underscores between digits.
std::optional<std::string> number_text(const std::string& text) {
  const std::string_view stripped = strip_ascii_or_unicode(text, true, true);
  std::string out;
  for (size_t i = 0; i < stripped.size(); ++i) {
    if (stripped[i] == '_') {
      const auto digit = [&](size_t k) {
        return k < stripped.size() && std::isalnum(static_cast<unsigned char>(stripped[k]));
      };
      if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
      continue;
    }
    out += stripped[i];
  }
  if (out.empty()) return std::nullopt;
  return out;
}

std::optional<double> parse_float(const std::string& source) {
  const auto text = number_text(source);
  if (!text) return std::nullopt;
  std::string body = *text;
  const bool negative = body[0] == '-';
  if (body[0] == '+' || body[0] == '-') body.erase(0, 1);
  const std::string low = lower_utf8(body);
  if (low == "inf" || low == "infinity") return negative ? -HUGE_VAL : HUGE_VAL;
  if (low == "nan") return std::nan("");
  if (body.empty() || body.find_first_not_of("0123456789.eE+-") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(body.c_str(), &end);
  if (end != body.c_str() + body.size() || body[0] == '+' || body[0] == '-') return std::nullopt;
  return negative ? -value : value;
}

std::optional<int64_t> parse_int(const std::string& source, int64_t base) {
  auto text = number_text(source);
  if (!text) return std::nullopt;
  std::string body = *text;
  const bool negative = body[0] == '-';
  if (body[0] == '+' || body[0] == '-') body.erase(0, 1);
  const char kind = body.size() > 1 && body[0] == '0' ? char(body[1] | 0x20) : '\0';
  const int64_t named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
  if (named && (base == named || base == 0)) {
    body.erase(0, 2);
    base = named;
  } else if (base == 0) {
    if (body.size() > 1 && body[0] == '0' && body.find_first_not_of('0') != std::string::npos)
      return std::nullopt;
    base = 10;
  }
  if (body.empty() || body[0] == '-') return std::nullopt;
  if (negative) body.insert(0, 1, '-');
  int64_t value = 0;
  const auto result = std::from_chars(body.data(), body.data() + body.size(), value, int(base));
  if (result.ptr != body.data() + body.size() || result.ec == std::errc::invalid_argument)
    return std::nullopt;
  if (result.ec != std::errc()) fail("an integer does not fit 64 bits");
  return value;
}

int64_t truncated(double value) {
  if (!(std::fabs(value) < 0x1p63)) fail("an integer does not fit 64 bits");
  return int64_t(value);
}

Value filter_int(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "int", args, {"default", "base"});
  const Value otherwise = bound.has(0) ? bound[0] : Value::integer(0);
  if (self.is_undefined()) fail(self.undefined_message());
  if (self.is_integral()) return Value::integer(self.as_int());
  if (self.is(Type::kFloat))
    return std::isnan(self.as_float()) ? otherwise : Value::integer(truncated(self.as_float()));
  if (!self.is_string()) return otherwise;
  const int64_t base = bound.integer(1, 10);
  if (base == 0 || (base >= 2 && base <= 36))
    if (const auto whole = parse_int(self.str(), base)) return Value::integer(*whole);
  const auto real = parse_float(self.str());
  return real && std::isfinite(*real) ? Value::integer(truncated(*real)) : otherwise;
}
Value filter_float(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "float", args, {"default"});
  const Value otherwise = bound.has(0) ? bound[0] : Value::real(0);
  if (self.is_undefined()) fail(self.undefined_message());
  if (self.is_number()) return Value::real(self.as_float());
  if (!self.is_string()) return otherwise;
  const auto real = parse_float(self.str());
  return real ? Value::real(*real) : otherwise;
}
Value filter_abs(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "abs", args, {});
  if (self.is(Type::kFloat)) return Value::real(std::fabs(self.as_float()));
  return self.is_integral() && self.as_int() >= 0 ? Value::integer(self.as_int()) : negate(self);
}

Value filter_round(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "round", args, {"precision", "method"});
  const std::string method = bound.has(1) ? bound.str(1) : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail("'round' knows the methods common, ceil and floor");
  if (self.is_undefined()) fail(self.undefined_message());
  if (!self.is_number()) fail("'round' needs a number, got '", type_name(self), "'");
  const int64_t digits = bound.integer(0, 0);
  if (method != "common") {
    const Value scale = apply_binary(rt, Operation::kPow, Value::integer(10), Value::integer(digits));
    const Value scaled = apply_binary(rt, Operation::kMul, self, scale);
    double whole = scaled.as_float();
    if (!std::isfinite(whole)) fail("'round' cannot round this number");
    if (!scaled.is_integral()) whole = method == "ceil" ? std::ceil(whole) : std::floor(whole);
    return apply_binary(rt, Operation::kDiv,
                        std::fabs(whole) < 0x1p63 ? Value::integer(int64_t(whole)) : Value::real(whole),
                        scale);
  }
  if (self.is(Type::kFloat)) return Value::real(round_float(self.as_float(), digits));
  if (digits >= 0) return Value::integer(self.as_int());
  if (digits < -18) return Value::integer(0);
  int64_t unit = 1;
  for (int64_t i = 0; i > digits; --i) unit *= 10;
  int64_t rest = self.as_int() % unit;
  if (rest < 0) rest += unit;
  int64_t rounded = 0;
  if (__builtin_sub_overflow(self.as_int(), rest, &rounded)) fail("an integer does not fit 64 bits");
  const bool odd = (rounded / unit) % 2 != 0;
  if ((rest > unit - rest || (rest == unit - rest && odd)) && __builtin_add_overflow(rounded, unit, &rounded))
    fail("an integer does not fit 64 bits");
  return Value::integer(rounded);
}

}  // namespace

Function find_text_filter(std::string_view name) {
  static constexpr FunctionRow kRows[] = {
      {"upper", as_method<kUpper>},
      {"lower", as_method<kLower>},
      {"capitalize", as_method<kCapitalize>},
      {"trim", filter_trim},
      {"title", filter_title},
      {"string", filter_string},
      {"safe", filter_safe},
      {"escape", filter_escape},
      {"e", filter_escape},
      {"forceescape", filter_forceescape},
      {"replace", filter_replace},
      {"format", filter_format},
      {"indent", filter_indent},
      {"center", filter_center},
      {"truncate", filter_truncate},
      {"wordcount", filter_wordcount},
      {"urlencode", filter_urlencode},
      {"xmlattr", filter_xmlattr},
      {"int", filter_int},
      {"float", filter_float},
      {"abs", filter_abs},
      {"round", filter_round},
      {"tojson", tojson_filter},
  };
  return find_row(kRows, name);
}

Function find_filter(std::string_view name) {
  if (const Function function = find_text_filter(name)) return function;
  return find_sequence_filter(name);
}

}  // namespace dw::jinja
