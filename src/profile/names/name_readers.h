// What the names of recognised kernels hold beyond their rule: template arguments, tiles, types, protocols.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "profile/names/kernel_name.h"
#include "profile/names/name_rules.h"

namespace dw::profile {

// own and whole as in find_rule(). Values are cut at 64 characters and printable.
std::vector<NameDetail> read_details(const NameRule& rule, std::string_view own, std::string_view whole);

// "Q4_K" of ggml's number of a tensor type; empty: no such type.
std::string_view ggml_type_name(int number);

// At most `longest` characters; what is no printable ASCII becomes '?'.
std::string printable_text(std::string_view text, size_t longest);

}  // namespace dw::profile
