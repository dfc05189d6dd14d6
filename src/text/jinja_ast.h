// The syntax tree of a template. Variable names are numbered (`id`), so that scopes compare integers.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_value.h"

namespace dw::jinja {

enum class ExprKind : uint8_t {
  kConst,      // value
  kName,       // id, name
  kNamespace,  // id, name: the namespace; attribute (only as a target of `set`)
  kTuple,
  kList,
  kDict,       // children: key, value, key, value...
  kAttribute,  // children[0].name
  kItem,       // children[0][children[1]]
  kSlice,      // children: start, stop, step; null where left out
  kCall,       // children[0](arguments)
  kFilter,     // children[0] | name(arguments); children[0] is null in a filter block
  kTest,       // children[0] is name(arguments)
  kCondition,  // children: test, then, else (null when left out)
  kAnd,
  kOr,
  kNot,
  kCompare,  // children[0] operators[0] children[1] operators[1] ...
  kBinary,   // operation
  kNegative,
  kPositive,
  kConcat
};

enum class Operation : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class Comparison : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr list, dict;  // *list, **dict
};

struct Expr {
  ExprKind kind = ExprKind::kConst;
  Operation operation = Operation::kAdd;
  int line = 1;
  int height = 1;
  int id = -1;
  std::string name;
  std::string attribute;
  Value value;
  std::vector<ExprPtr> children;
  std::vector<Comparison> comparisons;
  std::unique_ptr<Arguments> arguments;
};

enum class StmtKind : uint8_t {
  kData,
  kPrint,
  kFor,
  kIf,
  kSet,
  kSetBlock,
  kMacro,
  kCallBlock,
  kFilterBlock,
  kWith,
  kScope,  // generation: a body with its own scope
  kBreak,
  kContinue
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

struct Signature {
  std::string name;
  std::vector<std::pair<int, std::string>> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  bool takes_varargs = false, takes_kwargs = false, takes_caller = false;
};

struct Stmt {
  StmtKind kind = StmtKind::kData;
  int line = 1;
  std::string text;              // kData
  std::vector<ExprPtr> exprs;    // kPrint; kWith: values
  std::vector<ExprPtr> targets;  // kFor, kSet, kSetBlock: one; kWith: several
  ExprPtr expr;            // kFor: iterable; kSet: value; kCallBlock: call; filters of blocks (may be null)
  ExprPtr test;            // kFor: the filter `if`
  bool recursive = false;  // kFor
  Block body;
  Block otherwise;                          // kFor, kIf
  std::vector<int> unset, unset_otherwise;  // of the scopes of body, of otherwise in kFor: resolve_scopes
  std::vector<std::pair<ExprPtr, Block>> branches;  // kIf
  std::unique_ptr<Signature> signature;             // kMacro, kCallBlock
};

struct Syntax {
  Block body;
  std::vector<std::string> names;  // by id
  std::vector<int> unset;          // names that are undefined at the start of the scope: resolve_scopes
  bool unknown_names = false;      // a filter or test in it does not exist: check_names
  int loop_id = -1, caller_id = -1, varargs_id = -1, kwargs_id = -1;
};

// Throws TemplateError.
Syntax parse(std::string_view source);

}  // namespace dw::jinja
