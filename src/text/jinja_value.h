// The values of the template language: Python's None, bool, int (64 bit), float, str, list, tuple and dict,
// and objects (functions, iterators, namespaces). Values are immutable except namespaces, loops and
// iterators, as in Jinja2's ImmutableSandboxedEnvironment. Failures are thrown as TemplateError inside this
// room and caught by jinja::Template::render; they never leave it.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/expected.h"

namespace dw::jinja {

struct TemplateError {
  std::string message;
  int line = 0;  // 0: not known yet, the interpreter fills it in
};
template <class... Pieces>
[[noreturn]] void fail(const Pieces&... pieces) {
  throw TemplateError{make_error(pieces...).message, 0};
}

// What one rendering may use; a template that asks for more ends with an error.
struct Limits {
  int64_t steps = 10'000'000;           // expressions, statements and elements touched
  int64_t output_bytes = 64ll << 20;    // also the size of the largest string
  int64_t memory_bytes = 1024ll << 20;  // all values ever built
  int call_depth = 200;                 // macros and recursive loops
  int eval_depth = 2000;                // nested evaluations
};

enum class Type : uint8_t { kUndefined, kNone, kBool, kInt, kFloat, kString, kList, kTuple, kDict, kObject };

// Base of everything that a Value refers to. `depth` bounds recursion over (and destruction of) nested
// values.
struct Object {
  virtual ~Object() = default;
  int depth = 0;
};
using ObjectRef = std::shared_ptr<Object>;

struct StringObject;
struct ListObject;
struct DictObject;
struct CustomObject;

class Value {
 public:
  Value() = default;  // undefined
  static Value none() { return Value(Type::kNone); }
  static Value boolean(bool b) {
    Value value(Type::kBool);
    value.int_ = b;
    return value;
  }
  static Value integer(int64_t i) {
    Value value(Type::kInt);
    value.int_ = i;
    return value;
  }
  static Value real(double d) {
    Value value(Type::kFloat);
    value.float_ = d;
    return value;
  }
  // Not charged to a budget: for constants and small results; see Runtime::text.
  static Value text(std::string utf8, bool safe = false);
  static Value undefined(std::string message);
  static Value of(Type type, ObjectRef ref) {
    Value value(type);
    value.ref_ = std::move(ref);
    return value;
  }

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_undefined() const { return type_ == Type::kUndefined; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_string() const { return type_ == Type::kString; }
  bool is_dict() const { return type_ == Type::kDict; }
  bool is_sequence() const { return type_ == Type::kList || type_ == Type::kTuple; }
  bool is_integral() const { return type_ == Type::kInt || type_ == Type::kBool; }
  bool is_number() const { return is_integral() || type_ == Type::kFloat; }

  bool as_bool() const { return int_ != 0; }
  int64_t as_int() const { return int_; }  // of kInt and kBool
  double as_float() const { return type_ == Type::kFloat ? float_ : double(int_); }
  const std::string& str() const;           // UTF-8 of a kString
  bool is_safe() const;                     // a string marked by `safe` or `escape`
  const std::vector<Value>& items() const;  // of kList and kTuple
  const DictObject& dict() const;
  std::string undefined_message() const;
  const ObjectRef& ref() const { return ref_; }
  int depth() const { return ref_ ? ref_->depth : 0; }

 private:
  explicit Value(Type type) : type_(type) {}
  Type type_ = Type::kUndefined;
  union {
    int64_t int_ = 0;
    double float_;
  };
  ObjectRef ref_;
};

struct StringObject : Object {
  std::string text;
  bool safe = false;
  mutable int64_t length = -1;  // code points; -1: not counted yet
};
struct UndefinedObject : Object {
  std::string message;
};
struct ListObject : Object {
  std::vector<Value> items;
};

using Kwargs = std::vector<std::pair<std::string, Value>>;
struct Args {
  std::vector<Value> positional;
  Kwargs named;
};

class Runtime;

// Pull iterator: next() stores the next element and returns true, or returns false at the end.
struct Iterator : Object {
  virtual bool next(Runtime& rt, Value& out) = 0;
};

// An object with behaviour of its own.
struct CustomObject : Object {
  virtual std::string_view type_name() const = 0;
  virtual std::string repr(Runtime& rt) const;
  virtual bool truth() const { return true; }
  virtual bool callable() const { return false; }
  virtual Value call(Runtime& rt, Args& args);
  virtual std::optional<Value> attribute(Runtime&, std::string_view) { return std::nullopt; }
  virtual std::optional<int64_t> length(Runtime&) { return std::nullopt; }
  virtual std::shared_ptr<Iterator> iterate(Runtime&) { return nullptr; }  // null: not iterable
  virtual bool equals(Runtime&, const CustomObject& other) const { return this == &other; }
  virtual void clear() {}  // drops references, so that cycles end with the rendering
};

// Insertion-ordered mapping; keys compare as in Python (1 == 1.0 == true).
struct DictObject : Object {
  std::vector<std::pair<Value, Value>> entries;
  std::unordered_multimap<size_t, size_t> index;  // hash -> entry; only past a few entries

  const Value* find(Runtime& rt, const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Runtime& rt, Value key, Value value);

