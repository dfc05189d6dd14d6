#include "text/reasoning.h"

#include <gtest/gtest.h>

namespace dw {
namespace {

struct Parts {
  std::string reasoning, answer;
};

// Cuts the text after character i where bit i of `cuts` is set.
Parts split(const std::string& text, bool in_reasoning, uint64_t cuts) {
  ReasoningSplitter splitter(in_reasoning);
  Parts parts;
  std::string piece;
  for (size_t i = 0; i < text.size(); ++i) {
    piece += text[i];
    if (i + 1 < text.size() && (cuts >> i & 1) == 0) continue;
    splitter.push(piece, parts.reasoning, parts.answer);
    piece.clear();
  }
  splitter.flush(parts.reasoning, parts.answer);
  return parts;
}

void expect_parts(const std::string& text, bool in_reasoning, const std::string& reasoning,
                  const std::string& answer) {
  for (uint64_t cuts : {uint64_t(0), ~uint64_t(0), uint64_t(0x5555555555555555), uint64_t(0x9249249249249249),
                        uint64_t(0x0f0f0f0f0f0f0f0f), uint64_t(0x123456789abcdef1)}) {
    const Parts parts = split(text, in_reasoning, cuts);
    EXPECT_EQ(parts.reasoning, reasoning) << text << " cut " << cuts;
    EXPECT_EQ(parts.answer, answer) << text << " cut " << cuts;
  }
}

TEST(ReasoningSplitter, SeparatesOneBlockAtTheStart) {
  expect_parts("<think>\nwhy\n</think>\n\nbecause", false, "why\n", "because");
  expect_parts("why\n</think>\n\nbecause", true, "why\n", "because");
  expect_parts("\n<think>a<b</thin</think>c", false, "a<b</thin", "c");
  expect_parts("<think></think>x", false, "", "x");
}

TEST(ReasoningSplitter, LeavesOtherTextAlone) {
  expect_parts("plain <think>not</think>", false, "", "plain <think>not</think>");
  expect_parts("<thing>", false, "", "<thing>");
  expect_parts("  <thi", false, "", "  <thi");
  expect_parts("", false, "", "");
  expect_parts("endless </thin", true, "endless </thin", "");
}

}  // namespace
}  // namespace dw
