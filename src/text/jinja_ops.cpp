#include "text/jinja_ops.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_format.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void fail_types(Operation operation, const Value& a, const Value& b) {
  if (a.is_undefined()) fail(a.undefined_message());
  if (b.is_undefined()) fail(b.undefined_message());
  fail("unsupported operand types for ", kSymbols[size_t(operation)], ": '", type_name(a), "' and '",
       type_name(b), "'");
}

[[noreturn]] void fail_overflow() {
  fail("an integer does not fit 64 bits");
}

int64_t floor_mod(int64_t a, int64_t b) {
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

int64_t int_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) fail_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return result;
}

Value float_power(double base, double exponent) {
  if (base == 0 && exponent < 0) fail("zero cannot be raised to a negative power");
  if (base < 0 && std::isfinite(base) && std::isfinite(exponent) && exponent != std::floor(exponent))
    fail("a negative number to a fractional power is not a real number");
  const double result = std::pow(base, exponent);
  if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent)) fail("a power is too large");
  return Value::real(result);
}

Value int_binary(Operation operation, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (operation) {
    case Operation::kAdd:
      if (__builtin_add_overflow(a, b, &result)) fail_overflow();
      return Value::integer(result);
    case Operation::kSub:
      if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
      return Value::integer(result);
    case Operation::kMul:
      if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
      return Value::integer(result);
    case Operation::kPow:
      if (b < 0) return float_power(double(a), double(b));
      if (a == 0 || a == 1 || b == 0) return Value::integer(b == 0 ? 1 : a);
      if (a == -1) return Value::integer(b % 2 == 0 ? 1 : -1);
      return Value::integer(int_power(a, b));
    default:
      break;
  }
  if (b == 0) fail("division by zero");
  if (operation == Operation::kDiv) return Value::real(double((long double)(a) / (long double)(b)));
  const int64_t rest = floor_mod(a, b);
  if (operation == Operation::kMod) return Value::integer(rest);
  if (b == -1) {
    if (__builtin_sub_overflow(int64_t(0), a, &result)) fail_overflow();
    return Value::integer(result);
  }
  return Value::integer(a / b - (a % b != 0 && (a % b < 0) != (b < 0)));
}

Value float_binary(Operation operation, double a, double b) {
  switch (operation) {
    case Operation::kAdd:
      return Value::real(a + b);
    case Operation::kSub:
      return Value::real(a - b);
    case Operation::kMul:
      return Value::real(a * b);
    case Operation::kPow:
      return float_power(a, b);
    default:
      break;
  }
  if (b == 0) fail("division by zero");
  if (operation == Operation::kDiv) return Value::real(a / b);
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1.0;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  if (operation == Operation::kMod) return Value::real(rest);
  if (quotient == 0) return Value::real(std::copysign(0.0, a / b));
  const double whole = std::floor(quotient);
  return Value::real(quotient - whole > 0.5 ? whole + 1.0 : whole);
}

Value repeat(Runtime& rt, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  const int64_t size = int64_t(value.is_string() ? value.str().size() : value.items().size());
  int64_t total = 0;
  if (__builtin_mul_overflow(size, count, &total)) fail("a repeated value is too long");
  if (value.is_string()) {
    rt.check_length(total);
    std::string out;
    out.reserve(size_t(total));
    for (int64_t i = 0; i < count && size > 0; ++i) out += value.str();
    return rt.text(std::move(out), value.is_safe());
  }
  rt.step(total);
  rt.charge(total * int64_t(sizeof(Value)));
  std::vector<Value> items;
  for (int64_t i = 0; i < count && size > 0; ++i)
    items.insert(items.end(), value.items().begin(), value.items().end());
  return value.is(Type::kList) ? rt.list(std::move(items)) : rt.tuple(std::move(items));
}

