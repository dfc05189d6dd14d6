// Splits an answer that arrives in pieces into the model's reasoning (one block between <think> and </think>
// at its start) and the answer proper. However the text is cut, the two parts put together are the same.
// Blanks before <think>, line feeds after it and line feeds after </think> belong to neither part.
#pragma once

#include <string>
#include <string_view>

namespace dw {

class ReasoningSplitter {
 public:
  // in_reasoning: the prompt ended with <think>, so the text begins inside the block.
  explicit ReasoningSplitter(bool in_reasoning = false)
      : state_(in_reasoning ? State::kOpened : State::kStart) {}

  // Appends what is certain now; text that could still be part of a tag is held back.
  void push(std::string_view piece, std::string& reasoning, std::string& answer);
  // The end of the text: what was held back.
  void flush(std::string& reasoning, std::string& answer);

 private:
  enum class State { kStart, kOpened, kReasoning, kClosed, kAnswer };
  bool advance(std::string& reasoning, std::string& answer);  // false: more text is needed
  State state_;
  std::string held_;
};

}  // namespace dw
