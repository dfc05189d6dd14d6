#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <thread>

#include "base/random.h"
#include "text/detokenizer.h"
#include "tokenizer_fixture.h"

namespace dw {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Tokenizer make_tokenizer(
    const std::string& pre = "qwen2",
    const std::function<void(VocabularyData&)>& change = [](VocabularyData&) {}) {
  VocabularyData data = fixture::read_vocabulary(DW_TEST_DATA "/text/tokenizer", pre);
  change(data);
  return Tokenizer::create(std::move(data)).value();
}

std::string random_bytes(Random& random, size_t size) {
  const std::vector<std::string> parts{"<|im_start|>", "<think>", "e\xcc\x81", "\xf0\x9f\x98\x80",
                                       "\r\n",         "  ",      "'s"};
  std::string out;
  while (out.size() < size) {
    const int64_t kind = random.below(4);
    if (kind == 0) {
      out += char(random.below(256));
    } else if (kind == 1) {
      out += parts[size_t(random.below(int64_t(parts.size())))];
    } else {
      out += char('a' + random.below(5));
    }
  }
  return out;
}

TEST(TokenizerTest, EveryByteStringSurvivesARoundTrip) {
  Random random(1);
  for (const std::string pre : {"qwen2", "qwen35", "llama-bpe", "gpt-2"}) {
    const Tokenizer tokenizer = make_tokenizer(pre);
    for (int i = 0; i < 3000; ++i) {
      const std::string text = random_bytes(random, size_t(random.below(80)));
      const EncodeOptions options{.parse_special = random.below(2) == 0, .normalize = false};
      ASSERT_EQ(tokenizer.decode(*tokenizer.encode(text, options), true).value(), text);
    }
  }
}

TEST(TokenizerTest, EverySingleBytePairSurvivesARoundTrip) {
  const Tokenizer tokenizer = make_tokenizer();
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string text{char(first), char(second)};
      ASSERT_EQ(tokenizer.decode(*tokenizer.encode(text, {.normalize = false})).value(), text);
    }
  }
}

TEST(TokenizerTest, InvalidBytesKeepTheTextAroundThemNormalized) {
  const Tokenizer tokenizer = make_tokenizer();
  const auto decoded = [&](std::string_view text) {
    return tokenizer.decode(*tokenizer.encode(text)).value();
  };
  EXPECT_EQ(decoded("e\xcc\x81"), "\xc3\xa9");
  EXPECT_EQ(decoded("\xffzo\xcc\x88\xc3"), "\xffz\xc3\xb6\xc3");
  EXPECT_EQ(decoded("e\xff\xcc\x81"), "e\xff\xcc\x81");  // the byte separates the accent from the letter
  EXPECT_EQ(decoded("\xed\xa0\x80"), "\xed\xa0\x80");    // a surrogate is not UTF-8
}

TEST(TokenizerTest, NormalizationIsOnlyForFamiliesThatUseIt) {
  const std::string text = "e\xcc\x81";
  EXPECT_NE(*make_tokenizer("qwen2").encode(text), *make_tokenizer("gpt-2").encode(text));
  const EncodeOptions raw{.normalize = false};
  EXPECT_EQ(*make_tokenizer("qwen2").encode(text, raw), *make_tokenizer("gpt-2").encode(text, raw));
}

TEST(TokenizerTest, ControlTokensAreParsedOnlyWhenAsked) {
  const Tokenizer tokenizer = make_tokenizer();
  const int32_t start = tokenizer.find("<|im_start|>").value(), think = tokenizer.find("<think>").value();
  EXPECT_THAT(*tokenizer.encode("<|im_start|>", {.parse_special = true}), ElementsAre(start));
  EXPECT_EQ(tokenizer.encode("<|im_start|>")->size() > 1, true);
  EXPECT_THAT(*tokenizer.encode("<think>"), ElementsAre(think));
  EXPECT_THAT(*tokenizer.encode("<think"), ElementsAre(tokenizer.find("<think").value()));
  EXPECT_THAT(*tokenizer.encode("<|a|><|b|>", {.parse_special = true}),
              ElementsAre(tokenizer.find("<|a|><|b|>").value()));
}

TEST(TokenizerTest, BosAndEosAreAddedWhenVocabularyAndCallerAgree) {
  const auto both = [](VocabularyData& data) {
    data.bos = data.eos = int32_t(data.tokens.size()) - 11;
    data.add_bos = data.add_eos = true;
  };
  const Tokenizer tokenizer = make_tokenizer("qwen2", both);
  const int32_t end = tokenizer.find("<|endoftext|>").value();
  EXPECT_EQ(tokenizer.bos(), end);
  EXPECT_THAT(*tokenizer.encode("", {.add_special = true}), ElementsAre(end, end));
  EXPECT_THAT(*tokenizer.encode("A", {.add_special = true}), ElementsAre(end, 32, end));
  EXPECT_THAT(*tokenizer.encode("A"), ElementsAre(32));
  EXPECT_THAT(*make_tokenizer().encode("A", {.add_special = true}), ElementsAre(32));
  EXPECT_EQ(make_tokenizer().bos(), std::nullopt);
}

