// Runs a parsed template: statements write text, expressions give values. Scopes are chained as Jinja2 has
// them: loops, macros, `with` and call blocks open one, `if` does not; `set` writes into the innermost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_value.h"

namespace dw::jinja {

struct Scope {
  explicit Scope(std::shared_ptr<Scope> outer) : parent(std::move(outer)) {}
  void set(int id, Value value);
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;
};
using ScopePtr = std::shared_ptr<Scope>;

class Interpreter;

// A macro, or the `caller` of a call block.
struct Macro : CustomObject {
  Interpreter* interpreter = nullptr;
  const Signature* signature = nullptr;
  const Block* body = nullptr;
  const std::vector<int>* unset = nullptr;
  ScopePtr closure;
  std::string_view type_name() const override { return "Macro"; }
  std::string repr(Runtime& rt) const override;
  bool callable() const override { return true; }
  Value call(Runtime& rt, Args& args) override;
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  void clear() override { closure.reset(); }
};

// The variable `loop`.
struct Loop : CustomObject, std::enable_shared_from_this<Loop> {
  std::shared_ptr<Iterator> iterator;
  std::optional<int64_t> known_length;
  int64_t index0 = -1;
  int64_t depth0 = 0;
  std::optional<Value> after;  // looked at already
  Value current, before;
  std::optional<Value> last_changed;
  // Set on recursive loops.
  Interpreter* interpreter = nullptr;
  const Stmt* statement = nullptr;
  ScopePtr outer;

  bool advance(Runtime& rt);
  int64_t count(Runtime& rt);
  bool is_last(Runtime& rt);
  std::string_view type_name() const override { return "LoopContext"; }
  std::string repr(Runtime& rt) const override;
  bool callable() const override { return true; }
  Value call(Runtime& rt, Args& args) override;
  std::optional<Value> attribute(Runtime& rt, std::string_view name) override;
  std::optional<int64_t> length(Runtime& rt) override { return count(rt); }
  void clear() override;
};

class Interpreter {
 public:
  // `context` is a dict; it and the syntax outlive the interpreter.
  Interpreter(Runtime& rt, const Syntax& syntax, const DictObject& context);
  std::string run();

  // Whether Jinja2 would compute this expression when it compiles the template.
  bool is_constant(const Expr& expr);

  // For the objects above.
  std::string call_macro(const Macro& macro, Args& args);
  Value run_recursive(const Loop& loop, const Value& iterable);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Flow run_block(const Block& block, const ScopePtr& scope);
  Flow run_statement(const Stmt& statement, const ScopePtr& scope);
  Flow run_for(const Stmt& statement, const Value& iterable, const ScopePtr& scope, int64_t depth0);
  Flow run_if(const Stmt& statement, const ScopePtr& scope);
  Flow run_captured(const Stmt& statement, const ScopePtr& scope);  // set, filter and call blocks
  void run_set_block(const Stmt& statement, const ScopePtr& scope, std::string text);
  void run_call_block(const Stmt& statement, const ScopePtr& scope);
  Flow run_with(const Stmt& statement, const ScopePtr& scope);
  void define_macro(const Stmt& statement, const ScopePtr& scope);
  std::shared_ptr<Iterator> filtered(const Stmt& statement, std::shared_ptr<Iterator> source,
                                     const ScopePtr& scope);
  void assign(const Expr& target, const Value& value, const ScopePtr& scope);
  Value filter_chain(const Expr* filter, const Value& input, const ScopePtr& scope);
  ScopePtr open_scope(const ScopePtr& outer, const std::vector<int>& unset);
  void leave_unset(Scope& scope, const std::vector<int>& names);  // of a scope that is still empty
  void write(std::string_view text);
  void write_text(const Value& value);
  template <class Body>
  std::string capture(const Body& body);

  Value eval(const Expr& expr, const ScopePtr& scope);
  Value eval_in_depth(const Expr& expr, const ScopePtr& scope);
  Value lookup(const Expr& name, const ScopePtr& scope);
  void refuse_in_constant(const Expr& expr) const;
  std::vector<Value> eval_all(const Expr& expr, const ScopePtr& scope);
  Value eval_dict(const Expr& expr, const ScopePtr& scope);
  Value eval_item(const Expr& expr, const ScopePtr& scope);
  Value eval_call(const Expr& expr, const ScopePtr& scope);
  Value eval_condition(const Expr& expr, const ScopePtr& scope);
  Value eval_compare(const Expr& expr, const ScopePtr& scope);
  Value eval_concat(const Expr& expr, const ScopePtr& scope);
  Args eval_arguments(const Arguments& arguments, const ScopePtr& scope);

  Runtime& rt_;
  const Syntax& syntax_;
  const DictObject& context_;
  std::string* out_ = nullptr;
  int calls_ = 0;
  bool constant_only_ = false;
};

}  // namespace dw::jinja
