// What the commands share at the terminal: errors, progress, Ctrl+C, reading prompts.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/expected.h"

namespace dw {

// Prints "deltawing: <sentence>" to stderr; returns 1, the exit status of an error.
int report_error(const Error& error);

// While it lives, Ctrl+C sets a flag instead of ending the program; a second Ctrl+C ends it.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  static bool interrupted();
  static void clear();
};

// A progress line on stderr, shown only when stderr is a terminal and the work has taken a second.
class ProgressLine {
 public:
  ~ProgressLine();
  void update(std::string_view stage, uint64_t done, uint64_t total);  // bytes
  void clear();

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_{};
  bool shown_ = false;
};

bool stdin_is_terminal();
bool stdout_is_terminal();
bool use_colour();  // stdout is a terminal and NO_COLOR is not set

Expected<std::string> read_file(const std::string& path);  // "-": standard input
Expected<std::string> read_standard_input();

}  // namespace dw
