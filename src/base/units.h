// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace dw {
std::string format_bytes(uint64_t bytes);    // "512 B", "3.4 MiB", "27.25 GiB"
std::string format_count(uint64_t count);    // "79.67 B", "76.3 M", "12"
std::string format_seconds(double seconds);  // "850 us", "12.3 ms", "4.20 s", "3 min 05 s"
}  // namespace dw
