// The checks and tables behind Tokenizer::create; internal to src/text.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/expected.h"
#include "text/bpe.h"
#include "text/special_tokens.h"
#include "text/tokenizer.h"

namespace dw {

struct Vocabulary {
  VocabularyData data;
  std::string bytes;             // all tokens' bytes, one after another
  std::vector<size_t> offsets;   // [tokens + 1] into bytes
  std::vector<TokenType> types;  // [tokens]
  std::vector<bool> ends_generation;
  std::unordered_map<std::string_view, int32_t> ids;  // by text, views into data.tokens
  std::array<int32_t, 256> byte_ids{};
  SpecialTokens user_defined, all_special;

  std::string_view token_bytes(int32_t id) const {
    return std::string_view(bytes).substr(offsets[size_t(id)], offsets[size_t(id) + 1] - offsets[size_t(id)]);
  }
};

Expected<std::unique_ptr<Vocabulary>> build_vocabulary(VocabularyData data);
Expected<MergeTable> build_merges(const Vocabulary& vocabulary);

}  // namespace dw
