// The methods of dict, list and tuple that do not change them, and the global functions.
#include <algorithm>
#include <ctime>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"

namespace dw::jinja {
namespace {

Value view(Runtime& rt, const Value& self, Args& args, DictView::Part part) {
  const Bound bound(rt, "this method", args, {});
  auto object = std::make_shared<DictView>();
  object->dict = self;
  object->part = part;
  object->depth = self.depth();
  return rt.object(std::move(object));
}
Value dict_get(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "get", args, {"-key", "-default"}, 1);
  if (const Value* found = self.dict().find(rt, bound[0])) return *found;
  return bound.has(1) ? bound[1] : Value::none();
}
Value copy(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "copy", args, {});
  if (!self.is_dict()) return rt.list(to_vector(rt, self));
  auto dict = std::make_shared<DictObject>();
  for (const auto& [key, value] : self.dict().entries) dict->set(rt, key, value);
  return rt.dict(std::move(dict));
}

Value list_count(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "count", args, {"-value"}, 1);
  int64_t found = 0;
  for (const Value& item : self.items()) found += same(item, bound[0]) || equal(rt, item, bound[0]);
  return Value::integer(found);
}
Value list_index(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "index", args, {"-value", "-start", "-stop"}, 1);
  const int64_t length = int64_t(self.items().size());
  const auto clamp = [&](int64_t at) {
    return std::min(at < 0 ? std::max<int64_t>(at + length, 0) : at, length);
  };
  const int64_t stop = clamp(bound.integer(2, length));
  for (int64_t i = clamp(bound.integer(1, 0)); i < stop; ++i)
    if (same(self.items()[size_t(i)], bound[0]) || equal(rt, self.items()[size_t(i)], bound[0]))
      return Value::integer(i);
  fail("the value is not in the ", type_name(self));
}

// dict(mapping or pairs, **named).
std::shared_ptr<DictObject> build_dict(Runtime& rt, Args& args, std::string_view function) {
  if (args.positional.size() > 1) fail("'", function, "' takes at most one positional argument");
  auto dict = std::make_shared<DictObject>();
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is_dict()) {
      for (const auto& [key, value] : source.dict().entries) dict->set(rt, key, value);
    } else {
      const auto iterator = iterate(rt, source);
      for (Value item; iterator->next(rt, item);) {
        const std::vector<Value> pair = to_vector(rt, item);
        if (pair.size() != 2) fail("'", function, "' needs pairs of a key and a value");
        dict->set(rt, pair[0], pair[1]);
      }
    }
  }
  for (auto& [name, value] : args.named) dict->set(rt, Value::text(name), std::move(value));
  return dict;
}

Value global_dict(Runtime& rt, const Value&, Args& args) {
  return rt.dict(build_dict(rt, args, "dict"));
}
Value global_namespace(Runtime& rt, const Value&, Args& args) {
  auto object = std::make_shared<Namespace>();
  object->attributes = build_dict(rt, args, "namespace");
  for (const auto& [key, value] : object->attributes->entries)
    if (key.is_string() && key.str().starts_with('_'))
      fail("a namespace cannot hold the name '", key.str(), "'");
  rt.keep(object);
  return rt.object(std::move(object));
}

Value global_range(Runtime& rt, const Value&, Args& args) {
  constexpr int64_t kMaxRange = 100000;  // as in Jinja2's sandbox
  const Bound bound(rt, "range", args, {"-start", "-stop", "-step"}, 1);
  auto range = std::make_shared<Range>();
  range->start = bound.has(1) ? bound.integer(0, 0) : 0;
  range->stop = bound.integer(bound.has(1) ? 1 : 0, 0);
  range->step = bound.integer(2, 1);
  if (range->step == 0) fail("range's step cannot be zero");
  const int64_t count = range->count();
  if (count < 0 || count > kMaxRange) fail("a range longer than ", kMaxRange, " is not allowed");
  return rt.object(std::move(range));
}

