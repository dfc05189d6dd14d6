// The methods of Python's str.
#include <algorithm>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

Value code_points(Runtime& rt, const std::u32string& text, const Value& self) {
  return rt.text(encode_utf8(text), self.is_safe());
}

// strip, lstrip, rstrip with an optional set of characters.
Value strip(Runtime& rt, const Value& self, Args& args, std::string_view name, bool left, bool right) {
  const Bound bound(rt, name, args, {"-chars"});
  if (!bound.has_value(0))
    return rt.text(std::string(strip_ascii_or_unicode(self.str(), left, right)), self.is_safe());
  const std::u32string set = decode_utf8(bound.str(0));
  const std::u32string text = decode_utf8(self.str());
  rt.step(int64_t(text.size() / 64));
  const auto in_set = [&](char32_t code) { return set.find(code) != std::u32string::npos; };
  size_t start = 0, end = text.size();
  while (left && start < end && in_set(text[start])) ++start;
  while (right && end > start && in_set(text[end - 1])) --end;
  return code_points(rt, text.substr(start, end - start), self);
}

// Splits at a separator, at most `limit` times (negative: always), from the left or the right.
std::vector<std::string> split_at(Runtime& rt, const std::string& text, const std::string& separator,
                                  int64_t limit, bool from_right) {
  if (separator.empty()) fail("empty separator");
  std::vector<std::string> parts;
  std::string_view rest = text;
  while (limit != 0) {
    rt.step();
    const size_t at = from_right ? rest.rfind(separator) : rest.find(separator);
    if (at == std::string_view::npos) break;
    parts.emplace_back(from_right ? rest.substr(at + separator.size()) : rest.substr(0, at));
    rest = from_right ? rest.substr(0, at) : rest.substr(at + separator.size());
    --limit;
  }
  parts.emplace_back(rest);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_spaces(Runtime& rt, const std::string& text, int64_t limit, bool from_right) {
  std::vector<std::string> parts;
  std::string_view rest = strip_ascii_or_unicode(text, !from_right, from_right);
  while (!rest.empty()) {
    rt.step();
    if (limit-- == 0) {
      parts.emplace_back(strip_ascii_or_unicode(rest, !from_right, from_right));
      break;
    }
    size_t word = 0;  // code points of one word, at either end
    if (!from_right) {
      while (word < rest.size()) {
        size_t next = word;
        if (is_space(next_code_point(rest, next))) break;
        word = next;
      }
      parts.emplace_back(rest.substr(0, word));
      rest = strip_ascii_or_unicode(rest.substr(word), true, false);
    } else {
      size_t start = rest.size();
      while (start > 0 && strip_ascii_or_unicode(rest.substr(0, start), false, true).size() == start) {
        --start;
        while (start > 0 && (static_cast<unsigned char>(rest[start]) & 0xc0) == 0x80) --start;
      }
      parts.emplace_back(rest.substr(start));
      rest = strip_ascii_or_unicode(rest.substr(0, start), false, true);
    }
  }
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

Value split(Runtime& rt, const Value& self, Args& args, bool from_right) {
  const Bound bound(rt, from_right ? "rsplit" : "split", args, {"sep", "maxsplit"});
  const int64_t limit = bound.integer(1, -1);
  const auto parts = bound.has_value(0) ? split_at(rt, self.str(), bound.str(0), limit, from_right)
                                        : split_spaces(rt, self.str(), limit, from_right);
  std::vector<Value> items;
  for (const auto& part : parts) items.push_back(rt.text(part, self.is_safe()));
  return rt.list(std::move(items));
}

Value splitlines(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "splitlines", args, {"keepends"});
  std::vector<Value> items;
  for (std::string_view line : split_lines(self.str(), bound.flag(0, false))) {
    rt.step();
    items.push_back(rt.text(std::string(line), self.is_safe()));
  }
  return rt.list(std::move(items));
}

// The code points in [start, stop) as Python's optional arguments name them, and where they begin.
struct Window {
  std::u32string text;
  int64_t start = 0;
  bool valid = true;  // start is not past the end
};
Window window(Runtime& rt, const Value& self, const Bound& bound) {
  Window result;
  const std::u32string whole = decode_utf8(self.str());
  rt.step(int64_t(whole.size() / 256));
  const int64_t length = int64_t(whole.size());
  const auto resolve = [&](size_t i, int64_t otherwise) {
    if (!bound.has_value(i)) return otherwise;
    const int64_t at = bound.integer(i, otherwise);
    return at < 0 ? std::max<int64_t>(at + length, 0) : at;
  };
  result.start = resolve(1, 0);
  const int64_t stop = std::min(resolve(2, length), length);
  result.valid = result.start <= length && result.start <= stop;
  if (result.valid) result.text = whole.substr(size_t(result.start), size_t(stop - result.start));
  return result;
}

int64_t find_in(Runtime& rt, const Value& self, Args& args, std::string_view name, bool from_right) {
  const Bound bound(rt, name, args, {"-sub", "-start", "-end"}, 1);
  const std::u32string needle = decode_utf8(bound.str(0));
  const Window part = window(rt, self, bound);
  if (!part.valid) return -1;
  const size_t at = from_right ? part.text.rfind(needle) : part.text.find(needle);
  return at == std::u32string::npos ? -1 : part.start + int64_t(at);
}
Value find(Runtime& rt, const Value& self, Args& args) {
  return Value::integer(find_in(rt, self, args, "find", false));
}
Value rfind(Runtime& rt, const Value& self, Args& args) {
  return Value::integer(find_in(rt, self, args, "rfind", true));
}
Value found_or_fail(int64_t at) {
  if (at < 0) fail("substring not found");
  return Value::integer(at);
}
Value index(Runtime& rt, const Value& self, Args& args) {
  return found_or_fail(find_in(rt, self, args, "index", false));
}
Value rindex(Runtime& rt, const Value& self, Args& args) {
  return found_or_fail(find_in(rt, self, args, "rindex", true));
}
Value count(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "count", args, {"-sub", "-start", "-end"}, 1);
  const std::u32string needle = decode_utf8(bound.str(0));
  const Window part = window(rt, self, bound);
  if (!part.valid) return Value::integer(0);
  if (needle.empty()) return Value::integer(int64_t(part.text.size()) + 1);
  int64_t found = 0;
  for (size_t at = 0; (at = part.text.find(needle, at)) != std::u32string::npos; at += needle.size()) ++found;
  return Value::integer(found);
}

