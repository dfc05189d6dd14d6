// JSON read as a stream: large arrays are walked element by element, and an element (one event) is parsed in
// place. Nothing is built of what is not asked for; nesting needs no stack.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "profile/ingest/input.h"

namespace dw::profile {

// A JSON value that lies in memory.
class JsonCursor {
 public:
  explicit JsonCursor(std::string_view text) : text_(text) {}
  // Into the object; next_member() gives its keys (raw: escapes stay) and value() their values.
  bool enter_object() { return enter('{'); }
  bool enter_array() { return enter('['); }
  bool next_member(std::string_view& key);  // false: the object ends, or what follows is no member
  bool next_element();                      // true: value() may be called
  std::string_view value();                 // raw text of the value; empty: there is none

 private:
  bool enter(char open);
  void skip_space();
  std::string_view text_;
  size_t at_ = 0;
  bool first_ = true;
};

// The raw value of a member of an object; empty: there is none.
std::string_view json_member(std::string_view object, std::string_view key);
// The text of a raw string with its escapes resolved; another value's raw text.
std::string json_text(std::string_view raw);
std::optional<int64_t> json_integer(std::string_view raw);  // also of a string that holds one

// Walks the outer levels of a file.
class JsonStream {
 public:
  explicit JsonStream(Input& input) : input_(input) {}
  // The first character of the next value; 0: there is none.
  char peek_value();
  bool enter(char open);               // '{' or '['
  bool next_member(std::string& key);  // then one of enter(), take() or skip()
  bool next_element();                 // the same
  // The whole next value, up to kLargestValue; valid until the next call. Empty: broken() or too large (then
  // it is skipped and counted).
  std::string_view take();
  void skip();
  uint64_t value_begin() const { return input_.position(); }  // of the value that take() gave

  bool broken() const { return !problem_.empty(); }
  const std::string& problem() const { return problem_; }  // "ends at byte 123" or "is no JSON at byte 123"
  uint64_t too_large() const { return too_large_; }

  static constexpr size_t kLargestValue = size_t(64) << 20;

 private:
  char next_character();  // skips space; 0 at the end
  void fail(const char* what);
  bool separator(char close);
  void settle();
  Input& input_;
  std::string problem_;
  std::string open_;  // the brackets we are in
  size_t taken_ = 0;
  uint64_t too_large_ = 0;
  bool first_ = true;
};

}  // namespace dw::profile
