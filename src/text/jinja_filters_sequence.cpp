// Filters over sequences and mappings.
#include <algorithm>
#include <charconv>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"

namespace dw::jinja {
namespace {

// "a.b.0" or an integer: how filters name the part of an item that they look at.
class AttributePath {
 public:
  AttributePath() = default;
  explicit AttributePath(const Value& attribute) {
    if (attribute.is_none()) return;
    if (!attribute.is_string()) {
      parts_.push_back(attribute);
      return;
    }
    const std::string& text = attribute.str();
    for (size_t start = 0; start <= text.size();) {
      const size_t end = std::min(text.find('.', start), text.size());
      const std::string part = text.substr(start, end - start);
      int64_t number = 0;
      const auto parsed = std::from_chars(part.data(), part.data() + part.size(), number);
      const bool numeric = !part.empty() && part[0] != '-' && parsed.ec == std::errc() &&
                           parsed.ptr == part.data() + part.size();
      parts_.push_back(numeric ? Value::integer(number) : Value::text(part));
      start = end + 1;
    }
  }
  Value get(Runtime& rt, Value item, const Value* otherwise = nullptr) const {
    for (const Value& part : parts_) {
      item = get_item(rt, item, part);
      if (otherwise && item.is_undefined()) item = *otherwise;
    }
    return item;
  }

 private:
  std::vector<Value> parts_;
};

Value folded(const Value& value, bool case_sensitive) {
  return value.is_string() && !case_sensitive ? Value::text(lower_utf8(value.str())) : value;
}

struct FunctionIterator : Iterator {
  std::function<bool(Runtime&, Value&)> step;
  bool done = false;
  bool next(Runtime& rt, Value& out) override {
    if (done) return false;
    rt.step();
    const DepthGuard guard(rt);  // lazy sequences of lazy sequences
    done = true;                 // stays so when the step fails
    done = !step(rt, out);
    return !done;
  }
};
Value lazy(Runtime& rt, const Value& self, std::function<bool(Runtime&, Value&)> step) {
  auto iterator = std::make_shared<FunctionIterator>();
  iterator->step = std::move(step);
  return rt.generator(std::move(iterator), self.depth());
}

Value filter_length(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "length", args, {});
  return Value::integer(length_of(rt, self));
}
Value filter_list(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "list", args, {});
  return rt.list(to_vector(rt, self));
}
Value filter_default(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "default", args, {"default_value", "boolean"});
  const bool use = self.is_undefined() || (bound.flag(1, false) && !truth(self));
  if (!use) return self;
  return bound.has(0) ? bound[0] : Value::text("");
}
Value filter_first(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "first", args, {});
  Value item;
  if (iterate(rt, self)->next(rt, item)) return item;
  return Value::undefined("there is no first item, the sequence is empty");
}

bool is_reversible(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict() ||
         custom_as<Range>(value) || custom_as<DictView>(value);
}
Value filter_last(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "last", args, {});
  if (!is_reversible(self)) fail("'last' needs a sequence, got '", type_name(self), "'");
  std::vector<Value> items = to_vector(rt, self);
  return items.empty() ? Value::undefined("there is no last item, the sequence is empty") : items.back();
}
Value filter_reverse(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "reverse", args, {});
  if (self.is_string()) {
    std::u32string text = decode_utf8(self.str());
    std::reverse(text.begin(), text.end());
    return rt.text(encode_utf8(text), self.is_safe());
  }
  std::vector<Value> items = to_vector(rt, self);
  std::reverse(items.begin(), items.end());
  const Value list = rt.list(std::move(items));
  if (!is_reversible(self)) return list;
  return rt.generator(iterate(rt, list), self.depth());
}

Value filter_join(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "join", args, {"d", "attribute"});
  const std::string separator = bound.has(0) ? to_str(rt, bound[0]) : "";
  const AttributePath path = bound.has_value(1) ? AttributePath(bound[1]) : AttributePath();
  const auto iterator = iterate(rt, self);
  std::string out;
  bool first = true;
  for (Value item; iterator->next(rt, item); first = false) {
    if (!first) out += separator;
    out += to_str(rt, path.get(rt, item));
    rt.check_length(int64_t(out.size()));
  }
  return rt.text(std::move(out));
}

