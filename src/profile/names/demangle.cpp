#include "profile/names/demangle.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace dw::profile {
namespace {

constexpr size_t kLongest = 1024;
// Two references to what has two references itself: n of them make up to 2^(n / 2) copies.
constexpr int kMostReferences = 24;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_safe(std::string_view symbol) {
  if (symbol.size() > kLongest || symbol.find('\0') != symbol.npos) return false;
  int references = 0;
  for (size_t i = 0; i + 1 < symbol.size(); ++i) {
    const char next = symbol[i + 1];
    if (symbol[i] != 'S' && symbol[i] != 'T') continue;
    if (next == '_' || is_digit(next) || (symbol[i] == 'S' && next >= 'A' && next <= 'Z')) ++references;
  }
  return references <= kMostReferences;
}

}  // namespace

std::string demangle(std::string_view symbol) {
  if (!symbol.starts_with("_Z") || !is_safe(symbol)) return "";
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(std::string(symbol).c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 && text ? std::string(text.get()) : "";
}

std::string_view mangled_base_name(std::string_view symbol) {
  if (!symbol.starts_with("_Z")) return {};
  symbol.remove_prefix(2);
  const bool nested = symbol.starts_with('N');
  if (nested) symbol.remove_prefix(1);
  std::string_view last;
  while (!symbol.empty()) {
    if (symbol[0] == 'L' || symbol[0] == 'K') {  // internal linkage, const
      symbol.remove_prefix(1);
      continue;
    }
    if (symbol.starts_with("St")) {
      symbol.remove_prefix(2);
      continue;
    }
    size_t digits = 0, length = 0;
    while (digits < symbol.size() && digits < 6 && is_digit(symbol[digits]))
      length = length * 10 + size_t(symbol[digits++] - '0');
    if (digits == 0) break;
    last = symbol.substr(digits, length);  // what was cut off is missing
    symbol.remove_prefix(std::min(symbol.size(), digits + length));
    if (!nested) break;
  }
  return last;
}

}  // namespace dw::profile
