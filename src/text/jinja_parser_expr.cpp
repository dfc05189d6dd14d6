#include <algorithm>

#include "text/jinja_ops.h"
#include "text/jinja_parser.h"

namespace dw::jinja {
namespace {

constexpr int kMaxHeight = 400;  // of an expression's tree: chains such as a + a + a... are deep on the left

bool is_tuple_end(const Token& token) {
  return token.kind == TokenKind::kVariableEnd || token.kind == TokenKind::kBlockEnd ||
         (token.kind == TokenKind::kOperator && token.text == ")");
}

}  // namespace

ExprPtr Parser::make(ExprKind kind, int line) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->line = line;
  return node;
}
void Parser::grow(Expr& node, const Expr* child) const {
  if (!child) return;
  node.height = std::max(node.height, child->height + 1);
  if (node.height > kMaxHeight) error("an expression is too long or too deep");
}
void Parser::add_child(Expr& node, ExprPtr child) const {
  grow(node, child.get());
  node.children.push_back(std::move(child));
}
ExprPtr Parser::unary(ExprKind kind, int line, ExprPtr child) const {
  ExprPtr node = make(kind, line);
  add_child(*node, std::move(child));
  return node;
}
ExprPtr Parser::binary(ExprKind kind, int line, ExprPtr left, ExprPtr right) const {
  ExprPtr node = unary(kind, line, std::move(left));
  add_child(*node, std::move(right));
  return node;
}

ExprPtr Parser::parse_tuple(const TupleMode& mode) {
  const int line = current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) expect_operator(",");
    if (is_tuple_end(current()) || (!mode.end_name.empty() && at_name(mode.end_name))) break;
    items.push_back(mode.simple ? parse_primary(mode.with_namespace) : parse_expression(mode.condition));
    if (!at_operator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple) {
    if (!items.empty()) return std::move(items.front());
    if (!mode.parenthesized) error("expected an expression, got " + describe(current()));
  }
  ExprPtr tuple = make(ExprKind::kTuple, line);
  for (auto& item : items) add_child(*tuple, std::move(item));
  return tuple;
}

ExprPtr Parser::parse_expression(bool condition) {
  const Nesting nesting(*this);
  ExprPtr node = parse_or();
  while (condition && at_name("if")) {
    const int line = take().line;
    ExprPtr choice = unary(ExprKind::kCondition, line, parse_or());
    add_child(*choice, std::move(node));
    add_child(*choice, take_name("else") ? parse_expression() : nullptr);
    node = std::move(choice);
  }
  return node;
}

ExprPtr Parser::parse_or() {
  ExprPtr left = parse_and();
  while (at_name("or")) {
    const int line = take().line;
    left = binary(ExprKind::kOr, line, std::move(left), parse_and());
  }
  return left;
}

ExprPtr Parser::parse_and() {
  ExprPtr left = parse_not();
  while (at_name("and")) {
    const int line = take().line;
    left = binary(ExprKind::kAnd, line, std::move(left), parse_not());
  }
  return left;
}

ExprPtr Parser::parse_not() {
  if (!at_name("not")) return parse_compare();
  const Nesting nesting(*this);
  const int line = take().line;
  return unary(ExprKind::kNot, line, parse_not());
}

ExprPtr Parser::parse_compare() {
  static constexpr std::pair<std::string_view, Comparison> kOperators[] = {
      {"==", Comparison::kEq}, {"!=", Comparison::kNe}, {"<", Comparison::kLt},
      {"<=", Comparison::kLe}, {">", Comparison::kGt},  {">=", Comparison::kGe}};
  const int line = current().line;
  ExprPtr first = parse_sum();
  ExprPtr compare;
  while (true) {
    std::optional<Comparison> comparison;
    for (const auto& [text, value] : kOperators)
      if (at_operator(text)) comparison = value;
    if (at_name("in")) comparison = Comparison::kIn;
    if (at_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      comparison = Comparison::kNotIn;
      take();
    }
    if (!comparison) return compare ? std::move(compare) : std::move(first);
    take();
    if (!compare) compare = unary(ExprKind::kCompare, line, std::move(first));
    compare->comparisons.push_back(*comparison);
    add_child(*compare, parse_sum());
  }
}

ExprPtr Parser::parse_sum() {
  ExprPtr left = parse_concat();
  while (at_operator("+") || at_operator("-")) {
    const Token& token = take();
    ExprPtr right = parse_concat();
    left = binary(ExprKind::kBinary, token.line, std::move(left), std::move(right));
    left->operation = token.text == "+" ? Operation::kAdd : Operation::kSub;
  }
  return left;
}

ExprPtr Parser::parse_concat() {
  const int line = current().line;
  ExprPtr first = parse_product();
  if (!at_operator("~")) return first;
  ExprPtr concat = unary(ExprKind::kConcat, line, std::move(first));
  while (take_operator("~")) add_child(*concat, parse_product());
  return concat;
}

