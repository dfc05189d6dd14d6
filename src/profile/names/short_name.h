// Kernel names as people read them. Input: demangled C++ names or plain ones; output never longer than asked.
#pragma once

#include <string>
#include <string_view>

namespace dw::profile {

// The function's own name: no return type, namespaces, template arguments, parameters.
// "void a::(anonymous namespace)::norm_kernel<float, 4>(float*)" gives "norm_kernel".
std::string_view base_name(std::string_view name);

// What stands between the brackets of that name's own template arguments; empty: it has none, or the name was
// cut inside them.
std::string_view template_arguments(std::string_view name);

// base_name with its template arguments, these without namespaces; cut with "..." at `longest` characters.
std::string short_name(std::string_view name, size_t longest = 48);

}  // namespace dw::profile
