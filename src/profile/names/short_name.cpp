#include "profile/names/short_name.h"

#include <algorithm>
#include <cctype>

namespace dw::profile {
namespace {

constexpr std::string_view kAnonymous = "(anonymous namespace)";

struct Parts {
  size_t begin = 0, end = 0;                      // the function's own name
  size_t arguments_begin = 0, arguments_end = 0;  // of its template, brackets included; equal: none
};

// Brackets of both kinds nest; inside round ones < and > may be operators.
Parts find_parts(std::string_view name) {
  Parts parts;
  size_t angles = 0, rounds = 0, i = 0;
  bool ended = false;  // a '<' or '(' ended the own name
  for (; i < name.size(); ++i) {
    const char c = name[i];
    if (angles == 0 && rounds == 0 && name.substr(i).starts_with(kAnonymous)) {
      i += kAnonymous.size() - 1;
    } else if (rounds > 0 || c == '(') {
      if (angles == 0 && rounds == 0) break;  // the parameters
      rounds += c == '(' ? 1 : 0;
      rounds -= c == ')' ? 1 : 0;
    } else if (c == '<') {
      if (angles++ == 0) {
        parts.end = parts.arguments_begin = i;
        ended = true;
      }
    } else if (c == '>' && angles > 0) {
      if (--angles == 0) parts.arguments_end = i + 1;
    } else if (angles == 0 && (c == ' ' || name.substr(i).starts_with("::"))) {
      i += c == ':' ? 1 : 0;
      parts = {i + 1, i + 1, 0, 0};
      ended = false;
    }
  }
  if (!ended) parts.end = i;
  return parts;
}

// Drops "a::b::" in front of each name.
std::string without_namespaces(std::string_view text) {
  std::string result;
  size_t word = 0;  // where the word that is being copied begins in result
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("::")) {
      result.resize(word);
      ++i;
      continue;
    }
    if (text.substr(i).starts_with(kAnonymous)) {
      i += kAnonymous.size() - 1;
      continue;
    }
    result += text[i];
    if (std::isalnum(static_cast<unsigned char>(text[i])) == 0 && text[i] != '_') word = result.size();
  }
  return result;
}

}  // namespace

std::string_view base_name(std::string_view name) {
  const Parts parts = find_parts(name);
  const std::string_view own = name.substr(parts.begin, parts.end - parts.begin);
  return own.empty() ? name : own;
}

std::string_view template_arguments(std::string_view name) {
  const Parts parts = find_parts(name);
  if (parts.arguments_end < parts.arguments_begin + 2) return {};
  return name.substr(parts.arguments_begin + 1, parts.arguments_end - parts.arguments_begin - 2);
}

std::string short_name(std::string_view name, size_t longest) {
  const Parts parts = find_parts(name);
  std::string text(base_name(name));
  if (parts.arguments_end > parts.arguments_begin)
    text +=
        without_namespaces(name.substr(parts.arguments_begin, parts.arguments_end - parts.arguments_begin));
  if (text.size() <= longest) return text;
  constexpr std::string_view kCut = "...";
  const size_t kept = longest - std::min(longest, kCut.size());
  return text.substr(0, kept) + std::string(kCut.substr(0, longest - kept));
}

}  // namespace dw::profile