ExprPtr Parser::parse_product() {
  static constexpr std::pair<std::string_view, Operation> kOperators[] = {
      {"*", Operation::kMul}, {"/", Operation::kDiv}, {"//", Operation::kFloorDiv}, {"%", Operation::kMod}};
  ExprPtr left = parse_power();
  while (true) {
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                     [&](const auto& entry) { return at_operator(entry.first); });
    if (found == std::end(kOperators)) return left;
    const int line = take().line;
    left = binary(ExprKind::kBinary, line, std::move(left), parse_power());
    left->operation = found->second;
  }
}

ExprPtr Parser::parse_power() {
  ExprPtr left = parse_unary();
  while (at_operator("**")) {
    const int line = take().line;
    left = binary(ExprKind::kBinary, line, std::move(left), parse_unary());
    left->operation = Operation::kPow;
  }
  return left;
}

ExprPtr Parser::parse_unary(bool with_filter) {
  const Nesting nesting(*this);
  const int line = current().line;
  ExprPtr node;
  if (take_operator("-"))
    node = unary(ExprKind::kNegative, line, parse_unary(false));
  else if (take_operator("+"))
    node = unary(ExprKind::kPositive, line, parse_unary(false));
  else
    node = parse_primary();
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr Parser::parse_name(bool with_namespace) {
  const Token& token = take();
  const std::string& name = token.text;
  ExprPtr node = make(ExprKind::kConst, token.line);
  if (name == "true" || name == "True" || name == "false" || name == "False") {
    node->value = Value::boolean(name == "true" || name == "True");
    return node;
  }
  if (name == "none" || name == "None") {
    node->value = Value::none();
    return node;
  }
  node->kind = ExprKind::kName;
  node->name = name;
  node->id = name_id(name);
  if (with_namespace && take_operator(".")) {
    node->kind = ExprKind::kNamespace;
    node->attribute = expect(TokenKind::kName, "an attribute's name").text;
  }
  if (name == "caller") mentions_.back().caller = true;
  if (name == "varargs") mentions_.back().varargs = true;
  if (name == "kwargs") mentions_.back().kwargs = true;
  return node;
}

ExprPtr Parser::parse_primary(bool with_namespace) {
  const Nesting nesting(*this);
  const Token& token = current();
  switch (token.kind) {
    case TokenKind::kName:
      return parse_name(with_namespace);
    case TokenKind::kString: {
      ExprPtr node = make(ExprKind::kConst, token.line);
      std::string text;
      while (current().kind == TokenKind::kString) text += take().text;
      node->value = Value::text(std::move(text));
      return node;
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat: {
      ExprPtr node = make(ExprKind::kConst, token.line);
      node->value =
          token.kind == TokenKind::kInteger ? Value::integer(token.integer) : Value::real(token.real);
      take();
      return node;
    }
    default:
      break;
  }
  if (at_operator("[")) return parse_list();
  if (at_operator("{")) return parse_dict();
  if (!take_operator("(")) error("unexpected " + describe(token));
  TupleMode mode;
  mode.parenthesized = true;
  ExprPtr node = parse_tuple(mode);
  expect_operator(")");
  return node;
}

ExprPtr Parser::parse_list() {
  ExprPtr list = make(ExprKind::kList, take().line);
  while (!at_operator("]")) {
    if (!list->children.empty()) expect_operator(",");
    if (at_operator("]")) break;
    add_child(*list, parse_expression());
  }
  take();
  return list;
}

ExprPtr Parser::parse_dict() {
  ExprPtr dict = make(ExprKind::kDict, take().line);
  while (!at_operator("}")) {
    if (!dict->children.empty()) expect_operator(",");
    if (at_operator("}")) break;
    add_child(*dict, parse_expression());
    expect_operator(":");
    add_child(*dict, parse_expression());
  }
  take();
  return dict;
}

ExprPtr Parser::parse_postfix(ExprPtr node) {
  while (true) {
    if (at_operator(".") || at_operator("["))
      node = parse_subscript(std::move(node));
    else if (at_operator("("))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

ExprPtr Parser::parse_filters_and_tests(ExprPtr node) {
  while (true) {
    if (at_operator("|"))
      node = parse_filter(std::move(node), false);
    else if (at_name("is"))
      node = parse_test(std::move(node));
    else if (at_operator("("))
      node = parse_call(std::move(node));
    else
      return node;
  }
}

ExprPtr Parser::parse_subscript(ExprPtr node) {
  const int line = current().line;
  if (take_operator(".")) {
    const Token& token = take();
    if (token.kind == TokenKind::kName) {
      ExprPtr attribute = unary(ExprKind::kAttribute, line, std::move(node));
      attribute->name = token.text;
      return attribute;
    }
    if (token.kind != TokenKind::kInteger) error("expected a name or number after '.'", token.line);
    ExprPtr index = make(ExprKind::kConst, token.line);
    index->value = Value::integer(token.integer);
    return binary(ExprKind::kItem, line, std::move(node), std::move(index));
  }
  take();
  std::vector<ExprPtr> parts;
  while (!at_operator("]")) {
    if (!parts.empty()) expect_operator(",");
    parts.push_back(parse_subscribed());
  }
  take();
  if (parts.size() == 1) return binary(ExprKind::kItem, line, std::move(node), std::move(parts.front()));
  ExprPtr tuple = make(ExprKind::kTuple, line);
  for (auto& part : parts) {
    if (part->kind == ExprKind::kSlice) error("slices of several dimensions are not supported", line);
    add_child(*tuple, std::move(part));
  }
  return binary(ExprKind::kItem, line, std::move(node), std::move(tuple));
}

ExprPtr Parser::parse_subscribed() {
  const auto ends = [&] { return at_operator(":") || at_operator("]") || at_operator(","); };
  const int line = current().line;
  ExprPtr start = at_operator(":") ? nullptr : parse_expression();
  if (!take_operator(":")) return start;
  ExprPtr slice = make(ExprKind::kSlice, line);
  add_child(*slice, std::move(start));
  add_child(*slice, ends() ? nullptr : parse_expression());
  const bool has_step = take_operator(":");
  add_child(*slice, has_step && !at_operator("]") && !at_operator(",") ? parse_expression() : nullptr);
  return slice;
}

std::unique_ptr<Arguments> Parser::parse_arguments() {
  const int line = current().line;
  auto arguments = std::make_unique<Arguments>();
  const auto ensure = [&](bool ok) {
    if (!ok) error("invalid order of arguments in a call", line);
  };
  expect_operator("(");
  bool first = true;
  while (!at_operator(")")) {
    if (!first) {
      expect_operator(",");
      if (at_operator(")")) break;
    }
    first = false;
    if (take_operator("*")) {
      ensure(!arguments->list && !arguments->dict);
      arguments->list = parse_expression();
    } else if (take_operator("**")) {
      ensure(!arguments->dict);
      arguments->dict = parse_expression();
    } else if (current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
               ahead().text == "=") {
      ensure(!arguments->dict);
      const std::string name = take().text;
      take();
      for (const auto& other : arguments->named)
        if (other.first == name) error("the argument '" + name + "' is given twice");
      arguments->named.emplace_back(name, parse_expression());
    } else {
      ensure(!arguments->list && !arguments->dict && arguments->named.empty());
      arguments->positional.push_back(parse_expression());
    }
  }
  take();
  return arguments;
}

void Parser::attach(Expr& node, std::unique_ptr<Arguments> arguments) const {
  for (const auto& argument : arguments->positional) grow(node, argument.get());
  for (const auto& named : arguments->named) grow(node, named.second.get());
  grow(node, arguments->list.get());
  grow(node, arguments->dict.get());
  node.arguments = std::move(arguments);
}

ExprPtr Parser::parse_call(ExprPtr node) {
  const int line = current().line;
  ExprPtr call = unary(ExprKind::kCall, line, std::move(node));
  attach(*call, parse_arguments());
  return call;
}

std::string Parser::parse_dotted_name() {
  std::string name = expect(TokenKind::kName, "a name").text;
  while (take_operator(".")) name += "." + expect(TokenKind::kName, "a name").text;
  return name;
}

ExprPtr Parser::parse_filter(ExprPtr node, bool inline_start) {
  while (inline_start || at_operator("|")) {
    if (!inline_start) take();
    inline_start = false;
    const int line = current().line;
    ExprPtr filter = unary(ExprKind::kFilter, line, std::move(node));
    filter->name = parse_dotted_name();
    if (!find_filter(filter->name)) syntax_.unknown_names = true;
    attach(*filter, at_operator("(") ? parse_arguments() : std::make_unique<Arguments>());
    node = std::move(filter);
  }
  return node;
}

ExprPtr Parser::parse_test(ExprPtr node) {
  const int line = take().line;
  const bool negated = take_name("not");
  ExprPtr test = unary(ExprKind::kTest, line, std::move(node));
  test->name = parse_dotted_name();
  if (!find_test(test->name)) syntax_.unknown_names = true;
  const TokenKind kind = current().kind;
  const bool literal = kind == TokenKind::kName || kind == TokenKind::kString ||
                       kind == TokenKind::kInteger || kind == TokenKind::kFloat || at_operator("[") ||
                       at_operator("{");
  if (at_operator("(")) {
    attach(*test, parse_arguments());
  } else {
    test->arguments = std::make_unique<Arguments>();
    if (literal && !at_name("else") && !at_name("or") && !at_name("and")) {
      if (at_name("is")) error("tests with 'is' cannot be chained");
      test->arguments->positional.push_back(parse_postfix(parse_primary()));
      grow(*test, test->arguments->positional.back().get());
    }
  }
  if (!negated) return test;
  return unary(ExprKind::kNot, line, std::move(test));
}

}  // namespace dw::jinja
