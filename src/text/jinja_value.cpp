#include "text/jinja_value.h"

#include <algorithm>
#include <cmath>

#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

constexpr int kMaxNesting = 200;             // of lists, dicts and lazy sequences inside each other
constexpr size_t kIndexedDict = 8;           // dicts past this size get a hash index
constexpr int64_t kMaxStackBytes = 2 << 20;  // of the program stack, below what any thread has

int checked_depth(int inner) {
  if (inner >= kMaxNesting) fail("a value is nested more than ", kMaxNesting, " levels deep");
  return inner + 1;
}

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

struct SequenceIterator : Iterator {
  Value source;
  size_t at = 0;
  bool next(Runtime& rt, Value& out) override {
    if (at >= source.items().size()) return false;
    rt.step();
    out = source.items()[at++];
    return true;
  }
};

struct StringIterator : Iterator {
  Value source;
  size_t at = 0;
  bool next(Runtime& rt, Value& out) override {
    const std::string& text = source.str();
    if (at >= text.size()) return false;
    rt.step();
    const size_t start = at;
    next_code_point(text, at);
    out = rt.text(text.substr(start, at - start), false);
    return true;
  }
};

struct RangeIterator : Iterator {
  int64_t at = 0, step = 1, left = 0;
  bool next(Runtime& rt, Value& out) override {
    if (left <= 0) return false;
    rt.step();
    out = Value::integer(at);
    if (--left > 0) at += step;
    return true;
  }
};

struct DictIterator : Iterator {
  Value dict;
  DictView::Part part = DictView::Part::kKeys;
  size_t at = 0;
  bool next(Runtime& rt, Value& out) override {
    const auto& entries = dict.dict().entries;
    if (at >= entries.size()) return false;
    rt.step();
    const auto& [key, value] = entries[at++];
    if (part == DictView::Part::kItems)
      out = rt.tuple({key, value});
    else
      out = part == DictView::Part::kKeys ? key : value;
    return true;
  }
};

struct EmptyIterator : Iterator {
  bool next(Runtime&, Value&) override { return false; }
};

}  // namespace

Value Value::text(std::string utf8, bool safe) {
  auto object = std::make_shared<StringObject>();
  object->text = std::move(utf8);
  object->safe = safe;
  return of(Type::kString, std::move(object));
}
Value Value::undefined(std::string message) {
  auto object = std::make_shared<UndefinedObject>();
  object->message = std::move(message);
  return of(Type::kUndefined, std::move(object));
}
const std::string& Value::str() const {
  return static_cast<const StringObject&>(*ref_).text;
}
bool Value::is_safe() const {
  return type_ == Type::kString && static_cast<const StringObject&>(*ref_).safe;
}
const std::vector<Value>& Value::items() const {
  return static_cast<const ListObject&>(*ref_).items;
}
const DictObject& Value::dict() const {
  return static_cast<const DictObject&>(*ref_);
}
std::string Value::undefined_message() const {
  return ref_ ? static_cast<const UndefinedObject&>(*ref_).message : "the value is undefined";
}

CustomObject* custom(const Value& value) {
  return value.is(Type::kObject) ? static_cast<CustomObject*>(value.ref().get()) : nullptr;
}

std::string CustomObject::repr(Runtime&) const {
  std::string out(1, '<');
  out += type_name();
  return out += " object>";
}
Value CustomObject::call(Runtime&, Args&) {
  fail("'", type_name(), "' object is not callable");
}

int64_t DictObject::position(Runtime& rt, const Value& key, size_t key_hash) const {
  if (index.empty()) {
    for (size_t i = 0; i < entries.size(); ++i)
      if (equal(rt, entries[i].first, key)) return int64_t(i);
    return -1;
  }
  const auto [first, last] = index.equal_range(key_hash);
  for (auto it = first; it != last; ++it)
    if (equal(rt, entries[it->second].first, key)) return int64_t(it->second);
  return -1;
}
const Value* DictObject::find(Runtime& rt, const Value& key) const {
  const int64_t at = position(rt, key, hash(rt, key));
  return at < 0 ? nullptr : &entries[size_t(at)].second;
}
const Value* DictObject::find(std::string_view key) const {
  if (index.empty()) {
    for (const auto& [name, value] : entries)
      if (name.is_string() && name.str() == key) return &value;
    return nullptr;
  }
  const auto [first, last] = index.equal_range(std::hash<std::string_view>{}(key));
  for (auto it = first; it != last; ++it) {
    const auto& [name, value] = entries[it->second];
    if (name.is_string() && name.str() == key) return &value;
  }
  return nullptr;
}
void DictObject::set(Runtime& rt, Value key, Value value) {
  const size_t key_hash = hash(rt, key);
  depth = std::max(depth, checked_depth(std::max(key.depth(), value.depth())));
  const int64_t at = position(rt, key, key_hash);
  if (at >= 0) {
    entries[size_t(at)].second = std::move(value);
    return;
  }
  rt.charge(2 * sizeof(Value) + 32);
  entries.emplace_back(std::move(key), std::move(value));
  if (!index.empty()) {
    index.emplace(key_hash, entries.size() - 1);
  } else if (entries.size() > kIndexedDict) {
    for (size_t i = 0; i < entries.size(); ++i) index.emplace(hash(rt, entries[i].first), i);
  }
}

