#include "text/json.h"

#include <charconv>
#include <cmath>
#include <unordered_set>

#include "text/jinja_text.h"

namespace dw {
namespace {

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Expected<Json> run() {
    Json value;
    if (const size_t bad = jinja::find_invalid_utf8(text_); bad != std::string_view::npos) {
      at_ = bad;
      return error("the text is not valid UTF-8");
    }
    if (!parse_value(value, 0)) return error(problem_);
    skip_spaces();
    if (at_ != text_.size()) return error("unexpected text after the value");
    return value;
  }

 private:
  Error error(std::string_view problem) const { return make_error("JSON, byte ", at_, ": ", problem); }
  bool reject(std::string_view problem) {
    problem_ = problem;
    return false;
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t') ++at_;
  }
  bool parse_word(std::string_view word, Json value, Json& out) {
    if (text_.substr(at_, word.size()) != word) return reject("unexpected character, a value was expected");
    at_ += word.size();
    out = std::move(value);
    return true;
  }

  bool parse_value(Json& out, int depth) {
    if (depth > kMaxJsonDepth) return reject("arrays and objects are nested too deeply");
    skip_spaces();
    if (at_ >= text_.size()) return reject("the text ends where a value was expected");
    switch (peek()) {
      case '{':
        return parse_object(out, depth);
      case '[':
        return parse_array(out, depth);
      case '"': {
        std::string value;
        if (!parse_string(value)) return false;
        out = Json(std::move(value));
        return true;
      }
      case 't':
        return parse_word("true", Json(true), out);
      case 'f':
        return parse_word("false", Json(false), out);
      case 'n':
        return parse_word("null", Json(), out);
      default:
        return parse_number(out);
    }
  }

  bool parse_array(Json& out, int depth) {
    Json::Array items;
    ++at_;
    skip_spaces();
    while (peek() != ']') {
      if (!items.empty()) {
        if (peek() != ',') return reject("',' or ']' was expected");
        ++at_;
      }
      if (!parse_value(items.emplace_back(), depth + 1)) return false;
      skip_spaces();
    }
    ++at_;
    out = Json(std::move(items));
    return true;
  }

  bool parse_object(Json& out, int depth) {
    Json::Object members;
    std::unordered_set<std::string> names;
    ++at_;
    skip_spaces();
    while (peek() != '}') {
      if (!members.empty()) {
        if (peek() != ',') return reject("',' or '}' was expected");
        ++at_;
        skip_spaces();
      }
      if (peek() != '"') return reject("a member's name in double quotes was expected");
      auto& [name, value] = members.emplace_back();
      if (!parse_string(name)) return false;
      if (!names.insert(name).second) return reject("the name \"" + name + "\" appears twice in an object");
      skip_spaces();
      if (peek() != ':') return reject("':' was expected");
      ++at_;
      if (!parse_value(value, depth + 1)) return false;
      skip_spaces();
    }
    ++at_;
    out = Json(std::move(members));
    return true;
  }

  bool parse_hex(uint32_t& code) {
    code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return reject("four hexadecimal digits were expected after \\u");
      code = code << 4 | uint32_t(digit);
    }
    return true;
  }
  bool parse_escape(std::string& out) {
    static constexpr std::string_view kNames = "\"\\/bfnrt";
    static constexpr std::string_view kCodes = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const size_t name = kNames.find(c); c && name != std::string_view::npos) {
      out += kCodes[name];
      ++at_;
      return true;
    }
    if (c != 'u') return reject("unknown escape in a string");
    ++at_;
    uint32_t code = 0;
    if (!parse_hex(code)) return false;
    if (code >= 0xd800 && code < 0xdc00) {
      uint32_t low = 0;
      if (text_.substr(at_, 2) != "\\u") return reject("half of a surrogate pair in a string");
      at_ += 2;
      if (!parse_hex(low)) return false;
      if (low < 0xdc00 || low > 0xdfff) return reject("half of a surrogate pair in a string");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      return reject("half of a surrogate pair in a string");
    }
    jinja::append_utf8(out, code);
    return true;
  }
  bool parse_string(std::string& out) {
    ++at_;
    while (true) {
      if (at_ >= text_.size()) return reject("a string has no closing quote");
      const char c = text_[at_];
      if (c == '"') break;
      if (static_cast<unsigned char>(c) < 0x20)
        return reject("a control character in a string must be escaped");
      ++at_;
      if (c != '\\')
        out += c;
      else if (!parse_escape(out))
        return false;
    }
    ++at_;
    return true;
  }

  bool skip_digits() {
    const size_t start = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > start;
  }
  bool parse_number(Json& out) {
    const size_t start = at_;
    if (peek() == '-') ++at_;
    const bool zero = peek() == '0';
    const size_t digits = at_;
    if (!skip_digits()) {
      at_ = start;
      return reject("unexpected character, a value was expected");
    }
    if (zero && at_ - digits > 1) return reject("a number must not start with 0");
    bool integral = true;
    if (peek() == '.') {
      integral = false;
      ++at_;
      if (!skip_digits()) return reject("a digit was expected after '.'");
    }
    if (peek() == 'e' || peek() == 'E') {
      integral = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!skip_digits()) return reject("a digit was expected in an exponent");
    }
    const char* first = text_.data() + start;
    const char* last = text_.data() + at_;
    if (integral) {
      int64_t value = 0;
      if (std::from_chars(first, last, value).ec != std::errc())
        return reject("an integer does not fit 64 bits");
      out = Json(value);
      return true;
    }
    const double value = std::strtod(std::string(first, last).c_str(), nullptr);
    if (!std::isfinite(value)) return reject("a number is too large");
    out = Json(value);
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string problem_;
};

