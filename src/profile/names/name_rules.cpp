#include "profile/names/name_rules.h"

#include <array>

namespace dw::profile {

std::span<const std::span<const NameRule>> rule_tables() {
  static const std::array<std::span<const NameRule>, 9> kTables = {
      deltawing_rules(), profiler_rules(), communication_rules(), ggml_rules(),  attention_rules(),
      serving_rules(),   pytorch_rules(),  library_rules(),       triton_rules()};
  return kTables;
}

// Each piece between stars is taken where it first occurs; only the last must stand at the end.
bool fits(std::string_view text, std::string_view pattern) {
  size_t star = pattern.find('*');
  if (star == pattern.npos) return text == pattern;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  while ((star = pattern.find('*')) != pattern.npos) {
    const std::string_view piece = pattern.substr(0, star);
    const size_t found = text.find(piece);
    if (found == text.npos) return false;
    text.remove_prefix(found + piece.size());
    pattern.remove_prefix(star + 1);
  }
  return text.ends_with(pattern);
}

const NameRule* find_rule(std::string_view own, std::string_view whole) {
  const auto rows = profiler_rules();
  for (const auto& table : rule_tables())
    for (const NameRule& rule : table)
      if (fits(table.data() == rows.data() ? whole : own, rule.own) &&
          (rule.inside.empty() || whole.find(rule.inside) != whole.npos))
        return &rule;
  return nullptr;
}

}  // namespace dw::profile
