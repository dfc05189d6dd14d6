// Shared by the kernel tests: random arrays with a printed seed, the error measure, and owners of the memory
// that op structs point to.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kernels/ops.h"

namespace dw::test {

// sum (a - b)^2 / sum b^2
template <class A, class B>
double nmse(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return INFINITY;
  double error = 0, power = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
    power += double(b[i]) * double(b[i]);
  }
  return power == 0 ? (error == 0 ? 0 : INFINITY) : error / power;
}

inline bool all_finite(const std::vector<float>& values) {
  for (float v : values) {
    if (!std::isfinite(v)) return false;
  }
  return true;
}

inline std::vector<float> normals(Random& random, int64_t count, float deviation = 1, float mean = 0) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = mean + deviation * random.normal();
  return values;
}

// An Activations and its memory.
struct OwnedActivations {
  std::vector<float> values, scales;
  std::vector<int8_t> quants;
  std::vector<int16_t> sums;
  ops::Activations view;

  OwnedActivations(int64_t tokens, int64_t columns) : values(size_t(tokens * columns)) {
    view = {tokens, columns, values.data(), nullptr, nullptr, nullptr};
    if (columns % 32 == 0) {
      quants.resize(values.size());
      scales.resize(values.size() / 32);
      sums.resize(values.size() / 16);
      view.quants = quants.data();
      view.scales = scales.data();
      view.sums = sums.data();
    }
  }
  OwnedActivations(const OwnedActivations&) = delete;
  OwnedActivations& operator=(const OwnedActivations&) = delete;
};

inline ops::Matrix f32_matrix(const std::vector<float>& values, int64_t rows, int64_t columns,
                              int64_t count = 1) {
  return {quant::Type::F32, reinterpret_cast<const std::byte*>(values.data()), rows, columns, count};
}

}  // namespace dw::test