Value starts_or_ends(Runtime& rt, const Value& self, Args& args, bool starts) {
  const Bound bound(rt, starts ? "startswith" : "endswith", args, {"-prefix", "-start", "-end"}, 1);
  const bool whole = !bound.has_value(1) && !bound.has_value(2);
  std::optional<Window> part;
  if (!whole) part = window(rt, self, bound);
  const auto matches = [&](const Value& candidate) {
    if (!candidate.is_string())
      fail(starts ? "startswith" : "endswith", " needs a string or a tuple of strings");
    if (whole)
      return starts ? self.str().starts_with(candidate.str()) : self.str().ends_with(candidate.str());
    const std::u32string text = decode_utf8(candidate.str());
    return part->valid && (starts ? part->text.starts_with(text) : part->text.ends_with(text));
  };
  if (!bound[0].is(Type::kTuple)) return Value::boolean(matches(bound[0]));
  bool any = false;
  for (const Value& candidate : bound[0].items()) any = any || matches(candidate);
  return Value::boolean(any);
}

Value replace(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "replace", args, {"-old", "-new", "-count"}, 2);
  const std::string& old_text = bound.str(0);
  const std::string new_text =
      self.is_safe() && !bound[1].is_safe() ? html_escape(bound.str(1)) : bound.str(1);
  int64_t left = bound.integer(2, -1);
  const std::string& text = self.str();
  std::string out;
  const auto put = [&](std::string_view piece) {
    rt.check_length(int64_t(out.size() + piece.size()));
    out += piece;
  };
  size_t at = 0;
  if (old_text.empty()) {  // between all characters, and at both ends
    for (; left != 0; --left) {
      rt.step();
      put(new_text);
      if (at >= text.size()) break;
      const size_t start = at;
      next_code_point(text, at);
      put(std::string_view(text).substr(start, at - start));
    }
    if (at < text.size()) put(std::string_view(text).substr(at));
    return rt.text(std::move(out), self.is_safe());
  }
  for (; left != 0; --left) {
    const size_t next = text.find(old_text, at);
    if (next == std::string::npos) break;
    rt.step();
    put(std::string_view(text).substr(at, next - at));
    put(new_text);
    at = next + old_text.size();
  }
  put(std::string_view(text).substr(at));
  return rt.text(std::move(out), self.is_safe());
}