Value filter_items(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "items", args, {});
  // A lazy sequence in Jinja2 too: the complaint comes when it is read.
  return lazy(rt, self, [self, iterator = std::shared_ptr<Iterator>()](Runtime& run, Value& out) mutable {
    if (!iterator) {
      if (self.is_undefined()) return false;
      if (!self.is_dict()) fail("'items' needs a mapping, got '", type_name(self), "'");
      DictView view;
      view.dict = self;
      view.part = DictView::Part::kItems;
      iterator = view.iterate(run);
    }
    return iterator->next(run, out);
  });
}

Value filter_dictsort(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.str(1) : "key";
  if (by != "key" && by != "value") fail("'dictsort' sorts by 'key' or 'value'");
  if (self.is_undefined()) fail(self.undefined_message());
  if (!self.is_dict()) fail("'dictsort' needs a mapping, got '", type_name(self), "'");
  const auto& entries = self.dict().entries;
  std::vector<Value> keys, items;
  for (const auto& [key, value] : entries)
    keys.push_back(folded(by == "key" ? key : value, bound.flag(0, false)));
  for (size_t i : sorted_order(rt, keys, bound.flag(2, false)))
    items.push_back(rt.tuple({entries[i].first, entries[i].second}));
  return rt.list(std::move(items));
}

Value filter_sort(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "sort", args, {"reverse", "case_sensitive", "attribute"});
  std::vector<AttributePath> paths;
  if (bound.has_value(2) && bound[2].is_string()) {
    const std::string& text = bound.str(2);
    for (size_t start = 0; start <= text.size();) {
      const size_t end = std::min(text.find(',', start), text.size());
      paths.emplace_back(Value::text(text.substr(start, end - start)));
      start = end + 1;
    }
  } else {
    paths.emplace_back(bound.has(2) ? bound[2] : Value::none());
  }
  const std::vector<Value> items = to_vector(rt, self);
  std::vector<Value> keys, sorted;
  for (const Value& item : items) {
    std::vector<Value> parts;
    for (const AttributePath& path : paths) parts.push_back(folded(path.get(rt, item), bound.flag(1, false)));
    keys.push_back(rt.list(std::move(parts)));
  }
  for (size_t i : sorted_order(rt, keys, bound.flag(0, false))) sorted.push_back(items[i]);
  return rt.list(std::move(sorted));
}

Value filter_unique(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "unique", args, {"case_sensitive", "attribute"});
  const AttributePath path = bound.has(1) ? AttributePath(bound[1]) : AttributePath();
  auto seen = std::make_shared<DictObject>();
  return lazy(
      rt, self,
      [source = iterate(rt, self), path, seen, sensitive = bound.flag(0, false)](Runtime& run, Value& out) {
        while (source->next(run, out)) {
          const Value key = folded(path.get(run, out), sensitive);
          if (seen->find(run, key)) continue;
          seen->set(run, key, Value::none());
          return true;
        }
        return false;
      });
}

Value extreme(Runtime& rt, const Value& self, Args& args, bool want_max) {
  const Bound bound(rt, want_max ? "max" : "min", args, {"case_sensitive", "attribute"});
  const AttributePath path = bound.has(1) ? AttributePath(bound[1]) : AttributePath();
  const auto iterator = iterate(rt, self);
  Value item, best, best_key;
  if (!iterator->next(rt, best)) return Value::undefined("there is no item to choose, the sequence is empty");
  best_key = folded(path.get(rt, best), bound.flag(0, false));
  while (iterator->next(rt, item)) {
    const Value key = folded(path.get(rt, item), bound.flag(0, false));
    if (!(want_max ? less(rt, best_key, key) : less(rt, key, best_key))) continue;
    best = item;
    best_key = key;
  }
  return best;
}

