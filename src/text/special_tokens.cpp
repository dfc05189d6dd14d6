#include "text/special_tokens.h"

namespace dw {

void SpecialTokens::insert(std::string_view text, int32_t id) {
  if (text.empty()) return;
  starts_[static_cast<unsigned char>(text[0])] = true;
  uint32_t node = 0;
  for (const char byte : text) {
    const uint64_t key = uint64_t(node) << 8 | static_cast<unsigned char>(byte);
    const auto [child, is_new] = children_.try_emplace(key, uint32_t(ids_.size()));
    if (is_new) ids_.push_back(-1);
    node = child->second;
  }
  ids_[node] = id;
}

SpecialTokens::Match SpecialTokens::find(std::string_view text, size_t from) const {
  if (ids_.size() == 1) return {};
  for (size_t at = from; at < text.size(); ++at) {
    if (!starts_[static_cast<unsigned char>(text[at])]) continue;
    Match longest;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const auto child = children_.find(uint64_t(node) << 8 | static_cast<unsigned char>(text[i]));
      if (child == children_.end()) break;
      node = child->second;
      if (ids_[node] >= 0) longest = {at, i + 1 - at, ids_[node]};
    }
    if (longest.size_bytes != 0) return longest;
  }
  return {};
}

}  // namespace dw