Value join(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "join", args, {"-iterable"}, 1);
  const auto iterator = iterate(rt, bound[0]);
  std::string out;
  bool first = true;
  for (Value item; iterator->next(rt, item); first = false) {
    if (!first) out += self.str();
    // A safe string escapes, and so converts, what it joins.
    if (!item.is_string() && !self.is_safe()) fail("join needs strings, got '", type_name(item), "'");
    out += self.is_safe() && !item.is_safe() ? html_escape(to_str(rt, item)) : item.str();
    rt.check_length(int64_t(out.size()));
  }
  return rt.text(std::move(out), self.is_safe());
}

using Mapper = std::u32string (*)(std::u32string_view);
template <Mapper mapper>
Value mapped(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "this method", args, {});
  return code_points(rt, mapper(decode_utf8(self.str())), self);
}
Value upper(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "upper", args, {});
  return rt.text(upper_utf8(self.str()), self.is_safe());
}
Value lower(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "lower", args, {});
  return rt.text(lower_utf8(self.str()), self.is_safe());
}

using Predicate = bool (*)(char32_t);
template <Predicate predicate>
Value all_are(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "this method", args, {});
  const std::u32string text = decode_utf8(self.str());
  return Value::boolean(!text.empty() && std::all_of(text.begin(), text.end(), predicate));
}
bool is_alnum(char32_t code) {
  return is_alpha(code) || is_digit(code) || is_numeric(code);
}
template <Predicate wanted, Predicate refused>
Value cased(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "this method", args, {});
  bool any = false;
  for (char32_t code : decode_utf8(self.str())) {
    if (refused(code) || is_title(code)) return Value::boolean(false);
    any = any || wanted(code);
  }
  return Value::boolean(any);
}
Value istitle(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "istitle", args, {});
  bool any = false, inside = false;
  for (char32_t code : decode_utf8(self.str())) {
    const bool capital = is_upper(code) || is_title(code);
    if (capital ? inside : is_lower(code) && !inside) return Value::boolean(false);
    inside = capital || is_lower(code);
    any = any || inside;
  }
  return Value::boolean(any);
}
Value isascii(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "isascii", args, {});
  return Value::boolean(is_ascii(self));
}
Value isprintable(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "isprintable", args, {});
  const std::u32string text = decode_utf8(self.str());
  return Value::boolean(std::all_of(text.begin(), text.end(), is_printable));
}
Value isidentifier(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "isidentifier", args, {});
  const std::u32string text = decode_utf8(self.str());
  return Value::boolean(!text.empty() && is_identifier_start(text[0]) &&
                        std::all_of(text.begin(), text.end(), is_identifier_part));
}

Value removeprefix(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "removeprefix", args, {"-prefix"}, 1);
  const std::string& prefix = bound.str(0);
  return rt.text(self.str().starts_with(prefix) ? self.str().substr(prefix.size()) : self.str(),
                 self.is_safe());
}
Value removesuffix(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "removesuffix", args, {"-suffix"}, 1);
  const size_t keep = self.str().size() - (self.str().ends_with(bound.str(0)) ? bound.str(0).size() : 0);
  return rt.text(self.str().substr(0, keep), self.is_safe());
}

Value partition(Runtime& rt, const Value& self, Args& args, bool from_right) {
  const Bound bound(rt, from_right ? "rpartition" : "partition", args, {"-sep"}, 1);
  const std::string& separator = bound.str(0);
  if (separator.empty()) fail("empty separator");
  const std::string& text = self.str();
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  const auto piece = [&](const std::string& part) { return rt.text(part, self.is_safe()); };
  if (at == std::string::npos)
    return from_right ? rt.tuple({piece(""), piece(""), piece(text)})
                      : rt.tuple({piece(text), piece(""), piece("")});
  return rt.tuple({piece(text.substr(0, at)), piece(separator), piece(text.substr(at + separator.size()))});
}