Value filter_sum(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "sum", args, {"attribute", "start"});
  const AttributePath path = bound.has_value(0) ? AttributePath(bound[0]) : AttributePath();
  Value total = bound.has(1) ? bound[1] : Value::integer(0);
  if (total.is_string()) fail("'sum' does not add strings; use 'join'");
  const auto iterator = iterate(rt, self);
  for (Value item; iterator->next(rt, item);)
    total = apply_binary(rt, Operation::kAdd, total, path.get(rt, item));
  return total;
}

Value filter_map(Runtime& rt, const Value& self, Args& args) {
  auto shared = std::make_shared<Args>(std::move(args));
  auto source = [self, at = std::shared_ptr<Iterator>()](Runtime& run, Value& out) mutable {
    if (!at) {
      if (!truth(self)) return false;
      at = iterate(run, self);
    }
    return at->next(run, out);
  };
  return lazy(rt, self,
              [source, shared, checked = false, by_attribute = false, path = AttributePath(),
               otherwise = Value::none()](Runtime& run, Value& out) mutable {
                if (!source(run, out)) return false;
                if (!checked) {
                  checked = true;
                  by_attribute = shared->positional.empty() &&
                                 std::any_of(shared->named.begin(), shared->named.end(),
                                             [](const auto& named) { return named.first == "attribute"; });
                  if (by_attribute) {
                    const Bound bound(run, "map", *shared, {"attribute", "default"});
                    path = AttributePath(bound[0]);
                    if (bound.has(1)) otherwise = bound[1];
                  } else if (shared->positional.empty() || !shared->positional[0].is_string()) {
                    fail("'map' needs the name of a filter or attribute=...");
                  }
                }
                if (by_attribute) {
                  out = path.get(run, out, otherwise.is_none() ? nullptr : &otherwise);
                  return true;
                }
                Args inner;
                inner.positional.assign(shared->positional.begin() + 1, shared->positional.end());
                inner.named = shared->named;
                out = apply_filter(run, shared->positional[0].str(), out, inner);
                return true;
              });
}

Value select_or_reject(Runtime& rt, const Value& self, Args& args, bool keep, bool by_attribute) {
  auto shared = std::make_shared<Args>(std::move(args));
  return lazy(
      rt, self,
      [self, shared, keep, by_attribute, at = std::shared_ptr<Iterator>()](Runtime& run, Value& out) mutable {
        const size_t name_at = by_attribute ? 1 : 0;
        if (!at) {
          if (!truth(self)) return false;
          if (by_attribute && shared->positional.empty()) fail("this filter needs the name of an attribute");
          at = iterate(run, self);
        }
        while (at->next(run, out)) {
          const Value subject = by_attribute ? AttributePath(shared->positional[0]).get(run, out) : out;
          bool passes = false;
          if (shared->positional.size() > name_at) {
            if (!shared->positional[name_at].is_string()) fail("the name of a test must be a string");
            Args inner;
            inner.positional.assign(shared->positional.begin() + int64_t(name_at) + 1,
                                    shared->positional.end());
            inner.named = shared->named;
            passes = apply_test(run, shared->positional[name_at].str(), subject, inner);
          } else {
            passes = truth(subject);
          }
          if (passes == keep) return true;
        }
        return false;
      });
}

Value filter_groupby(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path(bound[0]);
  const Value* otherwise = bound.has_value(1) ? &bound[1] : nullptr;
  const bool sensitive = bound.flag(2, false);
  const std::vector<Value> items = to_vector(rt, self);
  std::vector<Value> keys, groups, members;
  for (const Value& item : items) keys.push_back(folded(path.get(rt, item, otherwise), sensitive));
  const std::vector<size_t> order = sorted_order(rt, keys, false);
  for (size_t i = 0; i < order.size(); ++i) {
    members.push_back(items[order[i]]);
    if (i + 1 < order.size() && equal(rt, keys[order[i]], keys[order[i + 1]])) continue;
    const Value key = path.get(rt, members.front(), otherwise);
    auto group = std::make_shared<GroupTuple>();
    const Value list = rt.list(std::exchange(members, {}));
    group->depth = std::max(key.depth(), list.depth()) + 1;
    group->items = {key, list};
    groups.push_back(Value::of(Type::kTuple, std::move(group)));
  }
  return rt.list(std::move(groups));
}

