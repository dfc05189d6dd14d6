// What Tokenizer::create refuses, and the sentence it gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "tokenizer_fixture.h"

namespace dw {
namespace {

using testing::HasSubstr;

const VocabularyData& good_vocabulary() {
  static const VocabularyData data = fixture::read_vocabulary(DW_TEST_DATA "/text/tokenizer", "qwen2");
  return data;
}

struct BadCase {
  std::string name;
  std::function<void(VocabularyData&)> spoil;
  std::string expected;
};

class TokenizerVocabulary : public testing::TestWithParam<BadCase> {};

TEST_P(TokenizerVocabulary, IsRefusedWithOneClearSentence) {
  VocabularyData data = good_vocabulary();
  ASSERT_TRUE(Tokenizer::create(data));
  GetParam().spoil(data);
  const auto tokenizer = Tokenizer::create(std::move(data));
  ASSERT_FALSE(tokenizer);
  EXPECT_THAT(tokenizer.error().message, HasSubstr(GetParam().expected));
  EXPECT_EQ(tokenizer.error().message.find('\n'), std::string::npos);
}

const std::vector<BadCase>& bad_cases() {
  static const std::vector<BadCase> cases{
      {"Empty", [](auto& v) { v = {.pre = "qwen2"}; }, "vocabulary is empty"},
      {"UnknownPre", [](auto& v) { v.pre = "dbrx"; },
       "\"dbrx\", which is not supported; supported are qwen2,"},
      {"MissingPre", [](auto& v) { v.pre.clear(); }, "is \"\", which is not supported"},
      {"FewerTypes", [](auto& v) { v.types.pop_back(); }, "tokens but"},
      {"TypeZero", [](auto& v) { v.types[3] = 0; }, "has type 0, but types go from 1 to 6"},
      {"TypeSeven", [](auto& v) { v.types[3] = 7; }, "has type 7, but types go from 1 to 6"},
      {"BosTooLarge", [](auto& v) { v.bos = int32_t(v.tokens.size()); }, "bos token id is"},
      {"EosNegative", [](auto& v) { v.eos = -2; }, "eos token id is -2, but ids go from 0 to"},
      {"EotTooLarge", [](auto& v) { v.eot = 2000000000; }, "eot token id is 2000000000"},
      {"PadTooLarge", [](auto& v) { v.pad = 999999; }, "padding token id is 999999"},
      {"AddBosWithoutBos", [](auto& v) { v.add_bos = true; }, "to add a bos token but names none"},
      {"AddEosWithoutEos", [](auto& v) { v.add_eos = true; }, "to add an eos token but names none"},
      {"SpaceInNormalToken", [](auto& v) { v.tokens[300] = "a b"; }, "character that stands for no byte"},
      {"BrokenUtf8InToken", [](auto& v) { v.tokens[300] = "\xff"; },
       "\"?\" has a character that stands for no"},
      {"ByteMissing", [](auto& v) { v.tokens[0] = "zzzz"; }, "no token for byte 33 (\"!\")"},
      {"ByteIsControl", [](auto& v) { v.types[0] = 3; }, "no token for byte 33"},
      {"ByteTokenMisspelt",
       [](auto& v) {
         v.tokens.push_back("<0xZZ>");
         v.types.push_back(6);
       },
       "not like <0x0A>"},
      {"MergeWithoutSpace", [](auto& v) { v.merges[5] = "ab"; }, "merge 5 reads \"ab\", not two tokens"},
      {"MergeOfThree", [](auto& v) { v.merges[5] = "a b c"; }, "merge 5 reads \"a b c\", not two tokens"},
      {"MergeHalfEmpty", [](auto& v) { v.merges[5] = "a "; }, "not two tokens with a space between"},
      {"MergeLeftUnknown", [](auto& v) { v.merges[5] = "qqq a"; },
       "needs \"qqq\", which is not a normal token"},
      {"MergeRightUnknown", [](auto& v) { v.merges[5] = "a qqq"; },
       "needs \"qqq\", which is not a normal token"},
      {"MergeResultUnknown", [](auto& v) { v.merges[5] = "q q"; },
       "needs \"qq\", which is not a normal token"},
      {"MergeOfControl", [](auto& v) { v.merges[5] = "<|im_start|> a"; }, "which is not a normal token"},
  };
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Bad, TokenizerVocabulary, testing::ValuesIn(bad_cases()),
                         [](const auto& bad) { return bad.param.name; });

TEST(TokenizerVocabularyTest, DuplicateTokenMeansItsLaterId) {
  VocabularyData data = good_vocabulary();
  data.tokens.push_back("A");
  data.types.push_back(1);
  const auto last = int32_t(data.tokens.size() - 1);
  auto tokenizer = Tokenizer::create(std::move(data));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->find("A"), last);
  EXPECT_EQ(*tokenizer->encode("A"), std::vector<int32_t>{last});
  EXPECT_EQ(tokenizer->token_bytes(32), "A");
}

TEST(TokenizerVocabularyTest, MissingTypesMeanAllNormal) {
  VocabularyData data = good_vocabulary();
  data.types.clear();
  data.tokens.resize(data.tokens.size() - 1);  // the last one is not in the byte alphabet
  data.tokens.pop_back();
  auto tokenizer = Tokenizer::create(std::move(data));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->token_type(0), TokenType::kNormal);
  EXPECT_GT(tokenizer->encode("<|im_start|>", {.parse_special = true})->size(), 1u);
}

TEST(TokenizerVocabularyTest, ByteAndUnusedTokensDecode) {
  VocabularyData data = good_vocabulary();
  const auto first = int32_t(data.tokens.size());
  data.tokens.insert(data.tokens.end(), {"<0x0A>", "<0xe9>", "[PAD7]", "<unk>"});
  data.types.insert(data.types.end(), {6, 6, 5, 2});
  auto tokenizer = Tokenizer::create(std::move(data));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->token_bytes(first), "\n");
  EXPECT_EQ(tokenizer->token_bytes(first + 1), "\xe9");
  EXPECT_EQ(tokenizer->token_bytes(first + 2), "");
  EXPECT_TRUE(tokenizer->is_special(first + 3));
}

}  // namespace
}  // namespace dw
