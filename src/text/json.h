// JSON documents: a value, a strict parser (RFC 8259) and a printer. Objects keep their order. Integers that
// fit 64 bits stay integers, everything else is a double. Refused with a sentence that names the byte:
// anything after the document, NaN and Infinity, numbers out of range, names given twice, text that is not
// UTF-8, lone surrogates, and nesting past kMaxJsonDepth.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/expected.h"

namespace dw {

inline constexpr int kMaxJsonDepth = 128;

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;

  Json() = default;                                             // null
  Json(std::nullptr_t) {}                                       // NOLINT: implicit by design
  Json(bool value) : value_(value) {}                           // NOLINT
  Json(int value) : value_(int64_t(value)) {}                   // NOLINT
  Json(int64_t value) : value_(value) {}                        // NOLINT
  Json(double value) : value_(value) {}                         // NOLINT
  Json(const char* value) : value_(std::string(value)) {}       // NOLINT
  Json(std::string_view value) : value_(std::string(value)) {}  // NOLINT
  Json(std::string value) : value_(std::move(value)) {}         // NOLINT
  Json(Array value) : value_(std::move(value)) {}               // NOLINT
  Json(Object value) : value_(std::move(value)) {}              // NOLINT

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  // Null unless the value has that type.
  const bool* as_bool() const { return std::get_if<bool>(&value_); }
  const int64_t* as_int() const { return std::get_if<int64_t>(&value_); }
  const double* as_double() const { return std::get_if<double>(&value_); }
  const std::string* as_string() const { return std::get_if<std::string>(&value_); }
  const Array* as_array() const { return std::get_if<Array>(&value_); }
  const Object* as_object() const { return std::get_if<Object>(&value_); }
  std::string_view type_name() const;  // "null", "boolean", "integer", "number", "string", "array", "object"

  const Json* find(std::string_view name) const;  // a member of an object; null when there is none
  void set(std::string_view name, Json value);    // replaces or appends a member; a null becomes an object

  friend bool operator==(const Json& a, const Json& b) { return a.value_ == b.value_; }

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_ = nullptr;
};

Expected<Json> parse_json(std::string_view text);
// Compact ({"a":1}) when indent < 0, else one member a line, indented by that many spaces a level. Infinite
// numbers and NaN print as null, as JSON has none.
std::string print_json(const Json& value, int indent = -1);
// Appends a JSON string literal. With ascii_only, other characters become \u escapes (as Python's
// json.dumps).
void append_json_string(std::string& out, std::string_view utf8, bool ascii_only = false);

}  // namespace dw
