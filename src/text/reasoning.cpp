#include "text/reasoning.h"

#include <algorithm>

namespace dw {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>";

// Length of the longest tail of the text that begins the tag.
size_t partial_tag(std::string_view text, std::string_view tag) {
  for (size_t length = std::min(tag.size() - 1, text.size()); length > 0; --length)
    if (text.substr(text.size() - length) == tag.substr(0, length)) return length;
  return 0;
}

}  // namespace

bool ReasoningSplitter::advance(std::string& reasoning, std::string& answer) {
  switch (state_) {
    case State::kStart: {
      const size_t first = held_.find_first_not_of(" \t\r\n");
      const std::string_view rest =
          first == std::string::npos ? std::string_view() : std::string_view(held_).substr(first);
      if (rest.size() < kOpen.size() && kOpen.starts_with(rest)) return false;
      const bool opens = rest.starts_with(kOpen);
      if (opens) held_.erase(0, first + kOpen.size());
      state_ = opens ? State::kOpened : State::kAnswer;
      return true;
    }
    case State::kOpened:
    case State::kClosed:
      held_.erase(0, std::min(held_.size(), held_.find_first_not_of("\r\n")));
      if (held_.empty()) return false;
      state_ = state_ == State::kOpened ? State::kReasoning : State::kAnswer;
      return true;
    case State::kReasoning: {
      const size_t close = held_.find(kClose);
      const size_t end = close != std::string::npos ? close : held_.size() - partial_tag(held_, kClose);
      reasoning.append(held_, 0, end);
      held_.erase(0, close != std::string::npos ? close + kClose.size() : end);
      if (close == std::string::npos) return false;
      state_ = State::kClosed;
      return true;
    }
    case State::kAnswer:
      answer += held_;
      held_.clear();
      return false;
  }
  return false;
}

void ReasoningSplitter::push(std::string_view piece, std::string& reasoning, std::string& answer) {
  held_ += piece;
  while (advance(reasoning, answer)) {
  }
}

void ReasoningSplitter::flush(std::string& reasoning, std::string& answer) {
  (state_ == State::kReasoning ? reasoning : answer) += held_;
  held_.clear();
}

}  // namespace dw
