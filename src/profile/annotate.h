// What a program says of its own launches, in the order it made them. Analysis pairs them with the kernels of
// a trace by order and name (analysis/launches.h).
#pragma once

#include <cstdint>
#include <string>

namespace dw::profile {

struct Annotation {
  std::string op;      // "norm"
  std::string kernel;  // the function's name without namespaces and arguments: "norm_kernel"
  int32_t layer = -1;  // -1: of no layer
  double bytes = 0;    // read and written, each once
  double operations = 0;
};

}  // namespace dw::profile