void print(std::string& out, const Json& value, int indent, int depth) {
  const auto new_line = [&](int level) {
    if (indent < 0) return;
    out += '\n';
    out.append(size_t(indent) * size_t(level), ' ');
  };
  if (const bool* flag = value.as_bool()) {
    out += *flag ? "true" : "false";
  } else if (const int64_t* integer = value.as_int()) {
    out += std::to_string(*integer);
  } else if (const double* real = value.as_double()) {
    out += std::isfinite(*real) ? jinja::float_repr(*real) : "null";
  } else if (const std::string* text = value.as_string()) {
    append_json_string(out, *text);
  } else if (const Json::Array* items = value.as_array()) {
    out += '[';
    for (size_t i = 0; i < items->size(); ++i) {
      if (i) out += ',';
      new_line(depth + 1);
      print(out, (*items)[i], indent, depth + 1);
    }
    if (!items->empty()) new_line(depth);
    out += ']';
  } else if (const Json::Object* members = value.as_object()) {
    out += '{';
    for (size_t i = 0; i < members->size(); ++i) {
      if (i) out += ',';
      new_line(depth + 1);
      append_json_string(out, (*members)[i].first);
      out += indent < 0 ? ":" : ": ";
      print(out, (*members)[i].second, indent, depth + 1);
    }
    if (!members->empty()) new_line(depth);
    out += '}';
  } else {
    out += "null";
  }
}

}  // namespace

std::string_view Json::type_name() const {
  constexpr std::string_view kNames[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
  return kNames[value_.index()];
}
const Json* Json::find(std::string_view name) const {
  if (const Object* members = as_object())
    for (const Member& member : *members)
      if (member.first == name) return &member.second;
  return nullptr;
}
void Json::set(std::string_view name, Json value) {
  if (is_null()) value_ = Object();
  Object* members = std::get_if<Object>(&value_);
  DW_CHECK(members, "Json::set on a value that is no object");
  for (Member& member : *members) {
    if (member.first != name) continue;
    member.second = std::move(value);
    return;
  }
  members->emplace_back(std::string(name), std::move(value));
}

Expected<Json> parse_json(std::string_view text) {
  return JsonParser(text).run();
}
std::string print_json(const Json& value, int indent) {
  std::string out;
  print(out, value, indent, 0);
  return out;
}

void append_json_string(std::string& out, std::string_view utf8, bool ascii_only) {
  const auto escape = [&](uint32_t code) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += "0123456789abcdef"[code >> shift & 15];
  };
  out += '"';
  for (size_t i = 0; i < utf8.size();) {
    const size_t start = i;
    const char32_t code = jinja::next_code_point(utf8, i);
    if (code == '"' || code == '\\') {
      out += '\\';
      out += char(code);
    } else if (code < 0x20) {
      constexpr std::string_view kShort = "btn.fr";
      if (code >= 8 && code <= 13 && code != 11)
        (out += '\\') += kShort[code - 8];
      else
        escape(code);
    } else if (code < 0x80 || !ascii_only) {
      out += utf8.substr(start, i - start);
    } else if (code < 0x10000) {
      escape(code);
    } else {
      escape(0xd800 + ((code - 0x10000) >> 10));
      escape(0xdc00 + ((code - 0x10000) & 0x3ff));
    }
  }
  out += '"';
}

}  // namespace dw
