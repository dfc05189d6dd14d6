// The tojson filter as Hugging Face defines it: Python's json.dumps without HTML escapes.
#include <cmath>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"
#include "text/jinja_text.h"
#include "text/json.h"

namespace dw::jinja {
namespace {

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return float_repr(value);
}

class Dumper {
 public:
  explicit Dumper(Runtime& rt) : rt_(rt) {}

  void dump(const Value& value, int level) {
    rt_.step();
    rt_.check_length(int64_t(out.size()));
    switch (value.type()) {
      case Type::kNone:
        out += "null";
        return;
      case Type::kBool:
        out += value.as_bool() ? "true" : "false";
        return;
      case Type::kInt:
        out += std::to_string(value.as_int());
        return;
      case Type::kFloat:
        out += json_float(value.as_float());
        return;
      case Type::kString:
        append_json_string(out, value.str(), ascii_only);
        return;
      case Type::kUndefined:
      case Type::kObject:
        fail("a value of type '", type_name(value), "' cannot be printed as JSON");
      default:
        break;
    }
    const DepthGuard guard(rt_);
    if (value.is_dict())
      dump_dict(value.dict(), level);
    else
      dump_list(value.items(), level);
  }

  std::string out;
  std::string item_separator = ", ", key_separator = ": ";
  std::optional<std::string> indent;
  bool ascii_only = false, sort_keys = false;

 private:
  void new_line(int level) {
    if (!indent) return;
    rt_.check_length(int64_t(out.size()) + int64_t(indent->size()) * level);
    out += '\n';
    for (int i = 0; i < level; ++i) out += *indent;
  }
  void dump_list(const std::vector<Value>& items, int level) {
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out += item_separator;
      new_line(level + 1);
      dump(items[i], level + 1);
    }
    if (!items.empty()) new_line(level);
    out += ']';
  }
  void dump_dict(const DictObject& dict, int level) {
    std::vector<Value> keys;
    for (const auto& entry : dict.entries) keys.push_back(entry.first);
    std::vector<size_t> order(keys.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    if (sort_keys) order = sorted_order(rt_, keys, false);
    out += '{';
    bool first = true;
    for (size_t i : order) {
      if (!first) out += item_separator;
      first = false;
      new_line(level + 1);
      dump_key(keys[i]);
      out += key_separator;
      dump(dict.entries[i].second, level + 1);
    }
    if (!first) new_line(level);
    out += '}';
  }
  void dump_key(const Value& key) {
    if (key.is_string()) return append_json_string(out, key.str(), ascii_only);
    if (!key.is_number() && !key.is_none())
      fail("a JSON object cannot have a key of type '", type_name(key), "'");
    out += '"';
    dump(key, 0);
    out += '"';
  }
  Runtime& rt_;
};

}  // namespace

Value tojson_filter(Runtime& rt, const Value& self, Args& args) {
  const Bound bound(rt, "tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  Dumper dumper(rt);
  dumper.ascii_only = bound.flag(0, false);
  dumper.sort_keys = bound.flag(3, false);
  if (bound.has_value(1)) {
    if (bound[1].is_string()) {
      dumper.indent = bound.str(1);
    } else {
      const int64_t width = std::max<int64_t>(bound.integer(1, 0), 0);
      rt.check_length(width);
      dumper.indent = std::string(size_t(width), ' ');
    }
    dumper.item_separator.assign(1, ',');
  }
  if (bound.has_value(2)) {
    const std::vector<Value> pair = to_vector(rt, bound[2]);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      fail("'tojson' needs two separators");
    dumper.item_separator = pair[0].str();
    dumper.key_separator = pair[1].str();
  }
  dumper.dump(self, 0);
  return rt.text(std::move(dumper.out));
}

}  // namespace dw::jinja
