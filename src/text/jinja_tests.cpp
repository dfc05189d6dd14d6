// The tests of `is`.
#include "text/jinja_args.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

template <auto predicate>
Value simple(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "this test", args, {});
  return Value::boolean(predicate(self));
}
bool is_mapping(const Value& value) {
  return value.is_dict();
}
bool is_sequence_like(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict() ||
         custom_as<Range>(value);
}

Value remainder_is(Runtime& rt, const Value& self, int64_t divisor, int64_t wanted) {
  return Value::boolean(
      equal(rt, apply_binary(rt, Operation::kMod, self, Value::integer(divisor)), Value::integer(wanted)));
}
Value test_odd(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "odd", args, {});
  return remainder_is(rt, self, 2, 1);
}
Value test_even(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "even", args, {});
  return remainder_is(rt, self, 2, 0);
}
Value test_divisibleby(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "divisibleby", args, {"num"}, 1);
  return Value::boolean(equal(rt, apply_binary(rt, Operation::kMod, self, bound[0]), Value::integer(0)));
}
Value test_iterable(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "iterable", args, {});
  return Value::boolean(try_iterate(rt, self) != nullptr);
}
Value test_case(Runtime& rt, const Value& self, Args& args, std::string_view method) {
  const Bound bound(rt, "this test", args, {});
  Args none;
  return find_string_method(method)(rt, Value::text(to_str(rt, self)), none);
}
Value test_in(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "in", args, {"seq"}, 1);
  return Value::boolean(contains(rt, self, bound[0]));
}
Value test_sameas(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "sameas", args, {"other"}, 1);
  return Value::boolean(same(self, bound[0]));
}
Value test_known(Runtime& rt, const Value& self, Args& args, Function (*find)(std::string_view)) {
  const Bound bound(rt, "this test", args, {});
  hash(rt, self);  // a list is an error, as in Python
  return Value::boolean(self.is_string() && find(self.str()) != nullptr);
}

Value compare(Runtime& rt, const Value& self, Args& args, Comparison comparison) {
  const Bound bound(rt, "this test", args, {"-other"}, 1);
  const Value& other = bound[0];
  switch (comparison) {
    case Comparison::kEq:
      return Value::boolean(equal(rt, self, other));
    case Comparison::kNe:
      return Value::boolean(!equal(rt, self, other));
    case Comparison::kLt:
      return Value::boolean(less(rt, self, other));
    case Comparison::kGt:
      return Value::boolean(less(rt, other, self));
    case Comparison::kLe:
      return Value::boolean(less_or_equal(rt, self, other));
    default:
      return Value::boolean(less_or_equal(rt, other, self));
  }
}
template <Comparison comparison>
Value compared(Runtime& rt, const Value& self, Args& args) {
  return compare(rt, self, args, comparison);
}

}  // namespace

Function find_test(std::string_view name) {
  static constexpr FunctionRow kRows[] = {
      {"defined", simple<[](const Value& v) { return !v.is_undefined(); }>},
      {"undefined", simple<[](const Value& v) { return v.is_undefined(); }>},
      {"none", simple<[](const Value& v) { return v.is_none(); }>},
      {"string", simple<[](const Value& v) { return v.is_string(); }>},
      {"number", simple<[](const Value& v) { return v.is_number(); }>},
      {"integer", simple<[](const Value& v) { return v.is(Type::kInt); }>},
      {"float", simple<[](const Value& v) { return v.is(Type::kFloat); }>},
      {"boolean", simple<[](const Value& v) { return v.is(Type::kBool); }>},
      {"true", simple<[](const Value& v) { return v.is(Type::kBool) && v.as_bool(); }>},
      {"false", simple<[](const Value& v) { return v.is(Type::kBool) && !v.as_bool(); }>},
      {"mapping", simple<is_mapping>},
      {"sequence", simple<is_sequence_like>},
      {"callable", simple<[](const Value& v) { return v.is_undefined() || is_callable(v); }>},
      {"escaped", simple<[](const Value& v) { return v.is_safe(); }>},
      {"iterable", test_iterable},
      {"odd", test_odd},
      {"even", test_even},
      {"divisibleby", test_divisibleby},
      {"lower", [](Runtime& rt, const Value& s, Args& a) { return test_case(rt, s, a, "islower"); }},
      {"upper", [](Runtime& rt, const Value& s, Args& a) { return test_case(rt, s, a, "isupper"); }},
      {"in", test_in},
      {"sameas", test_sameas},
      {"filter", [](Runtime& rt, const Value& s, Args& a) { return test_known(rt, s, a, find_filter); }},
      {"test", [](Runtime& rt, const Value& s, Args& a) { return test_known(rt, s, a, find_test); }},
      {"eq", compared<Comparison::kEq>},
      {"==", compared<Comparison::kEq>},
      {"equalto", compared<Comparison::kEq>},
      {"ne", compared<Comparison::kNe>},
      {"!=", compared<Comparison::kNe>},
      {"lt", compared<Comparison::kLt>},
      {"<", compared<Comparison::kLt>},
      {"lessthan", compared<Comparison::kLt>},
      {"gt", compared<Comparison::kGt>},
      {">", compared<Comparison::kGt>},
      {"greaterthan", compared<Comparison::kGt>},
      {"le", compared<Comparison::kLe>},
      {"<=", compared<Comparison::kLe>},
      {"ge", compared<Comparison::kGe>},
      {">=", compared<Comparison::kGe>},
  };
  return find_row(kRows, name);
}

}  // namespace dw::jinja
