// Which filters and tests may be missing: see check_names.
#include "text/jinja_eval.h"
#include "text/jinja_ops.h"
#include "text/jinja_scopes.h"

namespace dw::jinja {
namespace {

bool is_unknown(const Expr& expr) {
  return (expr.kind == ExprKind::kFilter && !find_filter(expr.name)) ||
         (expr.kind == ExprKind::kTest && !find_test(expr.name));
}

template <class Visit>
void for_each_part(const Expr& expr, const Visit& visit) {
  const auto offer = [&](const ExprPtr& part) {
    if (part) visit(*part);
  };
  for (const auto& child : expr.children) offer(child);
  if (!expr.arguments) return;
  for (const auto& argument : expr.arguments->positional) offer(argument);
  for (const auto& named : expr.arguments->named) offer(named.second);
  offer(expr.arguments->list);
  offer(expr.arguments->dict);
}

bool holds_unknown(const Expr& expr) {
  bool found = is_unknown(expr);
  if (!found) for_each_part(expr, [&](const Expr& part) { found = found || holds_unknown(part); });
  return found;
}

// `soft`: the enclosing scope's code is inside an `if`, where Jinja2 looks names up when it gets to them.
class NameChecker {
 public:
  explicit NameChecker(const Syntax& syntax) : rt_(kLimits), folder_(rt_, syntax, no_variables_) {}

  void check(const Block& body, bool soft) {
    for (const auto& statement : body) check(*statement, soft);
  }

 private:
  // Constants are computed to see which parts of them Jinja2 computes; what takes longer is taken for
  // unknown.
  static constexpr Limits kLimits{100'000, 1 << 20, 16 << 20, 10, 1000};

  void check(const Stmt& statement, bool soft) {
    const bool captured = statement.kind == StmtKind::kSetBlock || statement.kind == StmtKind::kFilterBlock;
    check(statement.expr, soft && !captured);
    for (const auto& expr : statement.exprs) check(expr, soft);
    check(statement.test, false);
    for (const auto& [test, body] : statement.branches) {
      check(test, true);
      check(body, true);
    }
    check(statement.otherwise, statement.kind == StmtKind::kIf);
    if (statement.signature)
      for (const auto& value : statement.signature->defaults) check(value, false);
    check(statement.body, false);
  }

  void check(const ExprPtr& expr, bool soft) {
    if (expr && holds_unknown(*expr)) check(*expr, soft);
  }
  void check(const Expr& expr, bool soft) {
    if (soft || !holds_unknown(expr) || folder_.is_constant(expr) || expr.kind == ExprKind::kCondition)
      return;
    if (is_unknown(expr))
      throw TemplateError{std::string("there is no ") + (expr.kind == ExprKind::kTest ? "test" : "filter") +
                              " named '" + expr.name + "'",
                          expr.line};
    for_each_part(expr, [&](const Expr& part) { check(part, false); });
  }

  Runtime rt_;
  DictObject no_variables_;
  Interpreter folder_;
};

}  // namespace

void check_names(const Syntax& syntax) {
  NameChecker(syntax).check(syntax.body, false);
}

}  // namespace dw::jinja
