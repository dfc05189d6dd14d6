#include "text/jinja_eval.h"

#include <algorithm>

#include "text/jinja_args.h"
#include "text/jinja_ops.h"

namespace dw::jinja {

void Scope::set(int id, Value value) {
  for (auto& [other, old] : variables) {
    if (other != id) continue;
    old = std::move(value);
    return;
  }
  variables.emplace_back(id, std::move(value));
}

Interpreter::Interpreter(Runtime& rt, const Syntax& syntax, const DictObject& context)
    : rt_(rt), syntax_(syntax), context_(context) {}

std::string Interpreter::run() {
  const DepthGuard guard(rt_);
  return capture([&] { run_block(syntax_.body, open_scope(nullptr, syntax_.unset)); });
}

void Interpreter::leave_unset(Scope& scope, const std::vector<int>& names) {
  rt_.step(int64_t(names.size()));
  for (int id : names)
    scope.variables.emplace_back(id, Value::undefined("'" + syntax_.names[size_t(id)] + "' is undefined"));
}
ScopePtr Interpreter::open_scope(const ScopePtr& outer, const std::vector<int>& unset) {
  auto scope = std::make_shared<Scope>(outer);
  leave_unset(*scope, unset);
  return scope;
}

template <class Body>
std::string Interpreter::capture(const Body& body) {
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  body();
  out_ = outer;
  return text;
}

void Interpreter::write(std::string_view text) {
  rt_.check_length(int64_t(out_->size() + text.size()));
  rt_.charge(int64_t(text.size()));
  *out_ += text;
}

void Interpreter::write_text(const Value& value) {
  if (!value.is_string()) fail("this block must give text, not a value of type '", type_name(value), "'");
  write(value.str());
}

Interpreter::Flow Interpreter::run_block(const Block& block, const ScopePtr& scope) {
  const DepthGuard guard(rt_);
  for (const auto& statement : block) {
    rt_.line = statement->line;
    rt_.step();
    const Flow flow = run_statement(*statement, scope);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_statement(const Stmt& statement, const ScopePtr& scope) {
  switch (statement.kind) {
    case StmtKind::kData:
      write(statement.text);
      break;
    case StmtKind::kPrint:
      for (const auto& expr : statement.exprs) {
        const Value value = eval(*expr, scope);
        write(value.is_string() ? value.str() : to_str(rt_, value));
      }
      break;
    case StmtKind::kFor:
      return run_for(statement, eval(*statement.expr, scope), scope, 0);
    case StmtKind::kIf:
      return run_if(statement, scope);
    case StmtKind::kSet:
      assign(*statement.targets[0], eval(*statement.expr, scope), scope);
      break;
    case StmtKind::kMacro:
      define_macro(statement, scope);
      break;
    case StmtKind::kCallBlock:
      run_call_block(statement, scope);
      break;
    case StmtKind::kSetBlock:
    case StmtKind::kFilterBlock:
      return run_captured(statement, scope);
    case StmtKind::kWith:
      return run_with(statement, scope);
    case StmtKind::kScope:
      return run_block(statement.body, open_scope(scope, statement.unset));
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_if(const Stmt& statement, const ScopePtr& scope) {
  for (const auto& [test, body] : statement.branches)
    if (truth(eval(*test, scope))) return run_block(body, scope);
  return run_block(statement.otherwise, scope);
}

Interpreter::Flow Interpreter::run_with(const Stmt& statement, const ScopePtr& scope) {
  const auto inner = open_scope(scope, statement.unset);
  std::vector<Value> values;
  for (const auto& expr : statement.exprs) values.push_back(eval(*expr, scope));
  for (size_t i = 0; i < values.size(); ++i) assign(*statement.targets[i], values[i], inner);
  return run_block(statement.body, inner);
}

namespace {

// The items that pass a loop's `if`; the test runs as the loop goes, and may see what its body has changed.
struct FilterIterator : Iterator {
  std::shared_ptr<Iterator> source;
  std::function<bool(const Value&)> passes;
  bool next(Runtime& rt, Value& out) override {
    while (source->next(rt, out))
      if (passes(out)) return true;
    return false;
  }
};

}  // namespace

std::shared_ptr<Iterator> Interpreter::filtered(const Stmt& statement, std::shared_ptr<Iterator> source,
                                                const ScopePtr& scope) {
  if (!statement.test) return source;
  auto filter = std::make_shared<FilterIterator>();
  filter->source = std::move(source);
  filter->passes = [this, &statement, scope](const Value& item) {
    const auto inner = std::make_shared<Scope>(scope);
    assign(*statement.targets[0], item, inner);
    return truth(eval(*statement.test, inner));
  };
  return filter;
}

Interpreter::Flow Interpreter::run_for(const Stmt& statement, const Value& iterable, const ScopePtr& scope,
                                       int64_t depth0) {
  auto loop = std::make_shared<Loop>();
  loop->iterator = filtered(statement, iterate(rt_, iterable), scope);
  if (!statement.test && !custom_as<Generator>(iterable)) loop->known_length = length_of(rt_, iterable);
  loop->depth0 = depth0;
  if (statement.recursive) {
    loop->interpreter = this;
    loop->statement = &statement;
    loop->outer = scope;
    rt_.keep(loop);
  }
  rt_.charge(256);
  const Value loop_value = Value::of(Type::kObject, loop);
  ScopePtr inner = std::make_shared<Scope>(scope);
  bool completed_one = false;
  while (loop->advance(rt_)) {
    if (inner.use_count() == 1)
      inner->variables.clear();
    else
      inner = std::make_shared<Scope>(scope);  // a macro of the last round holds the old one
    leave_unset(*inner, statement.unset);
    inner->set(syntax_.loop_id, loop_value);
    assign(*statement.targets[0], loop->current, inner);
    const Flow flow = run_block(statement.body, inner);
    if (flow == Flow::kBreak) break;
    // As in Jinja2, a round that ends in `continue` or `break` does not keep `else` from running.
    if (flow == Flow::kNormal) completed_one = true;
  }
  if (completed_one || statement.otherwise.empty()) return Flow::kNormal;
  return run_block(statement.otherwise, open_scope(scope, statement.unset_otherwise));
}

Interpreter::Flow Interpreter::run_captured(const Stmt& statement, const ScopePtr& scope) {
  Flow flow = Flow::kNormal;
  const ScopePtr inner = open_scope(scope, statement.unset);
  std::string text = capture([&] { flow = run_block(statement.body, inner); });
  if (flow != Flow::kNormal) return flow;
  rt_.line = statement.line;
  Value value = rt_.text(std::move(text));
  if (statement.expr) value = filter_chain(statement.expr.get(), value, inner);
  if (statement.kind == StmtKind::kSetBlock)
    assign(*statement.targets[0], value, scope);
  else
    write_text(value);
  return flow;
}

Value Interpreter::filter_chain(const Expr* filter, const Value& input, const ScopePtr& scope) {
  const DepthGuard guard(rt_);
  const Value inner = filter->children[0] ? filter_chain(filter->children[0].get(), input, scope) : input;
  Args args = eval_arguments(*filter->arguments, scope);
  rt_.line = filter->line;
  return apply_filter(rt_, filter->name, inner, args);
}

void Interpreter::define_macro(const Stmt& statement, const ScopePtr& scope) {
  auto macro = std::make_shared<Macro>();
  macro->interpreter = this;
  macro->signature = statement.signature.get();
  macro->body = &statement.body;
  macro->unset = &statement.unset;
  macro->closure = scope;
  rt_.keep(macro);
  scope->set(statement.targets[0]->id, rt_.object(std::move(macro)));
}

void Interpreter::run_call_block(const Stmt& statement, const ScopePtr& scope) {
  auto caller = std::make_shared<Macro>();
  caller->interpreter = this;
  caller->signature = statement.signature.get();
  caller->body = &statement.body;
  caller->unset = &statement.unset;
  caller->closure = scope;
  rt_.keep(caller);
  const Expr& call = *statement.expr;
  const Value callee = eval(*call.children[0], scope);
  Args args = eval_arguments(*call.arguments, scope);
  args.named.emplace_back("caller", rt_.object(std::move(caller)));
  rt_.line = statement.line;
  write_text(call_value(rt_, callee, args));
}

void Interpreter::assign(const Expr& target, const Value& value, const ScopePtr& scope) {
  if (target.kind == ExprKind::kName) {
    rt_.charge(sizeof(Value));
    scope->set(target.id, value);
    return;
  }
  if (target.kind == ExprKind::kNamespace) {
    const Value object = lookup(target, scope);
    auto* space = custom_as<Namespace>(object);
    if (!space) fail("cannot set '", target.attribute, "': '", target.name, "' is not a namespace");
    if (target.attribute.starts_with('_')) fail("a namespace cannot hold the name '", target.attribute, "'");
    space->attributes->set(rt_, Value::text(target.attribute), value);
    return;
  }
  const std::vector<Value> values = to_vector(rt_, value);
  if (values.size() != target.children.size())
    fail("cannot unpack ", values.size(), " values into ", target.children.size(), " names");
  for (size_t i = 0; i < values.size(); ++i) assign(*target.children[i], values[i], scope);
}

std::string Macro::repr(Runtime&) const {
  return "<Macro '" + signature->name + "'>";
}
Value Macro::call(Runtime& rt, Args& args) {
  return rt.text(interpreter->call_macro(*this, args));
}
std::optional<Value> Macro::attribute(Runtime& rt, std::string_view name) {
  if (name == "name") return Value::text(signature->name);
  if (name == "catch_kwargs") return Value::boolean(signature->takes_kwargs);
  if (name == "catch_varargs") return Value::boolean(signature->takes_varargs);
  if (name == "caller") return Value::boolean(signature->takes_caller);
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const auto& parameter : signature->parameters) names.push_back(Value::text(parameter.second));
  return rt.tuple(std::move(names));
}

namespace {

// Binds positional and named arguments; what was not given stays empty. Consumes `args`.
std::vector<std::optional<Value>> bind_parameters(const Signature& signature, Args& args) {
  std::vector<std::optional<Value>> bound(signature.parameters.size());
  for (size_t i = 0; i < bound.size(); ++i) {
    const std::string& name = signature.parameters[i].second;
    if (i < args.positional.size()) {
      bound[i] = args.positional[i];
      continue;
    }
    const auto given = std::find_if(args.named.begin(), args.named.end(),
                                    [&](const auto& entry) { return entry.first == name; });
    if (given == args.named.end()) continue;
    bound[i] = given->second;
    args.named.erase(given);
  }
  return bound;
}

}  // namespace

std::string Interpreter::call_macro(const Macro& macro, Args& args) {
  const DepthGuard guard(rt_);
  if (calls_ >= rt_.limits.call_depth)
    fail("macros call each other more than ", rt_.limits.call_depth, " levels deep");
  const int line = rt_.line;
  ++calls_;
  const Signature& signature = *macro.signature;
  const auto scope = open_scope(macro.closure, *macro.unset);
  const auto bound = bind_parameters(signature, args);
  if (signature.takes_caller) {
    const auto given = std::find_if(args.named.begin(), args.named.end(),
                                    [](const auto& entry) { return entry.first == "caller"; });
    scope->set(syntax_.caller_id,
               given == args.named.end() ? Value::undefined("no caller is defined") : given->second);
    if (given != args.named.end()) args.named.erase(given);
  }
  if (signature.takes_kwargs) {
    auto named = std::make_shared<DictObject>();
    for (auto& [name, value] : args.named) named->set(rt_, Value::text(name), value);
    scope->set(syntax_.kwargs_id, rt_.dict(std::move(named)));
  } else if (!args.named.empty()) {
    fail("macro '", signature.name, "' takes no argument '", args.named.front().first, "'");
  }
  const size_t count = signature.parameters.size();
  if (signature.takes_varargs) {
    const size_t used = std::min(count, args.positional.size());
    scope->set(syntax_.varargs_id,
               rt_.tuple({args.positional.begin() + int64_t(used), args.positional.end()}));
  } else if (args.positional.size() > count) {
    fail("macro '", signature.name, "' takes not more than ", count, " argument(s)");
  }
  for (size_t i = 0; i < count; ++i)
    scope->set(signature.parameters[i].first,
               bound[i] ? *bound[i]
                        : Value::undefined("the parameter '" + signature.parameters[i].second +
                                           "' was not provided"));
  for (size_t i = count - signature.defaults.size(); i < count; ++i)
    if (!bound[i])
      scope->set(signature.parameters[i].first,
                 eval(*signature.defaults[i + signature.defaults.size() - count], scope));
  std::string text = capture([&] { run_block(*macro.body, scope); });
  --calls_;
  rt_.line = line;
  return text;
}

bool Loop::advance(Runtime& rt) {
  Value item;
  if (after) {
    item = std::move(*after);
    after.reset();
  } else if (!iterator->next(rt, item)) {
    return false;
  }
  ++index0;
  before = std::move(current);
  current = std::move(item);
  return true;
}
bool Loop::is_last(Runtime& rt) {
  if (after) return false;
  Value item;
  if (!iterator->next(rt, item)) return true;
  after = std::move(item);
  return false;
}
int64_t Loop::count(Runtime& rt) {
  if (known_length) return *known_length;
  std::vector<Value> rest;
  for (Value item; iterator->next(rt, item);) rest.push_back(item);
  known_length = int64_t(rest.size()) + index0 + 1 + (after ? 1 : 0);
  iterator = jinja::iterate(rt, rt.list(std::move(rest)));
  return *known_length;
}
std::string Loop::repr(Runtime&) const {
  return "<LoopContext " + std::to_string(index0 + 1) + "/" + std::to_string(known_length.value_or(0)) + ">";
}
void Loop::clear() {
  outer.reset();
  iterator.reset();
  current = before = Value();
  after.reset();
  last_changed.reset();
}
Value Loop::call(Runtime& rt, Args& args) {
  const Bound bound(rt, "loop", args, {"iterable"}, 1);
  if (!interpreter) fail("only a loop marked 'recursive' can be called");
  return interpreter->run_recursive(*this, bound[0]);
}
Value Interpreter::run_recursive(const Loop& loop, const Value& iterable) {
  const DepthGuard guard(rt_);
  if (calls_ >= rt_.limits.call_depth)
    fail("a recursive loop goes more than ", rt_.limits.call_depth, " levels deep");
  const int line = rt_.line;
  ++calls_;
  const Stmt& statement = *loop.statement;
  const ScopePtr outer = loop.outer;
  const int64_t depth0 = loop.depth0 + 1;
  std::string text = capture([&] { run_for(statement, iterable, outer, depth0); });
  --calls_;
  rt_.line = line;
  return rt_.text(std::move(text));
}

namespace {

Value loop_cycle(Runtime&, const Value& self, Args& args) {
  if (args.positional.empty() || !args.named.empty()) fail("loop.cycle needs at least one value");
  return args.positional[size_t(custom_as<Loop>(self)->index0) % args.positional.size()];
}
Value loop_changed(Runtime& rt, const Value& self, Args& args) {
  auto& loop = *custom_as<Loop>(self);
  const Value now = rt.tuple(std::move(args.positional));
  if (loop.last_changed && equal(rt, *loop.last_changed, now)) return Value::boolean(false);
  loop.last_changed = now;
  rt.keep(loop.shared_from_this());  // the values may hold the loop itself
  return Value::boolean(true);
}

}  // namespace

std::optional<Value> Loop::attribute(Runtime& rt, std::string_view name) {
  if (name == "index") return Value::integer(index0 + 1);
  if (name == "index0") return Value::integer(index0);
  if (name == "first") return Value::boolean(index0 == 0);
  if (name == "last") return Value::boolean(is_last(rt));
  if (name == "length") return Value::integer(count(rt));
  if (name == "revindex") return Value::integer(count(rt) - index0);
  if (name == "revindex0") return Value::integer(count(rt) - index0 - 1);
  if (name == "depth") return Value::integer(depth0 + 1);
  if (name == "depth0") return Value::integer(depth0);
  if (name == "previtem") return index0 == 0 ? Value::undefined("there is no previous item") : before;
  if (name == "nextitem") return is_last(rt) ? Value::undefined("there is no next item") : *after;
  if (name != "cycle" && name != "changed") return std::nullopt;
  auto method = std::make_shared<Builtin>();
  method->name = name;
  method->self = Value::of(Type::kObject, shared_from_this());
  method->function = name == "cycle" ? loop_cycle : loop_changed;
  return rt.object(std::move(method));
}

}  // namespace dw::jinja
