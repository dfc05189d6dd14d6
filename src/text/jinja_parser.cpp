#include "text/jinja_parser.h"

#include <algorithm>

#include "text/jinja_scopes.h"

namespace dw::jinja {
namespace {
constexpr int kMaxParserDepth = 300;  // nested blocks and brackets together; a bracket counts three times
}

Parser::Parser(std::string_view source) : tokens_(tokenize(source)) {
  syntax_.loop_id = name_id("loop");
  syntax_.caller_id = name_id("caller");
  syntax_.varargs_id = name_id("varargs");
  syntax_.kwargs_id = name_id("kwargs");
}

Syntax Parser::run() {
  syntax_.body = parse_until({});
  return std::move(syntax_);
}

Syntax parse(std::string_view source) {
  Syntax syntax = Parser(source).run();
  if (syntax.unknown_names) check_names(syntax);
  resolve_scopes(syntax);
  return syntax;
}

Parser::Nesting::Nesting(Parser& owner) : parser(owner) {
  if (parser.depth_ >= kMaxParserDepth) parser.error("the template nests blocks or brackets too deeply");
  ++parser.depth_;
}

void Parser::error(const std::string& message, int line) const {
  throw TemplateError{message, line};
}

int Parser::name_id(const std::string& name) {
  const auto [it, fresh] = ids_.try_emplace(name, int(syntax_.names.size()));
  if (fresh) syntax_.names.push_back(name);
  return it->second;
}

const Token& Parser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) error("expected " + std::string(what) + ", got " + describe(current()));
  return take();
}
void Parser::expect_operator(std::string_view text) {
  if (!take_operator(text)) error("expected '" + std::string(text) + "', got " + describe(current()));
}

void Parser::parse_output(Block& block) {
  auto print = std::make_unique<Stmt>();
  print->kind = StmtKind::kPrint;
  print->line = take().line;
  print->exprs.push_back(parse_tuple());
  expect(TokenKind::kVariableEnd, "'}}'");
  block.push_back(std::move(print));
}

Block Parser::parse_until(std::initializer_list<std::string_view> ends) {
  const Nesting nesting(*this);
  Block block;
  while (current().kind != TokenKind::kEnd) {
    if (current().kind == TokenKind::kData) {
      auto data = std::make_unique<Stmt>();
      data->line = current().line;
      data->text = take().text;
      block.push_back(std::move(data));
    } else if (current().kind == TokenKind::kVariableBegin) {
      parse_output(block);
    } else {
      expect(TokenKind::kBlockBegin, "'{%'");
      if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return at_name(end); }))
        return block;
      block.push_back(parse_statement());
      expect(TokenKind::kBlockEnd, "'%}'");
    }
  }
  if (ends.size() == 0) return block;
  error("the template ends inside '" + open_tags_.back() + "': '" + std::string(*(ends.end() - 1)) +
        "' is missing");
}

Block Parser::parse_body(std::initializer_list<std::string_view> ends) {
  take_operator(":");
  expect(TokenKind::kBlockEnd, "'%}'");
  return parse_until(ends);
}

StmtPtr Parser::parse_statement() {
  using Parse = StmtPtr (Parser::*)();
  static constexpr std::pair<std::string_view, Parse> kTags[] = {{"for", &Parser::parse_for},
                                                                 {"if", &Parser::parse_if},
                                                                 {"set", &Parser::parse_set},
                                                                 {"macro", &Parser::parse_macro},
                                                                 {"call", &Parser::parse_call_block},
                                                                 {"filter", &Parser::parse_filter_block},
                                                                 {"with", &Parser::parse_with},
                                                                 {"generation", &Parser::parse_generation},
                                                                 {"print", &Parser::parse_print},
                                                                 {"break", &Parser::parse_loop_control},
                                                                 {"continue", &Parser::parse_loop_control}};
  if (current().kind != TokenKind::kName) error("expected a tag's name, got " + describe(current()));
  const std::string& name = current().text;
  for (const auto& [tag, parse_tag] : kTags) {
    if (name != tag) continue;
    open_tags_.push_back(name);
    StmtPtr statement;
    const int line = current().line;
    statement = (this->*parse_tag)();
    statement->line = line;
    open_tags_.pop_back();
    return statement;
  }
  for (std::string_view refused : {"include", "import", "from", "extends", "block", "autoescape"})
    if (name == refused) error("'" + name + "' is not supported: a chat template stands alone");
  error("unknown tag '" + name + "'" + (open_tags_.empty() ? "" : " inside '" + open_tags_.back() + "'"));
}

void Parser::check_target(const Expr& target) const {
  if (target.kind == ExprKind::kTuple) {
    for (const auto& child : target.children) check_target(*child);
  } else if (target.kind != ExprKind::kName && target.kind != ExprKind::kNamespace) {
    error("cannot assign to this expression", target.line);
  }
  if (target.kind == ExprKind::kName && target.name == "loop" && loop_depth_ > 0)
    error("cannot assign to the special variable 'loop'", target.line);
}

ExprPtr Parser::parse_target(bool with_namespace, bool until_in) {
  TupleMode mode;
  mode.simple = true;
  mode.with_namespace = with_namespace;
  if (until_in) mode.end_name = "in";
  ExprPtr target = parse_tuple(mode);
  check_target(*target);
  return target;
}