struct Cycler : CustomObject, std::enable_shared_from_this<Cycler> {
  std::vector<Value> items;
  size_t at = 0;
  std::string_view type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  void clear() override { items.clear(); }
};
Value cycler_next(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "next", args, {});
  auto& cycler = *custom_as<Cycler>(self);
  const Value current = cycler.items[cycler.at];
  cycler.at = (cycler.at + 1) % cycler.items.size();
  return current;
}
Value cycler_reset(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "reset", args, {});
  custom_as<Cycler>(self)->at = 0;
  return Value::none();
}
std::optional<Value> Cycler::attribute(Runtime& rt, std::string_view name) {
  if (name == "current") return items[at];
  if (name != "next" && name != "reset") return std::nullopt;
  auto method = std::make_shared<Builtin>();
  method->name = name;
  method->self = Value::of(Type::kObject, shared_from_this());
  method->function = name == "next" ? cycler_next : cycler_reset;
  return rt.object(std::move(method));
}
Value global_cycler(Runtime& rt, const Value&, Args& args) {
  if (args.positional.empty() || !args.named.empty()) fail("'cycler' needs at least one item");
  auto cycler = std::make_shared<Cycler>();
  cycler->items = std::move(args.positional);
  rt.keep(cycler);
  return rt.object(std::move(cycler));
}

struct Joiner : CustomObject {
  Value separator;
  bool used = false;
  std::string_view type_name() const override { return "Joiner"; }
  bool callable() const override { return true; }
  Value call(Runtime& rt, Args& args) override {
    const Bound bound(rt, "joiner", args, {});
    if (std::exchange(used, true)) return separator;
    return Value::text("");
  }
};
Value global_joiner(Runtime& rt, const Value&, Args& args) {
  const Bound bound(rt, "joiner", args, {"sep"});
  auto joiner = std::make_shared<Joiner>();
  joiner->separator = bound.has(0) ? bound[0] : Value::text(", ");
  joiner->depth = joiner->separator.depth();
  return rt.object(std::move(joiner));
}

Value global_raise_exception(Runtime& rt, const Value&, Args& args) {
  const Bound bound(rt, "raise_exception", args, {"message"}, 1);
  fail(to_str(rt, bound[0]));
}

Value global_strftime_now(Runtime& rt, const Value&, Args& args) {
  const Bound bound(rt, "strftime_now", args, {"format"}, 1);
  std::string format = bound.str(0);
  for (size_t at = 0; (at = format.find('%', at)) != std::string::npos; at += 2)
    if (format.compare(at, 2, "%f") == 0) format.replace(at, 2, "000000");
  if (format.empty()) return Value::text("");
  std::tm now{};
  if (rt.clock) {
    now = rt.clock();
  } else {
    const std::time_t seconds = std::time(nullptr);
    localtime_r(&seconds, &now);
  }
  char buffer[1024];
  const size_t length = std::strftime(buffer, sizeof buffer, format.c_str(), &now);
  if (length == 0 && format != "%p") fail("strftime_now cannot print with this format");
  return rt.text(std::string(buffer, length));
}

}  // namespace

Function find_dict_method(std::string_view name) {
  static constexpr FunctionRow kRows[] = {
      {"get", dict_get},
      {"copy", copy},
      {"items", [](Runtime& rt, const Value& s, Args& a) { return view(rt, s, a, DictView::Part::kItems); }},
      {"keys", [](Runtime& rt, const Value& s, Args& a) { return view(rt, s, a, DictView::Part::kKeys); }},
      {"values",
       [](Runtime& rt, const Value& s, Args& a) { return view(rt, s, a, DictView::Part::kValues); }},
  };
  return find_row(kRows, name);
}

Function find_list_method(std::string_view name, bool tuple) {
  if (name == "count") return list_count;
  if (name == "index") return list_index;
  return name == "copy" && !tuple ? copy : nullptr;
}

Function find_global(std::string_view name) {
  static constexpr FunctionRow kRows[] = {
      {"range", global_range},
      {"dict", global_dict},
      {"namespace", global_namespace},
      {"cycler", global_cycler},
      {"joiner", global_joiner},
      {"raise_exception", global_raise_exception},
      {"strftime_now", global_strftime_now},
  };
  return find_row(kRows, name);
}

}  // namespace dw::jinja
