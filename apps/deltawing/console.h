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

constexpr int kInterruptedStatus = 130;  // exit status of a command that Ctrl+C stopped

// While it lives, Ctrl+C sets a flag instead of ending the program; a second Ctrl+C ends it with 130.
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
bool use_colour();            // stdout is a terminal and NO_COLOR is not set (https://no-color.org)
bool use_colour_on_stderr();  // the same of stderr

Expected<std::string> read_file(const std::string& path);  // "-": standard input
Expected<std::string> read_standard_input();
// Replaces the file in one step; readable by its owner only.
Expected<void> write_private_file(const std::string& path, std::string_view text);

// "[ prompt 197.3 t/s | generation 67.3 t/s ]"
std::string rate_footer(double prompt_tokens, double prompt_seconds, double tokens, double seconds);

}  // namespace dw
