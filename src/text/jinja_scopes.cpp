#include "text/jinja_scopes.h"

namespace dw::jinja {
namespace {

class ScopeResolver {
 public:
  explicit ScopeResolver(Syntax& syntax) : syntax_(syntax), known_(syntax.names.size()) {}

  void run() {
    Scope root(*this, syntax_.unset);
    root.walk(syntax_.body);
  }

 private:
  // One scope while it is looked at. `known_` says which names it or an outer one has mentioned.
  class Scope {
   public:
    Scope(ScopeResolver& resolver, std::vector<int>& unset) : resolver_(resolver), unset_(unset) {}
    ~Scope() {
      for (int id : mentioned_) resolver_.known_[size_t(id)] = false;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    void walk(Block& body) {
      note(body, false);
      resolver_.enter_inner(body);
    }
    bool mention(int id) {
      if (resolver_.known_[size_t(id)]) return false;
      resolver_.known_[size_t(id)] = true;
      mentioned_.push_back(id);
      return true;
    }
    void mention_all(const ExprPtr& expr) {
      for_each_name(expr.get(), [&](const Expr& name) { mention(name.id); });
    }
    void mention_targets(const std::vector<ExprPtr>& targets) {
      for (const auto& target : targets) mention_all(target);
    }
    void mention_signature(const Stmt& statement) {
      for (const auto& parameter : statement.signature->parameters) mention(parameter.first);
      for (const auto& value : statement.signature->defaults) mention_all(value);
    }

   private:
    void note(const Block& body, bool conditional) {
      for (const auto& statement : body) note(*statement, conditional);
    }
    void note(const Stmt& statement, bool conditional) {
      switch (statement.kind) {
        case StmtKind::kPrint:
        case StmtKind::kWith:
          for (const auto& expr : statement.exprs) mention_all(expr);
          break;
        case StmtKind::kFor:
        case StmtKind::kCallBlock:
        case StmtKind::kFilterBlock:
          mention_all(statement.expr);
          break;
        case StmtKind::kSet:
          mention_all(statement.expr);
          store(*statement.targets[0], conditional);
          break;
        case StmtKind::kSetBlock:
        case StmtKind::kMacro:
          store(*statement.targets[0], conditional);
          break;
        case StmtKind::kIf:
          for (const auto& [test, branch] : statement.branches) {
            mention_all(test);
            note(branch, true);
          }
          note(statement.otherwise, true);
          break;
        default:
          break;
      }
    }
    void store(const Expr& target, bool conditional) {
      if (target.kind == ExprKind::kTuple) {
        for (const auto& child : target.children) store(*child, conditional);
      } else if (mention(target.id) && !conditional && target.kind == ExprKind::kName) {
        unset_.push_back(target.id);
      }
    }

    ScopeResolver& resolver_;
    std::vector<int>& unset_;
    std::vector<int> mentioned_;
  };

  template <class Visit>
  static void for_each_name(const Expr* expr, const Visit& visit) {
    if (!expr) return;
    if (expr->kind == ExprKind::kName || expr->kind == ExprKind::kNamespace) visit(*expr);
    for (const auto& child : expr->children) for_each_name(child.get(), visit);
    if (!expr->arguments) return;
    for (const auto& argument : expr->arguments->positional) for_each_name(argument.get(), visit);
    for (const auto& named : expr->arguments->named) for_each_name(named.second.get(), visit);
    for_each_name(expr->arguments->list.get(), visit);
    for_each_name(expr->arguments->dict.get(), visit);
  }

  void enter_inner(Block& body) {
    for (auto& statement : body) enter_inner(*statement);
  }
  void enter_inner(Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::kIf:
        for (auto& branch : statement.branches) enter_inner(branch.second);
        enter_inner(statement.otherwise);
        return;
      case StmtKind::kFor: {
        {
          Scope scope(*this, statement.unset);
          scope.mention_targets(statement.targets);
          scope.mention(syntax_.loop_id);
          scope.walk(statement.body);
        }
        Scope otherwise(*this, statement.unset_otherwise);
        otherwise.walk(statement.otherwise);
        return;
      }
      case StmtKind::kMacro:
      case StmtKind::kCallBlock: {
        Scope scope(*this, statement.unset);
        scope.mention_signature(statement);
        scope.mention(syntax_.caller_id);
        scope.mention(syntax_.varargs_id);
        scope.mention(syntax_.kwargs_id);
        scope.walk(statement.body);
        return;
      }
      case StmtKind::kWith:
      case StmtKind::kScope: {
        Scope scope(*this, statement.unset);
        scope.mention_targets(statement.targets);
        scope.walk(statement.body);
        return;
      }
      case StmtKind::kSetBlock:
      case StmtKind::kFilterBlock:
        enter_captured(statement);
        return;
      default:
        return;
    }
  }
  void enter_captured(Stmt& statement) {
    Scope scope(*this, statement.unset);
    scope.walk(statement.body);
    if (statement.kind == StmtKind::kFilterBlock) return;
    for_each_name(statement.expr.get(), [&](const Expr& name) {
      if (!known_[size_t(name.id)])
        throw TemplateError{"the filter of a 'set' block uses '" + name.name +
                                "', which nothing around it mentions; Jinja2 cannot resolve that",
                            name.line};
    });
  }

  Syntax& syntax_;
  std::vector<char> known_;
};

}  // namespace

void resolve_scopes(Syntax& syntax) {
  ScopeResolver(syntax).run();
}

}  // namespace dw::jinja
