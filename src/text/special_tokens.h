// Finds special tokens in text: leftmost first, the longest at one place. A trie over their bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace dw {

class SpecialTokens {
 public:
  struct Match {
    size_t offset = 0;
    size_t size_bytes = 0;  // 0: no match
    int32_t id = -1;
  };

  SpecialTokens() : ids_(1, -1) {}
  void insert(std::string_view text, int32_t id);  // empty text is never found; the last of equals counts
  Match find(std::string_view text, size_t from) const;

 private:
  std::array<bool, 256> starts_{};                   // bytes some token starts with
  std::unordered_map<uint64_t, uint32_t> children_;  // node << 8 | byte -> node
  std::vector<int32_t> ids_;                         // [nodes]: the token that ends here, or -1
};

}  // namespace dw
