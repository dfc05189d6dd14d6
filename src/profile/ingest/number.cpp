#include "profile/ingest/number.h"

#include <charconv>
#include <string>

namespace dw::profile {

std::optional<int64_t> parse_integer(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

namespace {

struct Decimal {
  std::string_view whole, fraction;
  bool negative = false;
  int exponent = 0;
};

bool digits(std::string_view text) {
  return text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<Decimal> split_decimal(std::string_view text) {
  Decimal d;
  if (text.starts_with('-') || text.starts_with('+')) {
    d.negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const size_t e = text.find_first_of("eE");
  if (e != std::string_view::npos) {
    const auto exponent = parse_integer(text.substr(e + 1));
    if (!exponent || *exponent < -400 || *exponent > 400) return std::nullopt;
    d.exponent = int(*exponent);
    text = text.substr(0, e);
  }
  const size_t point = text.find('.');
  d.whole = text.substr(0, point);
  if (point != std::string_view::npos) d.fraction = text.substr(point + 1);
  if (d.whole.empty() && d.fraction.empty()) return std::nullopt;
  if (!digits(d.whole) || !digits(d.fraction)) return std::nullopt;
  return d;
}

}  // namespace

std::optional<int64_t> parse_scaled(std::string_view text, int shift) {
  const auto d = split_decimal(text);
  if (!d) return std::nullopt;
  // The integer part of the result has this many of the number's digits.
  const int64_t kept = int64_t(d->whole.size()) + d->exponent + shift;
  const int64_t all = int64_t(d->whole.size() + d->fraction.size());
  uint64_t value = 0;
  for (int64_t i = 0; i < kept; ++i) {
    const size_t at = size_t(i);
    const int digit =
        i >= all ? 0 : (at < d->whole.size() ? d->whole[at] : d->fraction[at - d->whole.size()]) - '0';
    if (value > (uint64_t(INT64_MAX) - uint64_t(digit)) / 10) return std::nullopt;
    value = value * 10 + uint64_t(digit);
  }
  if (kept >= 0 && kept < all) {
    const size_t at = size_t(kept);
    const char next = at < d->whole.size() ? d->whole[at] : d->fraction[at - d->whole.size()];
    if (next >= '5' && ++value > uint64_t(INT64_MAX)) return std::nullopt;
  }
  return d->negative ? -int64_t(value) : int64_t(value);
}

std::optional<int64_t> parse_grouped(std::string_view text, int shift, bool integral) {
  size_t separators = 0, last = std::string_view::npos;
  bool mixed = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '.' && text[i] != ',') continue;
    mixed |= last != std::string_view::npos && text[last] != text[i];
    last = i;
    ++separators;
  }
  if (text.size() > 64) return std::nullopt;
  bool decimal = separators > 0;  // the last separator is the decimal point
  if (decimal && !mixed) {
    const bool three = text.size() - last - 1 == 3;
    decimal = separators == 1 && !(three && (integral || text[last] == ','));
  }
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '.' || text[i] == ',') {
      if (decimal && i == last) plain += '.';
    } else if (text[i] != ' ' && text[i] != '\'') {
      plain += text[i];
    }
  }
  return parse_scaled(plain, shift);
}

std::optional<int> time_shift(std::string_view unit) {
  if (unit == "ns" || unit == "nsecond" || unit == "nanosecond") return 0;
  if (unit == "us" || unit == "usecond" || unit == "microsecond" || unit == "\xce\xbcs" ||
      unit == "\xc2\xb5s")
    return 3;
  if (unit == "ms" || unit == "msecond" || unit == "millisecond") return 6;
  if (unit == "s" || unit == "second" || unit == "sec") return 9;
  return std::nullopt;
}

}  // namespace dw::profile
