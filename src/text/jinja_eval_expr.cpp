// The interpreter's expressions.
#include "text/jinja_eval.h"
#include "text/jinja_ops.h"

namespace dw::jinja {

// Names, calls, filters of blocks and filters that see the context are never constant; see Node.as_const in
// jinja2/nodes.py.
void Interpreter::refuse_in_constant(const Expr& expr) const {
  const bool filter_of_context = expr.kind == ExprKind::kFilter &&
                                 (expr.name == "map" || expr.name == "select" || expr.name == "reject" ||
                                  expr.name == "selectattr" || expr.name == "rejectattr");
  const bool filter_of_block = expr.kind == ExprKind::kFilter && !expr.children[0];
  if (expr.kind == ExprKind::kName || expr.kind == ExprKind::kCall || expr.kind == ExprKind::kSlice ||
      filter_of_context || filter_of_block)
    fail("not a constant");
}

bool Interpreter::is_constant(const Expr& expr) {
  constant_only_ = true;
  bool constant = true;
  try {
    eval(expr, nullptr);
  } catch (const TemplateError&) {
    constant = false;
  }
  constant_only_ = false;
  return constant;
}

Value Interpreter::lookup(const Expr& name, const ScopePtr& scope) {
  for (const Scope* at = scope.get(); at; at = at->parent.get())
    for (const auto& [id, value] : at->variables)
      if (id == name.id) return value;
  if (const Value* found = context_.find(name.name)) return *found;
  if (const Function function = find_global(name.name)) {
    auto global = std::make_shared<Builtin>();
    global->name = name.name;
    global->function = function;
    return rt_.object(std::move(global));
  }
  return Value::undefined("'" + name.name + "' is undefined");
}

Value Interpreter::eval(const Expr& expr, const ScopePtr& scope) {
  rt_.line = expr.line;
  rt_.step();
  if (expr.kind == ExprKind::kConst) return expr.value;
  if (constant_only_) refuse_in_constant(expr);
  if (expr.kind == ExprKind::kName) return lookup(expr, scope);
  return eval_in_depth(expr, scope);
}

Value Interpreter::eval_in_depth(const Expr& expr, const ScopePtr& scope) {
  const DepthGuard guard(rt_);
  switch (expr.kind) {
    case ExprKind::kTuple:
      return rt_.tuple(eval_all(expr, scope));
    case ExprKind::kList:
      return rt_.list(eval_all(expr, scope));
    case ExprKind::kDict:
      return eval_dict(expr, scope);
    case ExprKind::kItem:
      return eval_item(expr, scope);
    case ExprKind::kCall:
      return eval_call(expr, scope);
    case ExprKind::kCondition:
      return eval_condition(expr, scope);
    case ExprKind::kCompare:
      return eval_compare(expr, scope);
    case ExprKind::kConcat:
      return eval_concat(expr, scope);
    case ExprKind::kNot:
      return Value::boolean(!truth(eval(*expr.children[0], scope)));
    case ExprKind::kSlice:
      fail("a slice stands outside of a subscript");
    default:
      break;
  }
  const Value first = eval(*expr.children[0], scope);
  switch (expr.kind) {
    case ExprKind::kAnd:
      return truth(first) ? eval(*expr.children[1], scope) : first;
    case ExprKind::kOr:
      return truth(first) ? first : eval(*expr.children[1], scope);
    case ExprKind::kNegative:
      return negate(first);
    case ExprKind::kPositive:
      return positive(first);
    case ExprKind::kAttribute:
      rt_.line = expr.line;
      return get_attribute(rt_, first, expr.name);
    case ExprKind::kBinary: {
      const Value second = eval(*expr.children[1], scope);
      rt_.line = expr.line;
      return apply_binary(rt_, expr.operation, first, second);
    }
    default:
      break;
  }
  Args args = eval_arguments(*expr.arguments, scope);
  rt_.line = expr.line;
  if (expr.kind == ExprKind::kTest) return Value::boolean(apply_test(rt_, expr.name, first, args));
  return apply_filter(rt_, expr.name, first, args);
}

std::vector<Value> Interpreter::eval_all(const Expr& expr, const ScopePtr& scope) {
  std::vector<Value> items;
  items.reserve(expr.children.size());
  for (const auto& child : expr.children) items.push_back(eval(*child, scope));
  return items;
}

Value Interpreter::eval_dict(const Expr& expr, const ScopePtr& scope) {
  auto dict = std::make_shared<DictObject>();
  for (size_t i = 0; i < expr.children.size(); i += 2) {
    Value key = eval(*expr.children[i], scope);
    Value value = eval(*expr.children[i + 1], scope);
    dict->set(rt_, std::move(key), std::move(value));
  }
  return rt_.dict(std::move(dict));
}

Value Interpreter::eval_item(const Expr& expr, const ScopePtr& scope) {
  const Value object = eval(*expr.children[0], scope);
  const Expr& key = *expr.children[1];
  if (constant_only_) refuse_in_constant(key);
  if (key.kind != ExprKind::kSlice) {
    const Value index = eval(key, scope);
    rt_.line = expr.line;
    return get_item(rt_, object, index);
  }
  Value bounds[3];
  for (int i = 0; i < 3; ++i)
    bounds[i] = key.children[size_t(i)] ? eval(*key.children[size_t(i)], scope) : Value::none();
  rt_.line = expr.line;
  return get_slice(rt_, object, bounds[0], bounds[1], bounds[2]);
}

Args Interpreter::eval_arguments(const Arguments& arguments, const ScopePtr& scope) {
  Args args;
  for (const auto& argument : arguments.positional) args.positional.push_back(eval(*argument, scope));
  for (const auto& [name, argument] : arguments.named) args.named.emplace_back(name, eval(*argument, scope));
  if (arguments.list) {
    const std::vector<Value> more = to_vector(rt_, eval(*arguments.list, scope));
    args.positional.insert(args.positional.end(), more.begin(), more.end());
  }
  if (arguments.dict) {
    const Value named = eval(*arguments.dict, scope);
    if (!named.is_dict()) fail("the value after '**' must be a mapping, got '", type_name(named), "'");
    for (const auto& [key, value] : named.dict().entries) {
      if (!key.is_string()) fail("the names after '**' must be strings");
      for (const auto& given : args.named)
        if (given.first == key.str()) fail("the argument '", key.str(), "' is given twice");
      args.named.emplace_back(key.str(), value);
    }
  }
  return args;
}

Value Interpreter::eval_call(const Expr& expr, const ScopePtr& scope) {
  const Value callee = eval(*expr.children[0], scope);
  Args args = eval_arguments(*expr.arguments, scope);
  rt_.line = expr.line;
  return call_value(rt_, callee, args);
}

Value Interpreter::eval_condition(const Expr& expr, const ScopePtr& scope) {
  if (truth(eval(*expr.children[0], scope))) return eval(*expr.children[1], scope);
  if (expr.children[2]) return eval(*expr.children[2], scope);
  return Value::undefined("the inline 'if' on line " + std::to_string(expr.line) +
                          " was false and has no 'else'");
}

Value Interpreter::eval_compare(const Expr& expr, const ScopePtr& scope) {
  Value left = eval(*expr.children[0], scope);
  for (size_t i = 0; i < expr.comparisons.size(); ++i) {
    Value right = eval(*expr.children[i + 1], scope);
    rt_.line = expr.line;
    bool holds = false;
    switch (expr.comparisons[i]) {
      case Comparison::kEq:
        holds = equal(rt_, left, right);
        break;
      case Comparison::kNe:
        holds = !equal(rt_, left, right);
        break;
      case Comparison::kLt:
        holds = less(rt_, left, right);
        break;
      case Comparison::kGt:
        holds = less(rt_, right, left);
        break;
      case Comparison::kLe:
        holds = less_or_equal(rt_, left, right);
        break;
      case Comparison::kGe:
        holds = less_or_equal(rt_, right, left);
        break;
      case Comparison::kIn:
        holds = contains(rt_, left, right);
        break;
      case Comparison::kNotIn:
        holds = !contains(rt_, left, right);
        break;
    }
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::eval_concat(const Expr& expr, const ScopePtr& scope) {
  std::string text;
  for (const auto& child : expr.children) {
    const Value value = eval(*child, scope);
    text += value.is_string() ? value.str() : to_str(rt_, value);
    rt_.check_length(int64_t(text.size()));
  }
  rt_.line = expr.line;
  return rt_.text(std::move(text));
}

}  // namespace dw::jinja