Value add_strings(Runtime& rt, const Value& a, const Value& b) {
  const bool safe = a.is_safe() || b.is_safe();
  rt.check_length(int64_t(a.str().size() + b.str().size()));
  std::string out = safe && !a.is_safe() ? html_escape(a.str()) : a.str();
  out += safe && !b.is_safe() ? html_escape(b.str()) : b.str();
  return rt.text(std::move(out), safe);
}

}  // namespace

Value apply_binary(Runtime& rt, Operation operation, const Value& a, const Value& b) {
  rt.step();
  if (a.is_integral() && b.is_integral()) return int_binary(operation, a.as_int(), b.as_int());
  if (a.is_number() && b.is_number()) return float_binary(operation, a.as_float(), b.as_float());
  if (operation == Operation::kMod && a.is_string()) return percent_format(rt, a, b);
  if (operation == Operation::kAdd) {
    if (a.is_string() && b.is_string()) return add_strings(rt, a, b);
    if (a.is_sequence() && a.type() == b.type()) {
      std::vector<Value> items = to_vector(rt, a);
      rt.step(int64_t(b.items().size()));
      rt.charge(int64_t(b.items().size() * sizeof(Value)));
      items.insert(items.end(), b.items().begin(), b.items().end());
      return a.is(Type::kList) ? rt.list(std::move(items)) : rt.tuple(std::move(items));
    }
  }
  if (operation == Operation::kMul) {
    if ((a.is_string() || a.is_sequence()) && b.is_integral()) return repeat(rt, a, b.as_int());
    if ((b.is_string() || b.is_sequence()) && a.is_integral()) return repeat(rt, b, a.as_int());
  }
  fail_types(operation, a, b);
}

Value negate(const Value& value) {
  if (value.is(Type::kFloat)) return Value::real(-value.as_float());
  if (value.is_undefined()) fail(value.undefined_message());
  if (!value.is_integral()) fail("bad operand type for unary -: '", type_name(value), "'");
  int64_t result = 0;
  if (__builtin_sub_overflow(int64_t(0), value.as_int(), &result)) fail_overflow();
  return Value::integer(result);
}

Value positive(const Value& value) {
  if (value.is_undefined()) fail(value.undefined_message());
  if (!value.is_number()) fail("bad operand type for unary +: '", type_name(value), "'");
  return value.is(Type::kFloat) ? value : Value::integer(value.as_int());
}

bool contains(Runtime& rt, const Value& item, const Value& container) {
  switch (container.type()) {
    case Type::kString:
      if (!item.is_string()) fail("'in <string>' needs a string on its left, got '", type_name(item), "'");
      rt.step(int64_t(container.str().size() / 256));
      return container.str().find(item.str()) != std::string::npos;
    case Type::kDict:
      return container.dict().find(rt, item) != nullptr;
    default:
      break;
  }
  if (const auto* view = custom_as<DictView>(container); view && view->part == DictView::Part::kKeys)
    return view->dict.dict().find(rt, item) != nullptr;
  if (const auto* range = custom_as<Range>(container)) {
    if (!item.is_number()) return false;
    if (item.is_integral() && range->count() > 0) {
      const int64_t at = item.as_int();
      const bool inside =
          range->step > 0 ? at >= range->start && at < range->stop : at <= range->start && at > range->stop;
      return inside && floor_mod(int64_t(uint64_t(at) - uint64_t(range->start)), range->step) == 0;
    }
  }
  const auto iterator = try_iterate(rt, container);
  if (!iterator) fail("'in' cannot look into a value of type '", type_name(container), "'");
  for (Value element; iterator->next(rt, element);)
    if (same(element, item) || equal(rt, element, item)) return true;
  return false;
}

std::string object_name(const Value& value) {
  std::string name = "'";
  name += value.is_none() ? "None" : type_name(value) + " object";
  name += '\'';
  return name;
}