StmtPtr Parser::parse_for() {
  auto loop = std::make_unique<Stmt>();
  loop->kind = StmtKind::kFor;
  take();
  ++loop_depth_;
  loop->targets.push_back(parse_target(false, true));
  if (!take_name("in")) error("expected 'in', got " + describe(current()));
  TupleMode mode;
  mode.condition = false;
  mode.end_name = "recursive";
  loop->expr = parse_tuple(mode);
  if (take_name("if")) loop->test = parse_expression();
  loop->recursive = take_name("recursive");
  loop->body = parse_body({"else", "endfor"});
  --loop_depth_;
  if (take().text == "else") {
    loop->otherwise = parse_body({"endfor"});
    take();
  }
  return loop;
}

StmtPtr Parser::parse_if() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kIf;
  take();
  TupleMode mode;
  mode.condition = false;
  while (true) {
    ExprPtr test = parse_tuple(mode);
    Block body = parse_body({"elif", "else", "endif"});
    statement->branches.emplace_back(std::move(test), std::move(body));
    const std::string end = take().text;
    if (end == "elif") continue;
    if (end == "else") {
      statement->otherwise = parse_body({"endif"});
      take();
    }
    return statement;
  }
}

StmtPtr Parser::parse_set() {
  auto statement = std::make_unique<Stmt>();
  take();
  statement->targets.push_back(parse_target(true, false));
  if (take_operator("=")) {
    statement->kind = StmtKind::kSet;
    statement->expr = parse_tuple();
    return statement;
  }
  statement->kind = StmtKind::kSetBlock;
  statement->expr = parse_filter(nullptr, false);
  statement->body = parse_body({"endset"});
  take();
  return statement;
}

void Parser::parse_signature(Signature& signature) {
  expect_operator("(");
  while (!at_operator(")")) {
    if (!signature.parameters.empty()) expect_operator(",");
    const std::string name = expect(TokenKind::kName, "a parameter's name").text;
    for (const auto& [id, other] : signature.parameters)
      if (other == name) error("the parameter '" + name + "' appears twice");
    signature.parameters.emplace_back(name_id(name), name);
    if (take_operator("="))
      signature.defaults.push_back(parse_expression());
    else if (!signature.defaults.empty())
      error("a parameter without a default follows one that has a default");
  }
  take();
}

Block Parser::parse_function_body(std::string_view end, Signature& signature) {
  const int outer_loops = std::exchange(loop_depth_, 0);
  mentions_.emplace_back();
  Block body = parse_body({end});
  take();
  const Mentions mentions = mentions_.back();
  mentions_.pop_back();
  mentions_.back().caller |= mentions.caller;
  mentions_.back().varargs |= mentions.varargs;
  mentions_.back().kwargs |= mentions.kwargs;
  const auto declared = [&](std::string_view name) {
    return std::any_of(signature.parameters.begin(), signature.parameters.end(),
                       [&](const auto& parameter) { return parameter.second == name; });
  };
  signature.takes_caller = mentions.caller && !declared("caller");
  signature.takes_varargs = mentions.varargs && !declared("varargs");
  signature.takes_kwargs = mentions.kwargs && !declared("kwargs");
  loop_depth_ = outer_loops;
  return body;
}

StmtPtr Parser::parse_macro() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kMacro;
  take();
  statement->signature = std::make_unique<Signature>();
  statement->signature->name = expect(TokenKind::kName, "the macro's name").text;
  ExprPtr target = make(ExprKind::kName, current().line);
  target->id = name_id(statement->signature->name);
  target->name = statement->signature->name;
  statement->targets.push_back(std::move(target));
  parse_signature(*statement->signature);
  statement->body = parse_function_body("endmacro", *statement->signature);
  return statement;
}

StmtPtr Parser::parse_call_block() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kCallBlock;
  take();
  statement->signature = std::make_unique<Signature>();
  statement->signature->name = "caller";
  if (at_operator("(")) parse_signature(*statement->signature);
  statement->expr = parse_expression();
  if (statement->expr->kind != ExprKind::kCall) error("a 'call' block needs a call, as in {% call name() %}");
  statement->body = parse_function_body("endcall", *statement->signature);
  return statement;
}

StmtPtr Parser::parse_filter_block() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kFilterBlock;
  take();
  statement->expr = parse_filter(nullptr, true);
  statement->body = parse_body({"endfilter"});
  take();
  return statement;
}

StmtPtr Parser::parse_with() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kWith;
  take();
  while (current().kind != TokenKind::kBlockEnd) {
    if (!statement->targets.empty()) expect_operator(",");
    statement->targets.push_back(parse_target(false, false));
    expect_operator("=");
    statement->exprs.push_back(parse_expression());
  }
  statement->body = parse_body({"endwith"});
  take();
  return statement;
}

StmtPtr Parser::parse_generation() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kScope;
  take();
  const int outer_loops = std::exchange(loop_depth_, 0);
  statement->body = parse_body({"endgeneration"});
  loop_depth_ = outer_loops;
  take();
  return statement;
}

StmtPtr Parser::parse_print() {
  auto statement = std::make_unique<Stmt>();
  statement->kind = StmtKind::kPrint;
  take();
  while (current().kind != TokenKind::kBlockEnd) {
    if (!statement->exprs.empty()) expect_operator(",");
    statement->exprs.push_back(parse_expression());
  }
  return statement;
}

StmtPtr Parser::parse_loop_control() {
  auto statement = std::make_unique<Stmt>();
  if (loop_depth_ == 0) error("'" + current().text + "' outside of a loop");
  statement->kind = take().text == "break" ? StmtKind::kBreak : StmtKind::kContinue;
  return statement;
}

}  // namespace dw::jinja
