// Operators, attributes, subscripts and slices with Python's meaning, and the registries of methods, filters,
// tests and global functions.
#pragma once

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace dw::jinja {

Value apply_binary(Runtime& rt, Operation operation, const Value& a, const Value& b);
Value negate(const Value& value);
Value positive(const Value& value);
bool contains(Runtime& rt, const Value& item, const Value& container);

Value get_attribute(Runtime& rt, const Value& object, const std::string& name);
Value get_item(Runtime& rt, const Value& object, const Value& key);
// A bound of a slice is None where left out.
Value get_slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step);
// The attributes that Python's getattr finds; an attribute that the sandbox forbids is undefined.
std::optional<Value> python_attribute(Runtime& rt, const Value& object, const std::string& name);
Value call_value(Runtime& rt, const Value& callee, Args& args);
std::string object_name(const Value& value);  // for messages: "'dict object'"

// A group of the `groupby` filter: a tuple with two named attributes.
struct GroupTuple : ListObject {};

using Function = Builtin::Function;
Function find_string_method(std::string_view name);
Value encode_method(Runtime& rt, const Value& self, Args& args);  // str.encode
Function find_format_method(std::string_view name);
Function find_dict_method(std::string_view name);
Function find_list_method(std::string_view name, bool tuple);
Function find_filter(std::string_view name);
Function find_text_filter(std::string_view name);
Function find_sequence_filter(std::string_view name);
Function find_test(std::string_view name);
Function find_global(std::string_view name);

Value apply_filter(Runtime& rt, const std::string& name, const Value& input, Args& args);
bool apply_test(Runtime& rt, const std::string& name, const Value& input, Args& args);
Value tojson_filter(Runtime& rt, const Value& self, Args& args);

// One row of a registry.
struct FunctionRow {
  std::string_view name;
  Function function;
};
template <size_t count>
Function find_row(const FunctionRow (&rows)[count], std::string_view name) {
  for (const FunctionRow& row : rows)
    if (row.name == name) return row.function;
  return nullptr;
}

}  // namespace dw::jinja