TEST(TokenizerTest, EndOfGenerationTokensAreKnown) {
  const Tokenizer tokenizer = make_tokenizer("qwen2", [](VocabularyData& data) { data.eot = 7; });
  EXPECT_TRUE(tokenizer.is_end_of_generation(7));
  EXPECT_TRUE(tokenizer.is_end_of_generation(tokenizer.find("<|im_end|>").value()));
  EXPECT_TRUE(tokenizer.is_end_of_generation(tokenizer.find("<|endoftext|>").value()));
  EXPECT_FALSE(tokenizer.is_end_of_generation(tokenizer.find("<|im_start|>").value()));
  EXPECT_FALSE(tokenizer.is_end_of_generation(8));
}

TEST(TokenizerTest, IdsOutsideTheVocabularyAreErrors) {
  const Tokenizer tokenizer = make_tokenizer();
  Detokenizer detokenizer(tokenizer);
  for (const int32_t id : {-1, tokenizer.size()}) {
    const std::vector<int32_t> ids{0, id};
    EXPECT_THAT(tokenizer.decode(ids).error().message, HasSubstr("is outside the vocabulary"));
    EXPECT_THAT(detokenizer.append(id).error().message, HasSubstr("is outside the vocabulary"));
  }
}

// The definition of BPE, word by word: join the leftmost pair of the lowest rank.
std::vector<std::string> plain_bpe(std::string_view text, const std::map<std::string, size_t>& ranks) {
  std::vector<std::string> parts;
  for (const char c : text) parts.emplace_back(1, c);
  while (true) {
    size_t best = ranks.size(), at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find(parts[i] + " " + parts[i + 1]);
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    }
    if (best == ranks.size()) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + int64_t(at) + 1);
  }
}

TEST(TokenizerTest, ShortAndLongPiecesMergeByDefinition) {
  Random random(7);
  for (int round = 0; round < 20; ++round) {
    std::map<std::string, size_t> ranks;
    const Tokenizer tokenizer = make_tokenizer("qwen2", [&](VocabularyData& data) {
      data.tokens.resize(256);
      data.types.resize(256);
      data.merges.clear();
      std::vector<std::string> known{"a", "b", "c"};
      while (known.size() < 60) {
        const auto pick = [&] { return known[size_t(random.below(int64_t(known.size())))]; };
        const std::string left = pick(), right = pick(), joined = left + right;
        if (ranks.contains(left + " " + right) || joined.size() > 12) continue;
        ranks.emplace(left + " " + right, data.merges.size());
        data.merges.push_back(left + " " + right);
        if (std::ranges::find(known, joined) != known.end()) continue;
        known.push_back(joined);
        data.tokens.push_back(joined);
        data.types.push_back(1);
      }
    });
    for (const size_t size : {2, 5, 30, 31, 32, 33, 63, 64, 65, 66, 200, 700}) {
      std::string text;
      for (size_t i = 0; i < size; ++i) text += char('a' + random.below(random.below(2) == 0 ? 2 : 3));
      std::vector<int32_t> expected;
      for (const auto& part : plain_bpe(text, ranks)) expected.push_back(tokenizer.find(part).value());
      ASSERT_EQ(*tokenizer.encode(text), expected) << text;
      ASSERT_EQ(*tokenizer.encode(text), expected) << "the second time: " << text;
    }
  }
}

TEST(TokenizerTest, OneLongPieceDoesNotTakeQuadraticTime) {
  const Tokenizer tokenizer = make_tokenizer();
  for (const std::string unit : {"a", "\xcc\x81", "=", " ", "\n", "\xff"}) {
    std::string text;
    while (text.size() < (size_t(1) << 20)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer.encode(text);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(tokenizer.decode(*ids).value(), text);
    EXPECT_LT(taken.count(), 30.0) << "quadratic time would be hours";
  }
}

TEST(TokenizerTest, ManyThreadsGetTheSameIds) {
  const Tokenizer tokenizer = make_tokenizer();
  Random random(3);
  std::vector<std::string> texts;
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 200; ++i) {
    texts.push_back(random_bytes(random, 200));
    expected.push_back(*tokenizer.encode(texts.back()));
  }
  std::vector<std::jthread> threads;
  std::atomic<int> wrong = 0;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) wrong += *tokenizer.encode(texts[i]) != expected[i];
    });
  }
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace dw
