#include "text/jinja_lexer.h"

#include <charconv>

#include "text/jinja_text.h"
#include "text/jinja_value.h"

namespace dw::jinja {
namespace {

std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_ascii_digit(char c) {
  return c >= '0' && c <= '9';
}

int hex_digit(char c) {
  if (is_ascii_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}
  std::vector<Token> run() {
    while (pos_ < source_.size()) lex_text();
    emit(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void error(const std::string& message) const { throw TemplateError{message, line_}; }
  char at(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  bool starts(size_t i, std::string_view text) const {
    return i <= source_.size() && std::string_view(source_).substr(i, text.size()) == text;
  }
  Token& emit(TokenKind kind, std::string text) {
    tokens_.push_back({kind, line_, std::move(text), 0, 0});
    return tokens_.back();
  }
  void advance(size_t end) {
    for (; pos_ < end; ++pos_) line_ += source_[pos_] == '\n';
  }
  size_t skip_spaces(size_t i) const {
    while (i < source_.size()) {
      size_t next = i;
      if (!is_space(next_code_point(source_, next))) break;
      i = next;
    }
    return i;
  }
  // The end of "raw" or "endraw" written in a tag that starts at i ("{%" there); 0 when it is another tag.
  size_t word_end(size_t i, std::string_view word) const {
    i += 2;
    if (at(i) == '-' || at(i) == '+') ++i;
    i = skip_spaces(i);
    return starts(i, word) ? skip_spaces(i + word.size()) : 0;
  }
  size_t raw_begin_end(size_t i) const {
    const size_t end = word_end(i, "raw");
    if (end && starts(end, "-%}")) return skip_spaces(end + 3);
    return end && starts(end, "%}") ? end + 2 : 0;
  }
  // The end of a closing "%}" or "#}" at i, with its sign and the newline that it takes; 0 when there is
  // none.
  size_t close_end(size_t i, std::string_view mark) const {
    if (at(i) == '+' && starts(i + 1, mark)) return i + 3;
    if (at(i) == '-' && starts(i + 1, mark)) return skip_spaces(i + 3);
    if (!starts(i, mark)) return 0;
    return at(i + 2) == '\n' ? i + 3 : i + 2;
  }
  void lex_text();
  void emit_text(size_t tag, bool variable);
  void lex_comment(size_t begin);
  void lex_raw(size_t begin);
  void lex_tag(bool block);
  void lex_token();
  void lex_number();
  void lex_string();
  void lex_operator();
  std::string unescape(std::string_view raw) const;
  char32_t escape_code(std::string_view raw, size_t& i, int digits) const;

  std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<char> open_;  // brackets to be closed in the current tag
  std::vector<Token> tokens_;
};

// Emits the text before the tag at `tag`, stripped as the tag's sign and lstrip_blocks ask.
void Lexer::emit_text(size_t tag, bool variable) {
  std::string_view text = std::string_view(source_).substr(pos_, tag - pos_);
  const char sign = at(tag + 2);
  if (sign == '-') {
    text = strip_ascii_or_unicode(text, false, true);
  } else if (sign != '+' && !variable) {
    const size_t newline = text.rfind('\n');
    const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
    if (line_start > 0 || line_starting_) {
      if (strip_ascii_or_unicode(text.substr(line_start), true, false).empty())
        text = text.substr(0, line_start);
    }
  }
  if (!text.empty()) emit(TokenKind::kData, std::string(text));
  advance(tag);
}

void Lexer::lex_text() {
  size_t tag = pos_;
  while (true) {
    tag = source_.find('{', tag);
    if (tag == std::string::npos || at(tag + 1) == '{' || at(tag + 1) == '%' || at(tag + 1) == '#') break;
    ++tag;
  }
  if (tag == std::string::npos) {
    emit(TokenKind::kData, source_.substr(pos_));
    advance(source_.size());
    return;
  }
  const char mark = at(tag + 1);
  emit_text(tag, mark == '{');
  const size_t raw_end = mark == '%' ? raw_begin_end(tag) : 0;
  if (raw_end) return lex_raw(raw_end);
  const size_t begin = tag + 2 + (at(tag + 2) == '-' || at(tag + 2) == '+');
  if (mark == '#') return lex_comment(begin);
  emit(mark == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, "");
  advance(begin);
  lex_tag(mark == '%');
}

void Lexer::lex_comment(size_t begin) {
  size_t mark = source_.find("#}", begin);
  if (mark == std::string::npos) error("a comment '{#' has no end '#}'");
  if (mark > begin && (at(mark - 1) == '-' || at(mark - 1) == '+')) --mark;
  const size_t end = close_end(mark, "#}");
  advance(end);
  line_starting_ = at(end - 1) == '\n';
}

void Lexer::lex_raw(size_t begin) {
  line_starting_ = at(begin - 1) == '\n';
  advance(begin);
  for (size_t tag = begin; (tag = source_.find("{%", tag)) != std::string::npos; ++tag) {
    const size_t word = word_end(tag, "endraw");
    const size_t end = word ? close_end(word, "%}") : 0;
    if (!end) continue;
    emit_text(tag, false);
    advance(end);
    line_starting_ = at(end - 1) == '\n';
    return;
  }
  error("a 'raw' block has no 'endraw'");
}

void Lexer::lex_tag(bool block) {
  open_.clear();
  while (true) {
    const size_t start = skip_spaces(pos_);
    advance(start);
    if (pos_ >= source_.size()) return;  // the parser reports the missing end
    if (open_.empty()) {
      size_t end = 0;
      if (block)
        end = close_end(pos_, "%}");
      else if (starts(pos_, "-}}"))
        end = skip_spaces(pos_ + 3);
      else if (starts(pos_, "}}"))
        end = pos_ + 2;
      if (end) {
        emit(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
        advance(end);
        line_starting_ = at(end - 1) == '\n';
        return;
      }
    }
    lex_token();
  }
}

void Lexer::lex_token() {
  const char c = at(pos_);
  if (is_ascii_digit(c)) return lex_number();
  if (c == '\'' || c == '"') return lex_string();
  size_t end = pos_;
  if (!is_identifier_start(next_code_point(source_, end))) return lex_operator();
  while (end < source_.size()) {
    size_t next = end;
    if (!is_identifier_part(next_code_point(source_, next))) break;
    end = next;
  }
  emit(TokenKind::kName, source_.substr(pos_, end - pos_));
  advance(end);
}

void Lexer::lex_number() {
  // Digits of a base, single underscores between them.
  const auto digits = [&](size_t i, int base) {
    while (true) {
      const size_t digit = i + (at(i) == '_');
      const int value = hex_digit(at(digit));
      if (value < 0 || value >= base) return i;
      i = digit + 1;
    }
  };
  const auto decimal = [&](size_t i) { return is_ascii_digit(at(i)) ? digits(i + 1, 10) : 0; };
  const auto plain = [&](size_t end) {
    std::string text = source_.substr(pos_, end - pos_);
    std::erase(text, '_');
    return text;
  };
  if (pos_ == 0 || at(pos_ - 1) != '.') {
    const size_t whole = decimal(pos_);
    size_t end = 0, mantissa = whole;
    if (at(whole) == '.')
      if (const size_t fraction = decimal(whole + 1)) end = mantissa = fraction;
    if (at(mantissa) == 'e' || at(mantissa) == 'E') {
      const size_t sign = at(mantissa + 1) == '+' || at(mantissa + 1) == '-';
      if (const size_t exponent = decimal(mantissa + 1 + sign)) end = exponent;
    }
    if (end) {
      emit(TokenKind::kFloat, "").real = std::strtod(plain(end).c_str(), nullptr);
      return advance(end);
    }
  }
  const char kind = char(at(pos_ + 1) | 0x20);
  const int base = at(pos_) != '0' ? 10 : kind == 'b' ? 2 : kind == 'o' ? 8 : kind == 'x' ? 16 : 1;
  size_t end = base == 10 || base == 1 ? digits(pos_ + 1, base) : digits(pos_ + 2, base);
  bool prefixed = base == 2 || base == 8 || base == 16;
  if (prefixed && end == pos_ + 2) {
    end = pos_ + 1;
    prefixed = false;
  }
  const std::string text = plain(end).substr(prefixed ? 2 : 0);
  int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value, prefixed ? base : 10);
  if (result.ec != std::errc()) error("the number " + text + " does not fit 64 bits");
  emit(TokenKind::kInteger, "").integer = value;
  advance(end);
}

char32_t Lexer::escape_code(std::string_view raw, size_t& i, int digits) const {
  uint32_t code = 0;
  for (int k = 0; k < digits; ++k, ++i) {
    const int digit = i < raw.size() ? hex_digit(raw[i]) : -1;
    if (digit < 0) error("a string has a broken \\x, \\u or \\U escape");
    code = code << 4 | uint32_t(digit);
  }
  if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) error("a string escape names no character");
  return code;
}

std::string Lexer::unescape(std::string_view raw) const {
  static constexpr std::string_view kNames = "\\'\"abfnrtv";
  static constexpr std::string_view kCodes = "\\'\"\a\b\f\n\r\t\v";
  std::string out;
  for (size_t i = 0; i < raw.size();) {
    if (raw[i] != '\\') {
      out += raw[i++];
      continue;
    }
    const char c = raw[++i];  // the string's end was found past every backslash's partner
    if (const size_t name = kNames.find(c); name != std::string_view::npos) {
      out += kCodes[name];
      ++i;
    } else if (c == '\n') {
      ++i;
    } else if (c >= '0' && c <= '7') {
      uint32_t code = 0;
      for (int k = 0; k < 3 && i < raw.size() && raw[i] >= '0' && raw[i] <= '7'; ++k)
        code = code * 8 + uint32_t(raw[i++] - '0');
      append_utf8(out, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      append_utf8(out, escape_code(raw, ++i, c == 'x' ? 2 : c == 'u' ? 4 : 8));
    } else if (c == 'N') {
      error("\\N{...} escapes are not supported");
    } else if (static_cast<unsigned char>(c) >= 0x80) {  // as Python: the character's own escape, not decoded
      const std::string repr = [&] {
        const char32_t code = next_code_point(raw, i);
        char buffer[16];
        const char* format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";
        return std::string(buffer, size_t(std::snprintf(buffer, sizeof buffer, format, unsigned(code))));
      }();
      out += repr;
    } else {
      out += '\\';
      out += c;
      ++i;
    }
  }
  return out;
}

void Lexer::lex_string() {
  const char quote = at(pos_);
  size_t end = pos_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) error("a string has no closing quote");
  emit(TokenKind::kString, unescape(std::string_view(source_).substr(pos_ + 1, end - pos_ - 1)));
  advance(end + 1);
}

void Lexer::lex_operator() {
  static constexpr std::string_view kPairs[] = {"//", "**", "==", "!=", ">=", "<="};
  static constexpr std::string_view kSingles = "+-/*%~[](){}><=.:|,;";
  std::string text(1, at(pos_));
  for (std::string_view pair : kPairs)
    if (starts(pos_, pair)) text = pair;
  if (text.size() == 1 && kSingles.find(text[0]) == std::string_view::npos) {
    size_t end = pos_;
    next_code_point(source_, end);
    error("unexpected character '" + source_.substr(pos_, end - pos_) + "' in a tag");
  }
  if (text == "(" || text == "[" || text == "{") open_.push_back(text == "(" ? ')' : text == "[" ? ']' : '}');
  if (text == ")" || text == "]" || text == "}") {
    if (open_.empty()) error("unexpected '" + text + "'");
    if (open_.back() != text[0]) error("unexpected '" + text + "', expected '" + open_.back() + "'");
    open_.pop_back();
  }
  const size_t end = pos_ + text.size();
  emit(TokenKind::kOperator, std::move(text));
  advance(end);
}

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  return Lexer(source).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kName:
    case TokenKind::kOperator:
      return "'" + token.text + "'";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return "a number";
    case TokenKind::kEnd:
      return "the end of the template";
  }
  return "?";
}

}  // namespace dw::jinja