Value justify(Runtime& rt, const Value& self, Args& args, std::string_view name, char align) {
  const Bound bound(rt, name, args, {"-width", "-fillchar"}, 1);
  const std::string fill = bound.has(1) ? bound.str(1) : " ";
  if (count_code_points(fill) != 1) fail("the fill character must be exactly one character");
  const int64_t missing = std::max<int64_t>(bound.integer(0, 0) - string_length(self), 0);
  rt.check_length(missing);
  rt.check_length(missing * int64_t(fill.size()) + int64_t(self.str().size()));
  const int64_t width = missing + string_length(self);
  const int64_t left = align == '<' ? 0 : align == '>' ? missing : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += self.str();
  for (int64_t i = left; i < missing; ++i) out += fill;
  return rt.text(std::move(out), self.is_safe());
}
Value zfill(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "zfill", args, {"-width"}, 1);
  const int64_t missing = std::max<int64_t>(bound.integer(0, 0) - string_length(self), 0);
  rt.check_length(missing);
  const std::string& text = self.str();
  const size_t sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  return rt.text(text.substr(0, sign) + std::string(size_t(missing), '0') + text.substr(sign),
                 self.is_safe());
}
Value expandtabs(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "expandtabs", args, {"tabsize"});
  const int64_t size = bound.integer(0, 8);
  std::u32string out;
  int64_t column = 0;
  for (char32_t code : decode_utf8(self.str())) {
    if (code == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      rt.check_length(int64_t(out.size()) + spaces);
      out.append(size_t(spaces), U' ');
      column += spaces;
    } else {
      out += code;
      column = code == '\n' || code == '\r' ? 0 : column + 1;
    }
  }
  return code_points(rt, out, self);
}

}  // namespace

Function find_string_method(std::string_view name) {
  static constexpr FunctionRow kRows[] = {
      {"strip", [](Runtime& rt, const Value& s, Args& a) { return strip(rt, s, a, "strip", true, true); }},
      {"lstrip", [](Runtime& rt, const Value& s, Args& a) { return strip(rt, s, a, "lstrip", true, false); }},
      {"rstrip", [](Runtime& rt, const Value& s, Args& a) { return strip(rt, s, a, "rstrip", false, true); }},
      {"split", [](Runtime& rt, const Value& s, Args& a) { return split(rt, s, a, false); }},
      {"rsplit", [](Runtime& rt, const Value& s, Args& a) { return split(rt, s, a, true); }},
      {"startswith", [](Runtime& rt, const Value& s, Args& a) { return starts_or_ends(rt, s, a, true); }},
      {"endswith", [](Runtime& rt, const Value& s, Args& a) { return starts_or_ends(rt, s, a, false); }},
      {"partition", [](Runtime& rt, const Value& s, Args& a) { return partition(rt, s, a, false); }},
      {"rpartition", [](Runtime& rt, const Value& s, Args& a) { return partition(rt, s, a, true); }},
      {"ljust", [](Runtime& rt, const Value& s, Args& a) { return justify(rt, s, a, "ljust", '<'); }},
      {"rjust", [](Runtime& rt, const Value& s, Args& a) { return justify(rt, s, a, "rjust", '>'); }},
      {"center", [](Runtime& rt, const Value& s, Args& a) { return justify(rt, s, a, "center", '^'); }},
      {"splitlines", splitlines},
      {"find", find},
      {"rfind", rfind},
      {"index", index},
      {"rindex", rindex},
      {"count", count},
      {"replace", replace},
      {"join", join},
      {"upper", upper},
      {"lower", lower},
      {"casefold", mapped<to_casefolded>},
      {"encode", encode_method},
      {"title", mapped<to_title>},
      {"capitalize", mapped<to_capitalized>},
      {"swapcase", mapped<to_swapped_case>},
      {"isalpha", all_are<is_alpha>},
      {"isdigit", all_are<is_digit>},
      {"isdecimal", all_are<is_decimal>},
      {"isnumeric", all_are<is_numeric>},
      {"isalnum", all_are<is_alnum>},
      {"isspace", all_are<is_space>},
      {"islower", cased<is_lower, is_upper>},
      {"isupper", cased<is_upper, is_lower>},
      {"istitle", istitle},
      {"isascii", isascii},
      {"isprintable", isprintable},
      {"isidentifier", isidentifier},
      {"removeprefix", removeprefix},
      {"removesuffix", removesuffix},
      {"zfill", zfill},
      {"expandtabs", expandtabs},
  };
  return find_row(kRows, name);
}

}  // namespace dw::jinja
