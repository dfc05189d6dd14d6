// Recursive-descent parser of templates. Nesting and tree height are limited, so that neither it nor the
// interpreter can run out of stack.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace dw::jinja {

class Parser {
 public:
  explicit Parser(std::string_view source);
  Syntax run();

 private:
  // Statements (jinja_parser.cpp).
  Block parse_until(std::initializer_list<std::string_view> ends);
  Block parse_body(
      std::initializer_list<std::string_view> ends);  // from the tag's end; stops at the end's name
  void parse_output(Block& block);
  StmtPtr parse_statement();
  StmtPtr parse_for();
  StmtPtr parse_if();
  StmtPtr parse_set();
  StmtPtr parse_macro();
  StmtPtr parse_call_block();
  StmtPtr parse_filter_block();
  StmtPtr parse_with();
  StmtPtr parse_generation();
  StmtPtr parse_print();
  StmtPtr parse_loop_control();
  void parse_signature(Signature& signature);
  Block parse_function_body(std::string_view end, Signature& signature);
  ExprPtr parse_target(bool with_namespace, bool until_in);
  void check_target(const Expr& target) const;

  // Expressions (jinja_parser_expr.cpp).
  struct TupleMode {
    bool simple = false;             // names and literals only
    bool condition = true;           // inline if allowed
    bool parenthesized = false;      // () is an empty tuple
    bool with_namespace = false;     // ns.name is a target
    std::string_view end_name = {};  // a name that ends the tuple
  };
  ExprPtr parse_tuple(const TupleMode& mode);
  ExprPtr parse_tuple() { return parse_tuple(TupleMode()); }
  ExprPtr parse_expression(bool condition = true);
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter = true);
  ExprPtr parse_primary(bool with_namespace = false);
  ExprPtr parse_name(bool with_namespace);
  ExprPtr parse_list();
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr node);
  ExprPtr parse_filters_and_tests(ExprPtr node);
  ExprPtr parse_subscript(ExprPtr node);
  ExprPtr parse_subscribed();
  ExprPtr parse_call(ExprPtr node);
  ExprPtr parse_filter(ExprPtr node, bool inline_start);
  ExprPtr parse_test(ExprPtr node);
  std::unique_ptr<Arguments> parse_arguments();
  void attach(Expr& node, std::unique_ptr<Arguments> arguments) const;
  std::string parse_dotted_name();

  ExprPtr make(ExprKind kind, int line) const;
  ExprPtr unary(ExprKind kind, int line, ExprPtr child) const;
  ExprPtr binary(ExprKind kind, int line, ExprPtr left, ExprPtr right) const;
  void add_child(Expr& node, ExprPtr child) const;
  void grow(Expr& node, const Expr* child) const;

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() {
    const Token& token = tokens_[at_];
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool at_name(std::string_view name) const {
    return current().kind == TokenKind::kName && current().text == name;
  }
  bool at_operator(std::string_view text) const {
    return current().kind == TokenKind::kOperator && current().text == text;
  }
  bool take_name(std::string_view name) { return at_name(name) && (take(), true); }
  bool take_operator(std::string_view text) { return at_operator(text) && (take(), true); }
  const Token& expect(TokenKind kind, std::string_view what);
  void expect_operator(std::string_view text);
  int name_id(const std::string& name);
  [[noreturn]] void error(const std::string& message) const { error(message, current().line); }
  [[noreturn]] void error(const std::string& message, int line) const;

  struct Nesting {
    explicit Nesting(Parser& owner);
    ~Nesting() { --parser.depth_; }
    Parser& parser;
  };
  // What a macro's body mentions decides which extra arguments it takes.
  struct Mentions {
    bool caller = false, varargs = false, kwargs = false;
  };

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loop_depth_ = 0;
  std::vector<Mentions> mentions_{1};
  std::vector<std::string> open_tags_;
  Syntax syntax_;
  std::unordered_map<std::string, int> ids_;
};

}  // namespace dw::jinja