 private:
  int64_t position(Runtime& rt, const Value& key, size_t hash) const;
};

// A function made of C++ code, bound to a receiver when it is a method.
struct Builtin : CustomObject {
  using Function = Value (*)(Runtime& rt, const Value& self, Args& args);
  std::string name;
  Value self;
  Function function = nullptr;
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  Value call(Runtime& rt, Args& args) override { return function(rt, self, args); }
};

struct Range : CustomObject {
  int64_t start = 0, stop = 0, step = 1;
  int64_t count() const;
  std::string_view type_name() const override { return "range"; }
  std::string repr(Runtime& rt) const override;
  bool truth() const override { return count() > 0; }
  std::optional<int64_t> length(Runtime&) override { return count(); }
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  std::shared_ptr<Iterator> iterate(Runtime& rt) override;
  bool equals(Runtime& rt, const CustomObject& other) const override;
};

// dict.keys(), dict.values(), dict.items().
struct DictView : CustomObject {
  enum class Part { kKeys, kValues, kItems };
  Value dict;
  Part part = Part::kKeys;
  std::string_view type_name() const override;
  std::string repr(Runtime& rt) const override;
  bool truth() const override { return !dict.dict().entries.empty(); }
  std::optional<int64_t> length(Runtime&) override { return int64_t(dict.dict().entries.size()); }
  std::shared_ptr<Iterator> iterate(Runtime& rt) override;
  bool equals(Runtime& rt, const CustomObject& other) const override;
};

struct Namespace : CustomObject {
  std::shared_ptr<DictObject> attributes = std::make_shared<DictObject>();
  mutable bool printing = false;
  std::string_view type_name() const override { return "Namespace"; }
  std::string repr(Runtime& rt) const override;
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  void clear() override { attributes = std::make_shared<DictObject>(); }
};

// A one-shot lazy sequence: what map, select and friends return.
struct Generator : CustomObject {
  std::shared_ptr<Iterator> source;
  std::string_view type_name() const override { return "generator"; }
  std::shared_ptr<Iterator> iterate(Runtime&) override { return source; }
};

// State of one rendering: what it may still use, where it is, what it keeps alive.
class Runtime {
 public:
  using Clock = std::function<std::tm()>;  // local time, for strftime_now
  explicit Runtime(const Limits& allowed)
      : limits(allowed), steps_left_(allowed.steps), bytes_left_(allowed.memory_bytes) {}
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime();

  void step(int64_t count = 1) {
    steps_left_ -= count;
    if (steps_left_ < 0) fail_steps();
  }
  void charge(int64_t bytes);        // before building a value of this size
  void check_length(int64_t bytes);  // of one string
  Value text(std::string utf8, bool safe = false);
  Value list(std::vector<Value> items) { return sequence(Type::kList, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(Type::kTuple, std::move(items)); }
  Value dict(std::shared_ptr<DictObject> dict);
  Value object(std::shared_ptr<CustomObject> object);
  Value generator(std::shared_ptr<Iterator> source, int source_depth);
  // Keeps an object that may become part of a cycle until the rendering ends.
  void keep(std::shared_ptr<CustomObject> object) { kept_.push_back(std::move(object)); }

  const Limits limits;
  int line = 1;
  int depth = 0;
  const char* stack_start = nullptr;
  Clock clock;

 private:
  [[noreturn]] void fail_steps() const;
  Value sequence(Type type, std::vector<Value> items);
  int64_t steps_left_;
  int64_t bytes_left_;
  std::vector<std::shared_ptr<CustomObject>> kept_;
};

// Guards one level of recursion over the program stack and the evaluation depth.
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& rt);
  ~DepthGuard() { --rt_.depth; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Runtime& rt_;
};

std::string type_name(const Value& value);
bool truth(const Value& value);
bool equal(Runtime& rt, const Value& a, const Value& b);
bool less(Runtime& rt, const Value& a, const Value& b);  // fails on types that have no order
bool less_or_equal(Runtime& rt, const Value& a, const Value& b);
bool same(const Value& a, const Value& b);            // Python's `is`
size_t hash(Runtime& rt, const Value& value);         // fails on lists, dicts
std::string to_str(Runtime& rt, const Value& value);  // Python's str()
std::string to_repr(Runtime& rt, const Value& value);
int64_t length_of(Runtime& rt, const Value& value);  // Python's len(), fails without a length
int64_t string_length(const Value& value);           // code points
bool is_ascii(const Value& value);
std::shared_ptr<Iterator> iterate(Runtime& rt, const Value& value);      // fails when not iterable
std::shared_ptr<Iterator> try_iterate(Runtime& rt, const Value& value);  // null when not iterable
std::vector<Value> to_vector(Runtime& rt, const Value& value);
CustomObject* custom(const Value& value);  // null when not a kObject
template <class T>
T* custom_as(const Value& value) {
  return dynamic_cast<T*>(custom(value));
}
bool is_callable(const Value& value);
// Python's sorted(): stable; `key(i)` was computed before.
std::vector<size_t> sorted_order(Runtime& rt, const std::vector<Value>& keys, bool reverse);

}  // namespace dw::jinja
