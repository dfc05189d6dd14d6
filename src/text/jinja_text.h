// Python's view of text: code points, case, classes of characters, repr of strings and floats. Bytes that are
// not UTF-8 are carried as the code points U+DC80..U+DCFF (Python's surrogateescape), so nothing is lost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dw::jinja {

std::u32string decode_utf8(std::string_view utf8);
std::string encode_utf8(std::u32string_view text);
void append_utf8(std::string& out, char32_t code);
// Reads one code point at `offset` and advances it; an invalid byte gives U+DC00 + byte.
char32_t next_code_point(std::string_view utf8, size_t& offset);
int64_t count_code_points(std::string_view utf8);
// Byte offset of the first byte that is not valid UTF-8; npos when all is.
size_t find_invalid_utf8(std::string_view utf8);

bool is_space(char32_t code);
bool is_alpha(char32_t code);
bool is_decimal(char32_t code);
bool is_digit(char32_t code);
bool is_numeric(char32_t code);
bool is_lower(char32_t code);
bool is_upper(char32_t code);
bool is_title(char32_t code);
bool is_printable(char32_t code);
bool is_identifier_start(char32_t code);
bool is_identifier_part(char32_t code);

std::u32string to_upper(std::u32string_view text);
std::u32string to_lower(std::u32string_view text);
std::u32string to_title(std::u32string_view text);
std::u32string to_capitalized(std::u32string_view text);
std::u32string to_casefolded(std::u32string_view text);
std::u32string to_swapped_case(std::u32string_view text);
std::string upper_utf8(std::string_view text);
std::string lower_utf8(std::string_view text);

std::string float_repr(double value);  // shortest text that reads back, as Python prints it
std::string string_repr(std::string_view utf8);
std::string html_escape(std::string_view text);

std::string_view strip_ascii_or_unicode(std::string_view text, bool left, bool right);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

}  // namespace dw::jinja
