#include "profile/ingest/json_stream.h"

#include <array>
#include <cstring>

#include "profile/ingest/number.h"

namespace dw::profile {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

constexpr std::array<uint8_t, 256> make_marks() {
  std::array<uint8_t, 256> marks{};
  for (const char c : {'"', '{', '}', '[', ']'}) marks[uint8_t(c)] = 1;
  return marks;
}
constexpr std::array<uint8_t, 256> kMarks = make_marks();

// Finds the end of a value; can go on where it stopped when more of the text has come.
struct ExtentScanner {
  size_t at = 0;
  int64_t depth = 0;
  bool in_string = false, started = false;

  // True: the value ends before text[at].
  bool scan(std::string_view text) {
    const char* const base = text.data();
    while (at < text.size()) {
      if (in_string) {
        if (!scan_string(text)) return false;
        if (depth == 0) return true;
        continue;
      }
      if (!started) {
        started = true;
        if (kMarks[uint8_t(base[at])] == 0) depth = -1;  // a number or a word
      }
      if (depth < 0) return scan_scalar(text);
      while (at < text.size() && kMarks[uint8_t(base[at])] == 0) ++at;
      if (at == text.size()) return false;
      const char c = base[at++];
      if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (--depth <= 0) {
        if (depth < 0) --at;  // the bracket of what the value lies in: there is no value
        return true;
      }
    }
    return false;
  }

 private:
  bool scan_string(std::string_view text) {
    while (true) {
      const void* quote = std::memchr(text.data() + at, '"', text.size() - at);
      if (quote == nullptr) {
        at = text.size();
        return false;
      }
      const size_t found = size_t(static_cast<const char*>(quote) - text.data());
      size_t slashes = 0;
      while (slashes < found && text[found - 1 - slashes] == '\\') ++slashes;
      at = found + 1;
      if (slashes % 2 == 0) {
        in_string = false;
        return true;
      }
      if (at >= text.size()) return false;
    }
  }
  bool scan_scalar(std::string_view text) {
    while (at < text.size() && !is_space(text[at]) && text[at] != ',' && text[at] != '}' && text[at] != ']' &&
           text[at] != ':')
      ++at;
    return at < text.size();
  }
};

}  // namespace

void JsonCursor::skip_space() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
}

bool JsonCursor::enter(char open) {
  skip_space();
  if (at_ >= text_.size() || text_[at_] != open) return false;
  ++at_;
  first_ = true;
  return true;
}

bool JsonCursor::next_element() {
  skip_space();
  if (!first_) {
    if (at_ >= text_.size() || text_[at_] != ',') return false;
    ++at_;
    skip_space();
  }
  first_ = false;
  return at_ < text_.size() && text_[at_] != ']' && text_[at_] != '}';
}

bool JsonCursor::next_member(std::string_view& key) {
  if (!next_element() || text_[at_] != '"') return false;
  const std::string_view raw = value();
  skip_space();
  if (raw.size() < 2 || at_ >= text_.size() || text_[at_] != ':') return false;
  ++at_;
  key = raw.substr(1, raw.size() - 2);
  return true;
}

std::string_view JsonCursor::value() {
  skip_space();
  ExtentScanner scanner;
  const std::string_view rest = text_.substr(at_);
  if (!scanner.scan(rest) && scanner.depth >= 0) {  // not ended; a scalar may end with the text
    at_ = text_.size();
    return {};
  }
  at_ += scanner.at;
  return rest.substr(0, scanner.at);
}

std::string_view json_member(std::string_view object, std::string_view key) {
  JsonCursor cursor(object);
  if (!cursor.enter_object()) return {};
  std::string_view name;
  while (cursor.next_member(name)) {
    const std::string_view value = cursor.value();
    if (name == key) return value;
    if (value.empty()) break;
  }
  return {};
}

namespace {

void append_code_point(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += char(c);
  } else if (c < 0x800) {
    out += char(0xc0 | (c >> 6));
    out += char(0x80 | (c & 63));
  } else if (c < 0x10000) {
    out += char(0xe0 | (c >> 12));
    out += char(0x80 | ((c >> 6) & 63));
    out += char(0x80 | (c & 63));
  } else {
    out += char(0xf0 | (c >> 18));
    out += char(0x80 | ((c >> 12) & 63));
    out += char(0x80 | ((c >> 6) & 63));
    out += char(0x80 | (c & 63));
  }
}

// Four hexadecimal digits at `at`; false: there are none.
bool hex4(std::string_view text, size_t at, uint32_t& value) {
  if (at + 4 > text.size()) return false;
  value = 0;
  for (size_t i = at; i < at + 4; ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return false;
    value = value * 16 + uint32_t(digit);
  }
  return true;
}

}  // namespace

