#include "base/units.h"

#include <cstdio>

namespace dw {
namespace {
std::string scaled(double value, double step, const char* const* names, int name_count) {
  int i = 0;
  while (value >= step && i + 1 < name_count) {
    value /= step;
    ++i;
  }
  char text[64];
  const int digits = i == 0 ? 0 : value < 10 ? 2 : value < 100 ? 2 : 1;
  std::snprintf(text, sizeof text, "%.*f%s%s", digits, value, names[i][0] ? " " : "", names[i]);
  return text;
}
}  // namespace

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  return scaled(double(bytes), 1024, kNames, 5);
}

std::string format_count(uint64_t count) {
  static constexpr const char* kNames[] = {"", "K", "M", "B"};
  return scaled(double(count), 1000, kNames, 4);
}

std::string format_seconds(double seconds) {
  char text[64];
  if (seconds < 1e-3)
    std::snprintf(text, sizeof text, "%.0f us", seconds * 1e6);
  else if (seconds < 1)
    std::snprintf(text, sizeof text, "%.1f ms", seconds * 1e3);
  else if (seconds < 120)
    std::snprintf(text, sizeof text, "%.2f s", seconds);
  else
    std::snprintf(text, sizeof text, "%d min %02d s", int(seconds) / 60, int(seconds) % 60);
  return text;
}

}  // namespace dw
