#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>

#include "base/random.h"
#include "text/detokenizer.h"
#include "text/unicode.h"
#include "tokenizer_fixture.h"

namespace dw {
namespace {

class DetokenizerTest : public testing::Test {
 protected:
  std::vector<int32_t> bytes(std::string_view text) const {
    std::vector<int32_t> ids;
    for (const char c : text) {
      for (int32_t id = 0; id < 256; ++id) {
        if (tokenizer_.token_bytes(id) == std::string_view(&c, 1)) ids.push_back(id);
      }
    }
    return ids;
  }
  // Every piece the stream gives out, then the flush.
  std::vector<std::string> stream(const std::vector<int32_t>& ids, bool show_special = false) const {
    Detokenizer detokenizer(tokenizer_, show_special);
    std::vector<std::string> out;
    for (const int32_t id : ids) out.push_back(detokenizer.append(id).value());
    out.push_back(detokenizer.flush());
    EXPECT_EQ(detokenizer.flush(), "");
    return out;
  }
  Tokenizer tokenizer_ =
      Tokenizer::create(fixture::read_vocabulary(DW_TEST_DATA "/text/tokenizer", "qwen2")).value();
};

using Pieces = std::vector<std::string>;

TEST_F(DetokenizerTest, HoldsBackAnIncompleteCharacter) {
  EXPECT_EQ(stream(bytes("a\xf0\x9f\x98\x80z")), (Pieces{"a", "", "", "", "\xf0\x9f\x98\x80", "z", ""}));
}

TEST_F(DetokenizerTest, ReplacesIllFormedSubpartsOnce) {
  EXPECT_EQ(stream(bytes("\xff")), (Pieces{"\xef\xbf\xbd", ""}));
  EXPECT_EQ(stream(bytes("\xe2\x82")), (Pieces{"", "", "\xef\xbf\xbd"}));
  EXPECT_EQ(stream(bytes("\xe2\x82z")), (Pieces{"", "", "\xef\xbf\xbdz", ""}));
  EXPECT_EQ(stream(bytes("\xed\xa0")), (Pieces{"", "\xef\xbf\xbd\xef\xbf\xbd", ""}));
  EXPECT_EQ(stream(bytes("\xf0\x9f\xc3\xa9")), (Pieces{"", "", "\xef\xbf\xbd", "\xc3\xa9", ""}));
}

TEST_F(DetokenizerTest, ShowsControlTokensWhenAsked) {
  std::vector<int32_t> ids = bytes("\xc3");
  ids.push_back(tokenizer_.find("<|im_end|>").value());
  ids.push_back(bytes("\xa9").front());
  ids.push_back(tokenizer_.find("<think>").value());
  EXPECT_EQ(stream(ids), (Pieces{"", "", "\xc3\xa9", "<think>", ""}));
  EXPECT_EQ(stream(ids, true), (Pieces{"", "\xef\xbf\xbd<|im_end|>", "\xef\xbf\xbd", "<think>", ""}));
}

TEST_F(DetokenizerTest, EveryPieceIsValidUtf8) {
  Random random(5);
  for (int i = 0; i < 20000; ++i) {
    std::vector<int32_t> ids(size_t(random.below(10)));
    for (auto& id : ids) id = int32_t(random.below(random.below(2) == 0 ? 256 : tokenizer_.size()));
    for (const std::string& piece : stream(ids, random.below(2) == 0)) {
      const auto* at = reinterpret_cast<const utf8proc_uint8_t*>(piece.data());
      for (auto left = utf8proc_ssize_t(piece.size()); left > 0;) {
        utf8proc_int32_t code_point = -1;
        const utf8proc_ssize_t size = utf8proc_iterate(at, left, &code_point);
        ASSERT_GT(size, 0) << testing::PrintToString(piece);
        at += size;
        left -= size;
      }
    }
  }
}

std::string nfc(const UnicodeData& unicode, std::string_view text) {
  std::string out;
  unicode.append_nfc(text, out);
  return out;
}

TEST(UnicodeTest, NfcAgreesWithUtf8proc) {
  const UnicodeData unicode;
  Random random(11);
  // Characters that have kept their properties since Unicode 5: every version normalises them alike.
  const std::vector<std::pair<char32_t, char32_t>> blocks{
      {0x41, 0x7a},     {0xc0, 0x17f},    {0x300, 0x345},     {0x1100, 0x1112},
      {0x1161, 0x1175}, {0x11a8, 0x11c2}, {0xac00, 0xd7a3},   {0x1e00, 0x1e9b},
      {0x1f00, 0x1f15}, {0x915, 0x94d},   {0x2f800, 0x2fa1d}, {0x591, 0x5bd}};
  for (int i = 0; i < 200000; ++i) {
    std::string text;
    for (int64_t left = random.below(8); left >= 0; --left) {
      const auto& block = blocks[size_t(random.below(int64_t(blocks.size())))];
      append_utf8(block.first + char32_t(random.below(block.second - block.first + 1)), text);
    }
    auto* expected =
        reinterpret_cast<char*>(utf8proc_NFC(reinterpret_cast<const utf8proc_uint8_t*>(text.c_str())));
    ASSERT_NE(expected, nullptr);
    ASSERT_EQ(nfc(unicode, text), expected) << testing::PrintToString(text);
    std::free(expected);
  }
}

TEST(UnicodeTest, NfcIsIdempotentAndTheQuickCheckIsSafe) {
  const UnicodeData unicode;
  Random random(13);
  for (int i = 0; i < 100000; ++i) {
    std::string text;
    for (int64_t left = random.below(10); left >= 0; --left) {
      if (random.below(10) == 0) {
        text += char(random.below(256));
      } else {
        const auto c = char32_t(random.below(random.below(2) == 0 ? 0x3100 : 0x110000));
        append_utf8(c >= 0xd800 && c < 0xe000 ? 0x301 : c, text);
      }
    }
    const std::string once = nfc(unicode, text);
    ASSERT_EQ(nfc(unicode, once), once) << testing::PrintToString(text);
    if (unicode.is_surely_nfc(text)) {
      ASSERT_EQ(once, text);
    }
  }
}

TEST(UnicodeTest, Utf8DecodingTakesEveryCodePointAndNothingElse) {
  for (char32_t c = 0; c < kInvalidCodePoint; ++c) {
    std::string text;
    append_utf8(c, text);
    const Utf8Character character = decode_utf8(text);
    const bool surrogate = c >= 0xd800 && c < 0xe000;
    ASSERT_EQ(character.code_point, surrogate ? kInvalidCodePoint : c);
    ASSERT_EQ(character.size_bytes, surrogate ? 1 : text.size());
  }
  for (const std::string_view bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",
                                     "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xfe", "\xff"}) {
    EXPECT_EQ(decode_utf8(bad).code_point, kInvalidCodePoint);
  }
}

}  // namespace
}  // namespace dw
