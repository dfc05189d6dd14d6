// Ids and text against the Hugging Face tokenizers package, from fixture files: the committed small
// vocabulary always, and a real one when DELTAWING_QWEN_TOKENIZER names a folder that
// make_tokenizer_fixtures.py wrote.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "text/detokenizer.h"
#include "tokenizer_fixture.h"

namespace dw {
namespace {

std::vector<std::string> folders() {
  std::vector<std::string> out{DW_TEST_DATA "/text/tokenizer"};
  if (const char* real = std::getenv("DELTAWING_QWEN_TOKENIZER"); real != nullptr) out.push_back(real);
  return out;
}

class TokenizerOracle : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerOracle, EncodesLikeHuggingFace) {
  const auto lines = fixture::read_lines(GetParam() + "/encode.txt");
  ASSERT_GE(lines.size(), 1000u) << GetParam();
  std::map<std::string, Tokenizer, std::less<>> tokenizers;
  for (const std::string pre : {"qwen2", "qwen35", "llama-bpe", "gpt-2"}) {
    auto tokenizer = Tokenizer::create(fixture::read_vocabulary(GetParam(), pre));
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizers.emplace(pre, std::move(*tokenizer));
  }
  size_t different = 0;
  for (const std::string& line : lines) {
    const auto fields = fixture::split_tabs(line);
    ASSERT_EQ(fields.size(), 4u) << line;
    const Tokenizer& tokenizer = tokenizers.find(fields[0])->second;
    const std::string text = fixture::unescape(fields[3]);
    const auto ids = tokenizer.encode(text, {.parse_special = fields[1] == "1"});
    ASSERT_TRUE(ids);
    if (*ids == fixture::parse_ids(fields[2])) continue;
    if (++different <= 5) {
      ADD_FAILURE() << "differs: " << line.substr(0, 1000) << "\nours: " << testing::PrintToString(*ids);
    }
  }
  EXPECT_EQ(different, 0u) << "of " << lines.size() << " texts";
  RecordProperty("texts", int(lines.size()));
}

TEST_P(TokenizerOracle, DecodesLikeHuggingFace) {
  const auto lines = fixture::read_lines(GetParam() + "/decode.txt");
  ASSERT_GE(lines.size(), 100u) << GetParam();
  auto tokenizer = Tokenizer::create(fixture::read_vocabulary(GetParam(), "qwen2"));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  size_t different = 0;
  for (const std::string& line : lines) {
    const auto fields = fixture::split_tabs(line);
    ASSERT_EQ(fields.size(), 3u) << line;
    Detokenizer detokenizer(*tokenizer, fields[0] == "1");
    std::string text;
    for (const int32_t id : fixture::parse_ids(fields[1])) text += detokenizer.append(id).value();
    text += detokenizer.flush();
    if (text == fixture::unescape(fields[2])) continue;
    if (++different <= 5) ADD_FAILURE() << "differs: " << line << "\nours: " << testing::PrintToString(text);
  }
  EXPECT_EQ(different, 0u) << "of " << lines.size() << " id sequences";
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, TokenizerOracle, testing::ValuesIn(folders()),
                         [](const auto& folder) { return folder.index == 0 ? "small" : "real"; });

}  // namespace
}  // namespace dw
