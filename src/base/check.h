// DW_CHECK: programmer errors. Prints the condition, the place and a message, then aborts.
#pragma once

namespace dw {
[[noreturn]] void check_failed(const char* condition, const char* file, int line, const char* message);
}

#define DW_CHECK(condition, message) \
  ((condition) ? void(0) : ::dw::check_failed(#condition, __FILE__, __LINE__, message))
