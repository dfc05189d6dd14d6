#include "text/jinja_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja_case_table.h"

namespace dw::jinja {
namespace {

constexpr char32_t kEscapedByte = 0xdc00;

int category(char32_t code) {
  return code > 0x10ffff ? UTF8PROC_CATEGORY_CN : utf8proc_category(utf8proc_int32_t(code));
}

// Appends the mapping of a code point that has several code points; false when it has one.
template <size_t count>
bool append_special(const SpecialCase (&table)[count], char32_t code, std::u32string& out) {
  if (code < table[0].code) return false;
  const auto* row = std::lower_bound(std::begin(table), std::end(table), code,
                                     [](const SpecialCase& special, char32_t c) { return special.code < c; });
  if (row == std::end(table) || row->code != code) return false;
  for (char32_t mapped : row->mapped)
    if (mapped) out += mapped;
  return true;
}

void append_upper(char32_t code, std::u32string& out) {
  if (!append_special(kSpecialUpper, code, out)) out += char32_t(utf8proc_toupper(utf8proc_int32_t(code)));
}
void append_title(char32_t code, std::u32string& out) {
  if (!append_special(kSpecialTitle, code, out)) out += char32_t(utf8proc_totitle(utf8proc_int32_t(code)));
}

bool is_cased(char32_t code) {
  return is_lower(code) || is_upper(code) || is_title(code);
}
bool is_case_ignorable(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return code == '\'' || code == '.' || code == ':' || code == 0xb7 || code == 0x2018 || code == 0x2019;
  }
}

// A capital sigma at the end of a word becomes the final small sigma.
char32_t lower_sigma(std::u32string_view text, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return 0x3c3;
  size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after < text.size() && is_cased(text[after]) ? 0x3c3 : 0x3c2;
}

void append_lower(std::u32string_view text, size_t at, std::u32string& out) {
  const char32_t code = text[at];
  if (code == 0x130) {
    out += U"i\u0307";
  } else if (code == 0x3a3) {
    out += lower_sigma(text, at);
  } else {
    out += char32_t(utf8proc_tolower(utf8proc_int32_t(code)));
  }
}

bool all_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

char32_t next_code_point(std::string_view utf8, size_t& offset) {
  const auto byte = [&](size_t i) { return uint32_t(static_cast<unsigned char>(utf8[i])); };
  const uint32_t first = byte(offset);
  if (first < 0x80) return utf8[offset++];
  const size_t extra = first >= 0xf0 && first < 0xf5   ? 3
                       : first >= 0xe0 && first < 0xf0 ? 2
                       : first >= 0xc2 && first < 0xe0 ? 1
                                                       : 0;
  if (extra == 0 || utf8.size() - offset <= extra) return kEscapedByte + byte(offset++);
  uint32_t code = first & (0x3fu >> extra);
  for (size_t i = 1; i <= extra; ++i) {
    if ((byte(offset + i) & 0xc0) != 0x80) return kEscapedByte + byte(offset++);
    code = code << 6 | (byte(offset + i) & 0x3f);
  }
  constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
  if (code < kSmallest[extra] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
    return kEscapedByte + byte(offset++);
  offset += extra + 1;
  return code;
}

std::u32string decode_utf8(std::string_view utf8) {
  std::u32string text;
  text.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size();) text += next_code_point(utf8, i);
  return text;
}

void append_utf8(std::string& out, char32_t code) {
  if (code < 0x80) {
    out += char(code);
  } else if (code < 0x800) {
    out += char(0xc0 | code >> 6);
    out += char(0x80 | (code & 0x3f));
  } else if (code >= kEscapedByte + 0x80 && code <= kEscapedByte + 0xff) {
    out += char(code - kEscapedByte);
  } else if (code < 0x10000) {
    out += char(0xe0 | code >> 12);
    out += char(0x80 | (code >> 6 & 0x3f));
    out += char(0x80 | (code & 0x3f));
  } else {
    out += char(0xf0 | code >> 18);
    out += char(0x80 | (code >> 12 & 0x3f));
    out += char(0x80 | (code >> 6 & 0x3f));
    out += char(0x80 | (code & 0x3f));
  }
}

std::string encode_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char32_t code : text) append_utf8(out, code);
  return out;
}

int64_t count_code_points(std::string_view utf8) {
  int64_t count = 0;
  for (size_t i = 0; i < utf8.size(); ++count) next_code_point(utf8, i);
  return count;
}

size_t find_invalid_utf8(std::string_view utf8) {
  for (size_t i = 0; i < utf8.size();) {
    const size_t start = i;
    const char32_t code = next_code_point(utf8, i);
    if (code >= kEscapedByte && code <= kEscapedByte + 0xff) return start;
  }
  return std::string_view::npos;
}

bool is_space(char32_t code) {
  return (code >= 9 && code <= 13) || (code >= 28 && code <= 32) || code == 0x85 || code == 0xa0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
         code == 0x202f || code == 0x205f || code == 0x3000;
}
bool is_alpha(char32_t code) {
  const int kind = category(code);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_ND;
}
bool is_digit(char32_t code) {
  constexpr char32_t kRanges[][2] = {
      {0xb2, 0xb3},     {0xb9, 0xb9},       {0x1369, 0x1371},   {0x19da, 0x19da},   {0x2070, 0x2070},
      {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247c},   {0x2488, 0x2490},
      {0x24ea, 0x24ea}, {0x24f5, 0x24fd},   {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},
      {0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a}};
  if (is_decimal(code)) return true;
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [&](const char32_t* range) { return code >= range[0] && code <= range[1]; });
}
bool is_numeric(char32_t code) {
  const int kind = category(code);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}