namespace {

Value make_builtin(Runtime& rt, const std::string& name, const Value& self, Function function) {
  auto builtin = std::make_shared<Builtin>();
  builtin->name = name;
  builtin->self = self;
  builtin->function = function;
  builtin->depth = self.depth();
  return rt.object(std::move(builtin));
}

Value forbidden(const Value& object, const std::string& name) {
  return Value::undefined("access to attribute '" + name + "' of '" + type_name(object) +
                          "' object is unsafe");
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Value missing_attribute(const Value& object, const std::string& name) {
  return Value::undefined(object_name(object) + " has no attribute '" + name + "'");
}

Value index_sequence(Runtime& rt, const Value& object, int64_t index) {
  const int64_t length = length_of(rt, object);
  const int64_t at = index < 0 ? index + length : index;
  if (at < 0 || at >= length)
    return Value::undefined(object_name(object) + " has no element " + std::to_string(index));
  if (object.is_sequence()) return object.items()[size_t(at)];
  if (const auto* range = custom_as<Range>(object)) return Value::integer(range->start + at * range->step);
  if (is_ascii(object)) return Value::text(std::string(1, object.str()[size_t(at)]), object.is_safe());
  rt.step(at / 256);
  size_t offset = 0;
  for (int64_t i = 0; i < at; ++i) next_code_point(object.str(), offset);
  const size_t start = offset;
  next_code_point(object.str(), offset);
  return rt.text(object.str().substr(start, offset - start), object.is_safe());
}

}  // namespace

namespace {

std::optional<Value> number_attribute(const Value& number, std::string_view name) {
  const bool real = number.is(Type::kFloat);
  if (name == "real" || (name == "numerator" && !real)) return positive(number);
  if (name == "imag") return real ? Value::real(0) : Value::integer(0);
  if (name == "denominator" && !real) return Value::integer(1);
  return std::nullopt;
}

}  // namespace

std::optional<Value> python_attribute(Runtime& rt, const Value& object, const std::string& name) {
  Function function = nullptr;
  switch (object.type()) {
    case Type::kUndefined:
      fail(object.undefined_message());
    case Type::kString:
      function = find_string_method(name);
      if (!function) function = find_format_method(name);
      break;
    case Type::kDict:
      if (is_one_of(name, {"clear", "pop", "popitem", "setdefault", "update"}))
        return forbidden(object, name);
      function = find_dict_method(name);
      break;
    case Type::kList:
      if (is_one_of(name, {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"}))
        return forbidden(object, name);
      function = find_list_method(name, false);
      break;
    case Type::kTuple:
      if (dynamic_cast<const GroupTuple*>(object.ref().get())) {
        if (name == "grouper") return object.items()[0];
        if (name == "list") return object.items()[1];
      }
      function = find_list_method(name, true);
      break;
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      return number_attribute(object, name);
    case Type::kObject:
      if (!custom_as<Range>(object) || (name != "count" && name != "index"))
        return custom(object)->attribute(rt, name);
      function = find_list_method(name, true);
      break;
    default:
      break;
  }
  if (!function) return std::nullopt;
  return make_builtin(rt, name, object, function);
}

Value get_attribute(Runtime& rt, const Value& object, const std::string& name) {
  if (auto found = python_attribute(rt, object, name)) return std::move(*found);
  if (object.is_dict())
    if (const Value* item = object.dict().find(name)) return *item;
  return missing_attribute(object, name);
}

Value get_item(Runtime& rt, const Value& object, const Value& key) {
  if (object.is_undefined()) fail(object.undefined_message());
  if (object.is_dict()) {
    const bool hashable = !key.is_dict() && !key.is(Type::kList);
    if (const Value* item = hashable ? object.dict().find(rt, key) : nullptr) return *item;
  } else if (key.is_integral() && (object.is_string() || object.is_sequence() || custom_as<Range>(object))) {
    return index_sequence(rt, object, key.as_int());
  }
  if (!key.is_string()) return Value::undefined(object_name(object) + " has no element " + to_repr(rt, key));
  if (auto found = python_attribute(rt, object, key.str())) return std::move(*found);
  return missing_attribute(object, key.str());
}

namespace {

struct SliceRange {
  int64_t start, stop, step, count;
};

SliceRange resolve_slice(int64_t length, const Value& start, const Value& stop, const Value& step) {
  const auto number = [](const Value& value) {
    if (value.is_undefined()) fail(value.undefined_message());
    if (!value.is_integral()) fail("slice indices must be integers, got '", type_name(value), "'");
    return value.as_int();
  };
  const int64_t by = step.is_none() ? 1 : number(step);
  if (by == 0) fail("a slice's step cannot be zero");
  const auto clamp = [&](const Value& value, int64_t otherwise) {
    if (value.is_none()) return otherwise;
    int64_t at = number(value);
    if (at < 0)
      at = at < -length ? -1 : at + length;
    else if (at > length)
      at = length;
    if (at < 0) return by < 0 ? int64_t(-1) : int64_t(0);
    return at >= length ? (by < 0 ? length - 1 : length) : at;
  };
  const int64_t first = clamp(start, by < 0 ? length - 1 : 0);
  const int64_t last = clamp(stop, by < 0 ? -1 : length);
  Range range;
  range.start = first;
  range.stop = last;
  range.step = by;
  return {first, last, by, range.count()};
}

}  // namespace

Value get_slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) fail(object.undefined_message());
  const auto* range = custom_as<Range>(object);
  if (!object.is_string() && !object.is_sequence() && !range)
    fail("a value of type '", type_name(object), "' cannot be sliced");
  const SliceRange part = resolve_slice(length_of(rt, object), start, stop, step);
  if (range) {
    auto sliced = std::make_shared<Range>();
    const auto limit = [](int64_t a, int64_t b, int64_t c) {
      int64_t product = 0, sum = 0;
      if (__builtin_mul_overflow(b, c, &product) || __builtin_add_overflow(a, product, &sum)) fail_overflow();
      return sum;
    };
    sliced->start = limit(range->start, part.start, range->step);
    sliced->step = limit(0, part.step, range->step);
    sliced->stop = limit(range->start, part.stop, range->step);
    return rt.object(std::move(sliced));
  }
  rt.step(part.count / 64);
  if (object.is_string()) {
    const bool ascii = is_ascii(object);
    if (ascii && part.step == 1)
      return rt.text(object.str().substr(size_t(part.start), size_t(part.count)), object.is_safe());
    const std::u32string text = decode_utf8(object.str());
    std::u32string out;
    for (int64_t i = 0; i < part.count; ++i) out += text[size_t(part.start + i * part.step)];
    return rt.text(encode_utf8(out), object.is_safe());
  }
  std::vector<Value> items;
  rt.charge(part.count * int64_t(sizeof(Value)));
  for (int64_t i = 0; i < part.count; ++i)
    items.push_back(object.items()[size_t(part.start + i * part.step)]);
  return object.is(Type::kList) ? rt.list(std::move(items)) : rt.tuple(std::move(items));
}

Value call_value(Runtime& rt, const Value& callee, Args& args) {
  if (callee.is_undefined()) fail(callee.undefined_message());
  if (!is_callable(callee)) fail("'", type_name(callee), "' object is not callable");
  rt.step();
  return custom(callee)->call(rt, args);
}

Value apply_filter(Runtime& rt, const std::string& name, const Value& input, Args& args) {
  const Function function = find_filter(name);
  if (!function) fail("there is no filter named '", name, "'");
  rt.step();
  return function(rt, input, args);
}

bool apply_test(Runtime& rt, const std::string& name, const Value& input, Args& args) {
  const Function function = find_test(name);
  if (!function) fail("there is no test named '", name, "'");
  rt.step();
  return truth(function(rt, input, args));
}

}  // namespace dw::jinja