std::string json_text(std::string_view raw) {
  if (raw.size() < 2 || raw.front() != '"') return std::string(raw);
  raw = raw.substr(1, raw.size() - 2);
  if (raw.find('\\') == std::string_view::npos) return std::string(raw);
  std::string out;
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\' || i + 1 >= raw.size()) {
      out += raw[i];
      continue;
    }
    const char c = raw[++i];
    uint32_t unit = 0, low = 0;
    if (c == 'u' && hex4(raw, i + 1, unit)) {
      i += 4;
      if (unit >= 0xd800 && unit < 0xdc00 && raw.substr(i + 1).starts_with("\\u") && hex4(raw, i + 3, low) &&
          low >= 0xdc00 && low < 0xe000) {
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        i += 6;
      }
      append_code_point(out, unit >= 0xd800 && unit < 0xe000 ? 0xfffd : unit);
    } else {
      out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
    }
  }
  return out;
}

std::optional<int64_t> json_integer(std::string_view raw) {
  if (raw.size() >= 2 && raw.front() == '"') raw = raw.substr(1, raw.size() - 2);
  return parse_integer(raw);
}

void JsonStream::fail(const char* what) {
  if (problem_.empty()) problem_ = std::string(what) + " at byte " + std::to_string(input_.position());
}

void JsonStream::settle() {
  input_.consume(taken_);
  taken_ = 0;
}

char JsonStream::next_character() {
  settle();
  while (true) {
    const std::string_view window = input_.peek(1);
    if (window.empty()) return 0;
    size_t i = 0;
    while (i < window.size() && is_space(window[i])) ++i;
    input_.consume(i);
    if (i < window.size()) return window[i];
  }
}

char JsonStream::peek_value() {
  return broken() ? 0 : next_character();
}

bool JsonStream::enter(char open) {
  if (peek_value() != open) {
    if (!broken()) fail(input_.peek(1).empty() ? "ends" : "is no JSON");
    return false;
  }
  input_.consume(1);
  constexpr size_t kDeepest = 16;  // we enter a handful of levels
  if (open_.size() >= kDeepest) fail("is nested too deeply");
  open_ += open;
  first_ = true;
  return !broken();
}

bool JsonStream::separator(char close) {
  const char c = peek_value();
  if (c == close) {
    input_.consume(1);
    open_.pop_back();
    first_ = false;
    return false;
  }
  if (c == 0) {
    fail("ends");
    return false;
  }
  if (!first_) {
    if (c != ',') {
      fail("is no JSON");
      return false;
    }
    input_.consume(1);
    const char next = next_character();
    if (next == 0) {
      fail("ends");
      return false;
    }
    if (next == close) return separator(close);  // a comma after the last one
  }
  first_ = false;
  return !broken();
}

bool JsonStream::next_element() {
  return !broken() && separator(']');
}

bool JsonStream::next_member(std::string& key) {
  if (broken() || !separator('}')) return false;
  if (peek_value() != '"') {
    fail("is no JSON");
    return false;
  }
  key = json_text(take());
  if (broken()) return false;
  if (next_character() != ':') {
    fail(input_.peek(1).empty() ? "ends" : "is no JSON");
    return false;
  }
  input_.consume(1);
  return true;
}

std::string_view JsonStream::take() {
  if (peek_value() == 0) {
    if (!broken()) fail("ends");
    return {};
  }
  ExtentScanner scanner;
  std::string_view window = input_.peek(1);
  while (!scanner.scan(window)) {
    if (window.size() > kLargestValue) {
      ++too_large_;
      skip();
      return {};
    }
    if (!input_.more()) {
      fail("ends inside a value that begins");
      return {};
    }
    window = input_.peek(0);
  }
  if (scanner.at == 0) {
    fail("is no JSON");
    return {};
  }
  taken_ = scanner.at;
  first_ = false;
  return window.substr(0, scanner.at);
}

void JsonStream::skip() {
  const char begin = peek_value();
  if (begin == 0) {
    if (!broken()) fail("ends");
    return;
  }
  const bool scalar = begin != '"' && begin != '{' && begin != '[';
  int64_t depth = 0;
  bool in_string = false, escaped = false;
  first_ = false;
  while (true) {
    const std::string_view window = input_.peek(1);
    if (window.empty()) return fail("ends");
    for (size_t i = 0; i < window.size(); ++i) {
      const char c = window[i];
      bool done = false;
      if (in_string) {
        if (escaped)
          escaped = false;
        else if (c == '\\')
          escaped = true;
        else if (c == '"')
          in_string = false, done = depth == 0;
      } else if (scalar) {
        if (c == ',' || c == '}' || c == ']' || is_space(c)) {
          input_.consume(i);
          return;
        }
      } else if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (c == '}' || c == ']') {
        done = --depth <= 0;
      }
      if (done) {
        input_.consume(i + 1);
        return;
      }
    }
    input_.consume(window.size());
  }
}

}  // namespace dw::profile
