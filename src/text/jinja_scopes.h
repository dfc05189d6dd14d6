// What Jinja2 decides about a template before it runs it, done once after parsing.
#pragma once

#include "text/jinja_ast.h"

namespace dw::jinja {

// Fills in the `unset` lists. A name that a scope sets, that nothing in it mentions before and that no outer
// scope mentions at all, is local to that scope from its beginning: inner scopes find it undefined until it
// is set, even when the context has a variable of that name. (jinja2/idtracking.py; a `set` inside an `if`
// does not count.) Throws TemplateError where Jinja2 itself stumbles: a filter of a `set` block with an
// argument that nothing else mentions.
void resolve_scopes(Syntax& syntax);

// Throws TemplateError when a filter or test does not exist. As in Jinja2 it may be missing where it is tried
// under an `if` or an inline `if` of the same scope, and in constant expressions that do not get to it.
void check_names(const Syntax& syntax);

}  // namespace dw::jinja