bool is_lower(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL || code == 0xaa || code == 0xba ||
         (code >= 0x2170 && code <= 0x217f) || (code >= 0x24d0 && code <= 0x24e9);
}
bool is_upper(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LU || (code >= 0x2160 && code <= 0x216f) ||
         (code >= 0x24b6 && code <= 0x24cf);
}
bool is_title(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LT;
}
bool is_printable(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return code == ' ';
    default:
      return true;
  }
}
bool is_identifier_start(char32_t code) {
  return code == '_' || is_alpha(code) || category(code) == UTF8PROC_CATEGORY_NL;
}
bool is_identifier_part(char32_t code) {
  const int kind = category(code);
  return is_identifier_start(code) || kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC ||
         kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_PC;
}

std::u32string to_upper(std::u32string_view text) {
  std::u32string out;
  for (char32_t code : text) append_upper(code, out);
  return out;
}
std::u32string to_lower(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) append_lower(text, i, out);
  return out;
}
std::u32string to_title(std::u32string_view text) {
  std::u32string out;
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (inside)
      append_lower(text, i, out);
    else
      append_title(text[i], out);
    inside = is_cased(text[i]);
  }
  return out;
}
std::u32string to_capitalized(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == 0)
      append_title(text[i], out);
    else
      append_lower(text, i, out);
  }
  return out;
}
std::u32string to_casefolded(std::u32string_view text) {
  std::u32string out;
  for (char32_t code : text) {
    utf8proc_int32_t folded[4] = {};
    int last_boundary = 0;
    const auto count =
        utf8proc_decompose_char(utf8proc_int32_t(code), folded, 4, UTF8PROC_CASEFOLD, &last_boundary);
    if (count < 1 || count > 4)
      out += code;
    else
      for (utf8proc_ssize_t i = 0; i < count; ++i) out += char32_t(folded[i]);
  }
  return out;
}
std::u32string to_swapped_case(std::u32string_view text) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (is_upper(text[i]))
      append_lower(text, i, out);
    else if (is_lower(text[i]))
      append_upper(text[i], out);
    else
      out += text[i];
  }
  return out;
}

std::string upper_utf8(std::string_view text) {
  if (!all_ascii(text)) return encode_utf8(to_upper(decode_utf8(text)));
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = char(c - 32);
  return out;
}
std::string lower_utf8(std::string_view text) {
  if (!all_ascii(text)) return encode_utf8(to_lower(decode_utf8(text)));
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = char(c + 32);
  return out;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text(buffer, size_t(end - buffer));
  std::string out;
  if (text.front() == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t mark = text.find('e');
  int exponent = 0;
  const size_t digits_at = mark + 1 + (text[mark + 1] == '+');
  std::from_chars(text.data() + digits_at, text.data() + text.size(), exponent);
  std::string digits(1, text[0]);
  if (mark > 2) digits += text.substr(2, mark - 2);
  const int count = int(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const std::string size = std::to_string(std::abs(exponent));
    return out + (size.size() < 2 ? "0" : "") + size;
  }
  if (exponent < 0) return out + "0." + std::string(size_t(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return out + digits + std::string(size_t(exponent + 1 - count), '0') + ".0";
  return out + digits.substr(0, size_t(exponent) + 1) + "." + digits.substr(size_t(exponent) + 1);
}

std::string string_repr(std::string_view utf8) {
  const bool has_single = utf8.find('\'') != std::string_view::npos;
  const char quote = has_single && utf8.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  const auto hex = [&](const char* prefix, uint32_t code, int width) {
    out += prefix;
    for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[code >> shift & 15];
  };
  for (size_t i = 0; i < utf8.size();) {
    const char32_t code = next_code_point(utf8, i);
    if (code == char32_t(quote) || code == '\\') {
      out += '\\';
      out += char(code);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (is_printable(code)) {
      append_utf8(out, code);
    } else if (code < 0x100) {
      hex("\\x", code, 2);
    } else if (code < 0x10000) {
      hex("\\u", code, 4);
    } else {
      hex("\\U", code, 8);
    }
  }
  return out + quote;
}

std::string html_escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string_view strip_ascii_or_unicode(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    size_t next = 0;
    if (!is_space(next_code_point(text, next))) break;
    text.remove_prefix(next);
  }
  while (right && !text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0) == 0x80)
      --start;
    size_t next = start;
    if (!is_space(next_code_point(text, next)) || next != text.size()) break;
    text = text.substr(0, start);
  }
  return text;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t at = i;
    const char32_t code = next_code_point(text, i);
    const bool is_break = (code >= 10 && code <= 13) || (code >= 0x1c && code <= 0x1e) || code == 0x85 ||
                          code == 0x2028 || code == 0x2029;
    if (!is_break) continue;
    if (code == '\r' && i < text.size() && text[i] == '\n') ++i;
    lines.push_back(text.substr(start, (keep_ends ? i : at) - start));
    start = i;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  return lines;
}

}  // namespace dw::jinja