Value filter_batch(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  const Value fill = bound.has(1) ? bound[1] : Value::none();
  auto source = iterate(rt, self);
  return lazy(
      rt, self,
      [source, size, fill, pending = std::vector<Value>(), ended = false](Runtime& run, Value& out) mutable {
        std::vector<Value> row = std::exchange(pending, {});
        for (Value item; !ended && source->next(run, item);) {
          if (int64_t(row.size()) == size) {
            pending.push_back(std::move(item));
            out = run.list(std::move(row));
            return true;
          }
          row.push_back(std::move(item));
        }
        ended = true;
        if (row.empty()) return false;
        if (!fill.is_none() && int64_t(row.size()) < size) {
          run.step(size);
          run.charge(size * int64_t(sizeof(Value)));
          row.resize(size_t(size), fill);
        }
        out = run.list(std::move(row));
        return true;
      });
}

Value filter_slice(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "slice", args, {"slices", "fill_with"}, 1);
  const int64_t slices = bound.integer(0, 1);
  const std::vector<Value> items = to_vector(rt, self);
  if (slices == 0) fail("'slice' cannot make zero slices");
  std::vector<Value> rows;
  const int64_t count = int64_t(items.size());
  int64_t at = 0;
  for (int64_t i = 0; i < slices; ++i) {
    rt.step();
    const bool extra = i < count % slices;
    const int64_t size = count / slices + extra;
    std::vector<Value> row(items.begin() + at, items.begin() + at + size);
    at += size;
    if (bound.has_value(1) && !extra) row.push_back(bound[1]);
    rows.push_back(rt.list(std::move(row)));
  }
  return rt.generator(iterate(rt, rt.list(std::move(rows))), self.depth());
}

Value filter_attr(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "attr", args, {"name"}, 1);
  if (self.is_undefined()) return Value::undefined(self.undefined_message());
  if (auto found = python_attribute(rt, self, bound.str(0))) return std::move(*found);
  return Value::undefined(object_name(self) + " has no attribute '" + bound.str(0) + "'");
}

}  // namespace

Function find_sequence_filter(std::string_view name) {
  static constexpr FunctionRow kRows[] = {
      {"length", filter_length},
      {"count", filter_length},
      {"list", filter_list},
      {"default", filter_default},
      {"d", filter_default},
      {"first", filter_first},
      {"last", filter_last},
      {"reverse", filter_reverse},
      {"join", filter_join},
      {"items", filter_items},
      {"dictsort", filter_dictsort},
      {"sort", filter_sort},
      {"unique", filter_unique},
      {"min", [](Runtime& rt, const Value& s, Args& a) { return extreme(rt, s, a, false); }},
      {"max", [](Runtime& rt, const Value& s, Args& a) { return extreme(rt, s, a, true); }},
      {"sum", filter_sum},
      {"map", filter_map},
      {"select",
       [](Runtime& rt, const Value& s, Args& a) { return select_or_reject(rt, s, a, true, false); }},
      {"reject",
       [](Runtime& rt, const Value& s, Args& a) { return select_or_reject(rt, s, a, false, false); }},
      {"selectattr",
       [](Runtime& rt, const Value& s, Args& a) { return select_or_reject(rt, s, a, true, true); }},
      {"rejectattr",
       [](Runtime& rt, const Value& s, Args& a) { return select_or_reject(rt, s, a, false, true); }},
      {"groupby", filter_groupby},
      {"batch", filter_batch},
      {"slice", filter_slice},
      {"attr", filter_attr},
  };
  return find_row(kRows, name);
}

}  // namespace dw::jinja
