// Equality, order and hashes of values, as Python has them.
#include <algorithm>
#include <cmath>

#include "text/jinja_value.h"

namespace dw::jinja {
namespace {

int compare_int_float(int64_t i, double d) {  // sign of i - d; d is not NaN
  if (d >= 0x1p63) return -1;
  if (d < -0x1p63) return 1;
  const int64_t whole = int64_t(d);
  if (i != whole) return i < whole ? -1 : 1;
  const double rest = d - double(whole);
  return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

bool equal_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
  if (!a.is_integral() && !b.is_integral()) return a.as_float() == b.as_float();
  const Value& integral = a.is_integral() ? a : b;
  const double real = a.is_integral() ? b.as_float() : a.as_float();
  return !std::isnan(real) && compare_int_float(integral.as_int(), real) == 0;
}

bool less_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int();
  if (!a.is_integral() && !b.is_integral()) return a.as_float() < b.as_float();
  if (std::isnan(a.as_float()) || std::isnan(b.as_float())) return false;
  if (a.is_integral()) return compare_int_float(a.as_int(), b.as_float()) < 0;
  return compare_int_float(b.as_int(), a.as_float()) > 0;
}

bool equal_dicts(Runtime& rt, const DictObject& a, const DictObject& b) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = b.find(rt, key);
    if (!other || !(same(value, *other) || equal(rt, value, *other))) return false;
  }
  return true;
}

}  // namespace

bool same(const Value& a, const Value& b) {
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kUndefined:
      return a.ref() == b.ref();
    case Type::kNone:
      return true;
    case Type::kBool:
    case Type::kInt:
      return a.as_int() == b.as_int();
    case Type::kFloat:
      return false;
    case Type::kString:
      return a.ref() == b.ref() || a.str() == b.str();
    default:
      return a.ref() == b.ref();
  }
}

bool equal(Runtime& rt, const Value& a, const Value& b) {
  rt.step();
  if (a.is_number() && b.is_number()) return equal_numbers(a, b);
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kString:
      return a.str() == b.str();
    case Type::kDict:
      return a.ref() == b.ref() || equal_dicts(rt, a.dict(), b.dict());
    case Type::kObject:
      return custom(a)->equals(rt, *custom(b));
    case Type::kList:
    case Type::kTuple: {
      if (a.ref() == b.ref()) return true;
      if (a.items().size() != b.items().size()) return false;
      const DepthGuard guard(rt);
      for (size_t i = 0; i < a.items().size(); ++i)
        if (!same(a.items()[i], b.items()[i]) && !equal(rt, a.items()[i], b.items()[i])) return false;
      return true;
    }
    default:
      return true;
  }
}

bool less(Runtime& rt, const Value& a, const Value& b) {
  rt.step();
  if (a.is_number() && b.is_number()) return less_numbers(a, b);
  if (a.is_undefined()) fail(a.undefined_message());
  if (b.is_undefined()) fail(b.undefined_message());
  if (a.is_string() && b.is_string()) return a.str() < b.str();  // UTF-8 order is code point order
  if (a.is_sequence() && a.type() == b.type()) {
    const DepthGuard guard(rt);
    const size_t shorter = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < shorter; ++i)
      if (!same(a.items()[i], b.items()[i]) && !equal(rt, a.items()[i], b.items()[i]))
        return less(rt, a.items()[i], b.items()[i]);
    return a.items().size() < b.items().size();
  }
  fail("values of type '", type_name(a), "' and '", type_name(b), "' have no order");
}

bool less_or_equal(Runtime& rt, const Value& a, const Value& b) {
  const bool before = less(rt, a, b);
  return before || equal(rt, a, b);  // not "b is not less than a": NaN is neither
}

size_t hash(Runtime& rt, const Value& value) {
  rt.step();
  switch (value.type()) {
    case Type::kString:
      return std::hash<std::string_view>{}(value.str());
    case Type::kBool:
    case Type::kInt:
      return std::hash<int64_t>{}(value.as_int());
    case Type::kFloat: {
      const double d = value.as_float();
      const bool whole = d >= -0x1p63 && d < 0x1p63 && double(int64_t(d)) == d;
      return whole ? std::hash<int64_t>{}(int64_t(d)) : std::hash<double>{}(d);
    }
    case Type::kTuple: {
      size_t combined = 0x345678;
      for (const Value& item : value.items()) combined = combined * 1000003 ^ hash(rt, item);
      return combined;
    }
    case Type::kList:
    case Type::kDict:
      fail("unhashable type: '", type_name(value), "'");
    case Type::kObject:
      return std::hash<const void*>{}(value.ref().get());
    default:
      return size_t(value.type()) + 17;
  }
}

std::vector<size_t> sorted_order(Runtime& rt, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size()), scratch(keys.size());
  for (size_t i = 0; i < keys.size(); ++i) order[i] = i;
  for (size_t width = 1; width < keys.size(); width *= 2) {
    for (size_t low = 0; low < keys.size(); low += 2 * width) {
      const size_t middle = std::min(low + width, keys.size()), high = std::min(low + 2 * width, keys.size());
      size_t left = low, right = middle;
      for (size_t out = low; out < high; ++out) {
        bool take_right = left >= middle;
        if (!take_right && right < high)
          take_right = reverse ? less(rt, keys[order[left]], keys[order[right]])
                               : less(rt, keys[order[right]], keys[order[left]]);
        scratch[out] = take_right ? order[right++] : order[left++];
      }
    }
    order.swap(scratch);
  }
  return order;
}

}  // namespace dw::jinja
