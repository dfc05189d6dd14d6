// Cuts a template into tokens, with Jinja2's whitespace rules as Hugging Face sets them: trim_blocks and
// lstrip_blocks on, one newline at the end of the template dropped, line ends normalised to "\n".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dw::jinja {

enum class TokenKind : uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  // text holds the operator
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // data, a name, a string's value, an operator
  int64_t integer = 0;
  double real = 0;
};

// Throws TemplateError.
std::vector<Token> tokenize(std::string_view source);
std::string describe(const Token& token);

}  // namespace dw::jinja
