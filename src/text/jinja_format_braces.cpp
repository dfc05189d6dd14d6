// "...".format(...): replacement fields, conversions and the specification mini-language.
#include <charconv>

#include "text/jinja_format.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

FormatSpec parse_spec(std::string_view text) {
  FormatSpec spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const auto peek = [&] { return at < text.size() ? text[at] : '\0'; };
  const auto number = [&] {
    int64_t value = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at) {
      value = value * 10 + (text[at] - '0');
      if (value > (int64_t(1) << 31)) fail("a width or precision in a format is too large");
    }
    return value;
  };
  if (!text.empty()) {
    size_t next = 0;
    const char32_t fill = next_code_point(text, next);
    if (next < text.size() && is_align(text[next])) {
      spec.fill = fill;
      spec.align = text[next];
      at = next + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      at = 1;
    }
  }
  if (peek() == '+' || peek() == '-' || peek() == ' ') spec.sign = text[at++];
  if (peek() == '#') {
    spec.alternate = true;
    ++at;
  }
  if (peek() == '0' && !spec.align) {
    spec.fill = '0';
    spec.align = '=';
    ++at;
  }
  spec.width = number();
  if (peek() == ',' || peek() == '_') spec.grouping = text[at++];
  if (peek() == '.') {
    ++at;
    if (peek() < '0' || peek() > '9') fail("a format's precision is missing");
    spec.precision = number();
  }
  if (at < text.size()) spec.type = text[at++];
  if (at < text.size()) fail("invalid format specification '", text, "'");
  return spec;
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime& rt, Args& args) : rt_(rt), args_(args) {}

  std::string expand(std::string_view format, int depth) {
    if (depth > 2) fail("a format nests too deeply");
    std::string out;
    for (size_t i = 0; i < format.size();) {
      const char c = format[i++];
      if (c != '{' && c != '}') {
        out += c;
        continue;
      }
      if (i < format.size() && format[i] == c) {
        out += c;
        ++i;
        continue;
      }
      if (c == '}') fail("single '}' in a format");
      int level = 1;
      const size_t start = i;
      while (i < format.size() && level > 0) {
        level += format[i] == '{' ? 1 : format[i] == '}' ? -1 : 0;
        ++i;
      }
      if (level > 0) fail("expected '}' in a format");
      out += field(format.substr(start, i - start - 1), depth);
      rt_.check_length(int64_t(out.size()));
    }
    return out;
  }

 private:
  std::string field(std::string_view text, int depth) {
    rt_.step();
    size_t end = 0;
    bool bracket = false;
    for (; end < text.size(); ++end) {
      if (text[end] == '[') bracket = true;
      if (text[end] == ']') bracket = false;
      if (!bracket && (text[end] == '!' || text[end] == ':')) break;
    }
    Value value = resolve(text.substr(0, end));
    if (end < text.size() && text[end] == '!') {
      if (end + 1 >= text.size()) fail("a format's conversion is missing");
      const char conversion = text[end + 1];
      if (conversion != 'r' && conversion != 's' && conversion != 'a') fail("unknown conversion in a format");
      value = rt_.text(conversion == 's' ? to_str(rt_, value) : to_repr(rt_, value));
      end += 2;
      if (end < text.size() && text[end] != ':') fail("expected ':' after a format's conversion");
    }
    const std::string spec = end < text.size() ? expand(text.substr(end + 1), depth + 1) : "";
    return format_value(rt_, value, parse_spec(spec));
  }

  Value resolve(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, end));
    for (size_t i = end; i < path.size();) {
      if (path[i] == '.') {
        const size_t stop = std::min(path.find_first_of(".[", i + 1), path.size());
        if (stop == i + 1) fail("a format has an empty attribute name");
        value = get_attribute(rt_, value, std::string(path.substr(i + 1, stop - i - 1)));
        i = stop;
      } else {
        const size_t close = path[i] == '[' ? path.find(']', i) : std::string_view::npos;
        if (close == std::string_view::npos || close == i + 1) fail("a format has a broken '[...]'");
        const std::string_view key = path.substr(i + 1, close - i - 1);
        int64_t number = 0;
        const auto parsed = std::from_chars(key.data(), key.data() + key.size(), number);
        const bool numeric =
            key[0] != '-' && parsed.ec == std::errc() && parsed.ptr == key.data() + key.size();
        value = get_item(rt_, value, numeric ? Value::integer(number) : Value::text(std::string(key)));
        i = close + 1;
      }
    }
    return value;
  }

  Value first(std::string_view name) {
    int64_t index = next_;
    const bool automatic = name.empty();
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool numeric = !automatic && name[0] != '-' && parsed.ptr == name.data() + name.size();
    if (automatic || numeric) {
      if (automatic ? explicit_ : automatic_) fail("a format mixes automatic and explicit field numbers");
      (automatic ? automatic_ : explicit_) = true;
      if (automatic) index = next_++;
      if (parsed.ec == std::errc::result_out_of_range || index >= int64_t(args_.positional.size()))
        fail("a format names more arguments than were given");
      return args_.positional[size_t(index)];
    }
    for (const auto& [key, value] : args_.named)
      if (key == name) return value;
    fail("a format names '", name, "', which was not given");
  }

  Runtime& rt_;
  Args& args_;
  int64_t next_ = 0;
  bool automatic_ = false, explicit_ = false;
};

Value format_method(Runtime& rt, const Value& self, Args& args) {
  return rt.text(brace_format(rt, self.str(), args), self.is_safe());
}

}  // namespace

std::string brace_format(Runtime& rt, const std::string& format, Args& args) {
  return BraceFormatter(rt, args).expand(format, 1);
}

Function find_format_method(std::string_view name) {
  return name == "format" ? &format_method : nullptr;
}

}  // namespace dw::jinja
