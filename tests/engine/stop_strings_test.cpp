#include "engine/stop_strings.h"

#include <gtest/gtest.h>

#include <optional>

namespace dw {
namespace {

struct Outcome {
  std::string shown;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

// Reads the text character by character; the first character that completes a stop string ends it.
Outcome oracle(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> start;
    for (const std::string& stop : stops)
      if (!stop.empty() && end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0)
        start = std::min(start.value_or(end), end - stop.size());
    if (start) return {text.substr(0, *start), true};
  }
  return {text, false};
}

size_t longest(const std::vector<std::string>& stops) {
  size_t size = 1;
  for (const std::string& stop : stops) size = std::max(size, stop.size());
  return size;
}

// Cuts the text after character i where bit i of `cuts` is set.
Outcome run_cut(const std::string& text, const std::vector<std::string>& stops, uint32_t cuts) {
  StopStrings matcher(stops);
  Outcome result;
  std::string piece;
  size_t pushed = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    piece += text[i];
    if (i + 1 < text.size() && (cuts >> i & 1) == 0) continue;
    pushed += piece.size();
    result.stopped = matcher.push(piece, result.shown);
    piece.clear();
    if (result.stopped) return result;
    EXPECT_LE(pushed - result.shown.size(), longest(stops) - 1) << "too much is held back";
  }
  matcher.flush(result.shown);
  return result;
}

TEST(StopStrings, AgreesWithTheOracleForEveryCut) {
  const std::vector<std::vector<std::string>> stop_sets = {
      {"ab"},        {"aa"}, {"aab", "ba"}, {"abab", "bb", ""}, {"abcd", "bc"}, {"c", "bc", "abc"},
      {"aaa", "ab"}, {}};
  const std::vector<std::string> texts = {"",          "a",         "ab",       "aabab",    "abababab",
                                          "aaabaaabb", "xabcdabcd", "abcabcab", "bbaabbaa", "aaaaaaaaa"};
  for (const auto& stops : stop_sets)
    for (const std::string& text : texts) {
      const Outcome expected = oracle(text, stops);
      const uint32_t splits = text.size() < 2 ? 1u : 1u << (text.size() - 1);
      for (uint32_t cuts = 0; cuts < splits; ++cuts)
        ASSERT_EQ(run_cut(text, stops, cuts).shown, expected.shown) << text << " cut " << cuts;
      EXPECT_EQ(run_cut(text, stops, 0).stopped, expected.stopped) << text;
    }
}

TEST(StopStrings, HoldsBackOnlyWhatMayBecomeAStop) {
  StopStrings matcher({"\nUser:"});
  std::string shown;
  EXPECT_FALSE(matcher.push("Hello\nUs", shown));
  EXPECT_EQ(shown, "Hello");
  EXPECT_FALSE(matcher.push("eful", shown));
  EXPECT_EQ(shown, "Hello\nUseful");
  EXPECT_TRUE(matcher.push("\nUser: more", shown));
  EXPECT_EQ(shown, "Hello\nUseful");
}

}  // namespace
}  // namespace dw