int64_t Range::count() const {
  if (step > 0)
    return start < stop ? int64_t((uint64_t(stop) - uint64_t(start) - 1) / uint64_t(step)) + 1 : 0;
  return start > stop ? int64_t((uint64_t(start) - uint64_t(stop) - 1) / (0 - uint64_t(step))) + 1 : 0;
}
std::string Range::repr(Runtime&) const {
  std::string out = "range(" + std::to_string(start) + ", " + std::to_string(stop);
  if (step != 1) out += ", " + std::to_string(step);
  return out + ")";
}
std::optional<Value> Range::attribute(Runtime&, std::string_view name) {
  if (name == "start") return Value::integer(start);
  if (name == "stop") return Value::integer(stop);
  if (name == "step") return Value::integer(step);
  return std::nullopt;
}
std::shared_ptr<Iterator> Range::iterate(Runtime&) {
  auto iterator = std::make_shared<RangeIterator>();
  iterator->at = start;
  iterator->step = step;
  iterator->left = count();
  return iterator;
}
bool Range::equals(Runtime&, const CustomObject& other) const {
  const auto* range = dynamic_cast<const Range*>(&other);
  if (!range || range->count() != count()) return false;
  return count() == 0 || (start == range->start && (count() == 1 || step == range->step));
}

std::string_view DictView::type_name() const {
  return part == Part::kKeys ? "dict_keys" : part == Part::kValues ? "dict_values" : "dict_items";
}
std::string DictView::repr(Runtime& rt) const {
  auto iterator = std::make_shared<DictIterator>();
  iterator->dict = dict;
  iterator->part = part;
  std::vector<Value> items;
  for (Value item; iterator->next(rt, item);) items.push_back(item);
  return std::string(type_name()) + "(" + to_repr(rt, rt.list(std::move(items))) + ")";
}
std::shared_ptr<Iterator> DictView::iterate(Runtime&) {
  auto iterator = std::make_shared<DictIterator>();
  iterator->dict = dict;
  iterator->part = part;
  return iterator;
}
bool DictView::equals(Runtime& rt, const CustomObject& other) const {
  const auto* view = dynamic_cast<const DictView*>(&other);
  if (this == &other) return true;
  if (!view || part == Part::kValues || view->part != part) return false;
  if (part == Part::kItems) return equal_dicts(rt, dict.dict(), view->dict.dict());
  if (dict.dict().entries.size() != view->dict.dict().entries.size()) return false;
  for (const auto& entry : dict.dict().entries)
    if (!view->dict.dict().find(rt, entry.first)) return false;
  return true;
}

std::string Namespace::repr(Runtime& rt) const {
  if (printing) return "<Namespace {...}>";
  printing = true;
  std::string out = "<Namespace ";
  out += to_repr(rt, Value::of(Type::kDict, attributes));
  out += '>';
  printing = false;
  return out;
}
std::optional<Value> Namespace::attribute(Runtime&, std::string_view name) {
  const Value* found = attributes->find(name);
  return found ? std::optional<Value>(*found) : std::nullopt;
}

Runtime::~Runtime() {
  for (const auto& object : kept_) object->clear();
}
void Runtime::fail_steps() const {
  fail("the template does too much work (limit: ", limits.steps, " steps)");
}
void Runtime::charge(int64_t bytes) {
  bytes_left_ -= bytes;
  if (bytes_left_ < 0) fail("the template builds too much data (limit: ", limits.memory_bytes, " bytes)");
}
void Runtime::check_length(int64_t bytes) {
  if (bytes > limits.output_bytes) fail("a text grows past the limit of ", limits.output_bytes, " bytes");
}
Value Runtime::text(std::string utf8, bool safe) {
  check_length(int64_t(utf8.size()));
  charge(int64_t(utf8.size()) + 64);
  return Value::text(std::move(utf8), safe);
}
Value Runtime::sequence(Type type, std::vector<Value> items) {
  charge(int64_t(items.size() * sizeof(Value)) + 64);
  auto object = std::make_shared<ListObject>();
  int inner = 0;
  for (const Value& item : items) inner = std::max(inner, item.depth());
  object->depth = checked_depth(inner);
  object->items = std::move(items);
  return Value::of(type, std::move(object));
}
Value Runtime::dict(std::shared_ptr<DictObject> dict) {
  charge(96);
  dict->depth = std::max(dict->depth, 1);
  return Value::of(Type::kDict, std::move(dict));
}
Value Runtime::object(std::shared_ptr<CustomObject> object) {
  charge(96);
  return Value::of(Type::kObject, std::move(object));
}
Value Runtime::generator(std::shared_ptr<Iterator> source, int source_depth) {
  auto generator = std::make_shared<Generator>();
  generator->depth = checked_depth(source_depth);
  generator->source = std::move(source);
  return object(std::move(generator));
}

