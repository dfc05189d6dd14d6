// What a launch does, for benchmarks and the profiler.
#pragma once

#include <cstdint>

namespace dw {

// The texts live as long as the process. bytes: read and written, each once.
struct Work {
  const char* op = "";
  double bytes = 0;
  double operations = 0;
};

struct WorkRecord {
  Work work;
  int32_t layer = -1;       // -1: of no layer
  const char* kernel = "";  // the function's name: "norm_kernel"
};

}  // namespace dw