DepthGuard::DepthGuard(Runtime& rt) : rt_(rt) {
  const auto* here = static_cast<const char*>(__builtin_frame_address(0));
  if (!rt.stack_start) rt.stack_start = here;
  const int64_t used = rt.stack_start - here;
  if (rt.depth >= rt.limits.eval_depth || used > kMaxStackBytes)
    fail("the template recurses too deeply (a macro that calls itself?)");
  ++rt.depth;
}

std::string type_name(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kObject:
      return std::string(custom(value)->type_name());
  }
  return "?";
}

bool truth(const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
    case Type::kInt:
      return value.as_int() != 0;
    case Type::kFloat:
      return value.as_float() != 0;
    case Type::kString:
      return !value.str().empty();
    case Type::kList:
    case Type::kTuple:
      return !value.items().empty();
    case Type::kDict:
      return !value.dict().entries.empty();
    case Type::kObject:
      return custom(value)->truth();
  }
  return false;
}

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

namespace {

void append_repr(Runtime& rt, const Value& value, std::string& out) {
  rt.step();
  rt.check_length(int64_t(out.size()));
  switch (value.type()) {
    case Type::kUndefined:
      out += "Undefined";
      return;
    case Type::kNone:
      out += "None";
      return;
    case Type::kBool:
      out += value.as_bool() ? "True" : "False";
      return;
    case Type::kInt:
      out += std::to_string(value.as_int());
      return;
    case Type::kFloat:
      out += float_repr(value.as_float());
      return;
    case Type::kString:
      if (value.is_safe()) out += "Markup(";
      out += string_repr(value.str());
      if (value.is_safe()) out += ')';
      return;
    case Type::kObject:
      out += custom(value)->repr(rt);
      return;
    default:
      break;
  }
  const DepthGuard guard(rt);
  const char* separator = "";
  if (value.is_dict()) {
    out += '{';
    for (const auto& [key, item] : value.dict().entries) {
      out += separator;
      append_repr(rt, key, out);
      out += ": ";
      append_repr(rt, item, out);
      separator = ", ";
    }
    out += '}';
    return;
  }
  const bool tuple = value.is(Type::kTuple);
  out += tuple ? '(' : '[';
  for (const Value& item : value.items()) {
    out += separator;
    append_repr(rt, item, out);
    separator = ", ";
  }
  if (tuple && value.items().size() == 1) out += ',';
  out += tuple ? ')' : ']';
}

}  // namespace

std::string to_repr(Runtime& rt, const Value& value) {
  std::string out;
  const DepthGuard guard(rt);
  append_repr(rt, value, out);
  rt.charge(int64_t(out.size()));
  return out;
}
std::string to_str(Runtime& rt, const Value& value) {
  if (value.is_string()) return value.str();
  if (value.is_undefined()) return "";
  return to_repr(rt, value);
}

bool is_ascii(const Value& value) {
  return string_length(value) == int64_t(value.str().size());
}
int64_t string_length(const Value& value) {
  const auto& object = static_cast<const StringObject&>(*value.ref());
  if (object.length < 0) object.length = count_code_points(object.text);
  return object.length;
}

int64_t length_of(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      return string_length(value);
    case Type::kList:
    case Type::kTuple:
      return int64_t(value.items().size());
    case Type::kDict:
      return int64_t(value.dict().entries.size());
    case Type::kObject:
      if (const auto length = custom(value)->length(rt)) return *length;
      [[fallthrough]];
    default:
      fail("object of type '", type_name(value), "' has no length");
  }
}

std::shared_ptr<Iterator> try_iterate(Runtime& rt, const Value& value) {
  switch (value.type()) {
    case Type::kUndefined:
      return std::make_shared<EmptyIterator>();
    case Type::kString: {
      auto iterator = std::make_shared<StringIterator>();
      iterator->source = value;
      return iterator;
    }
    case Type::kList:
    case Type::kTuple: {
      auto iterator = std::make_shared<SequenceIterator>();
      iterator->source = value;
      return iterator;
    }
    case Type::kDict: {
      auto iterator = std::make_shared<DictIterator>();
      iterator->dict = value;
      return iterator;
    }
    case Type::kObject:
      return custom(value)->iterate(rt);
    default:
      return nullptr;
  }
}
std::shared_ptr<Iterator> iterate(Runtime& rt, const Value& value) {
  auto iterator = try_iterate(rt, value);
  if (!iterator) fail("'", type_name(value), "' object is not iterable");
  return iterator;
}
std::vector<Value> to_vector(Runtime& rt, const Value& value) {
  if (value.is_sequence()) {
    rt.step(int64_t(value.items().size()));
    rt.charge(int64_t(value.items().size() * sizeof(Value)));
    return value.items();
  }
  const auto iterator = iterate(rt, value);
  std::vector<Value> items;
  for (Value item; iterator->next(rt, item);) {
    rt.charge(sizeof(Value));
    items.push_back(std::move(item));
  }
  return items;
}

bool is_callable(const Value& value) {
  return value.is(Type::kObject) && custom(value)->callable();
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
