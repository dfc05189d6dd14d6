// The rows that quantisation errors are measured on; the reference errors of the fixture were measured on the
// same ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/random.h"

namespace dw::quant {

inline constexpr std::string_view kDistributions[] = {"gaussian", "laplace", "student",
                                                      "sparse",   "offset",  "uneven"};
inline constexpr int64_t kMeasuredElements = 65536;

inline float draw(std::string_view distribution, Random& random) {
  const float normal = random.normal();
  if (distribution == "laplace") {
    const double u = random.uniform() - 0.5;
    return float(u < 0 ? std::log(1 + 2 * u + 1e-12) : -std::log(1 - 2 * u + 1e-12));
  }
  if (distribution == "student") {  // 4 degrees of freedom
    double square = 0;
    for (int i = 0; i < 4; ++i) square += std::pow(random.normal(), 2);
    return float(normal / std::sqrt(square / 4));
  }
  if (distribution == "sparse") return random.uniform() < 0.1 ? normal : 0.0f;
  if (distribution == "offset") return 1.0f + 0.25f * normal;
  return normal;
}

// "uneven": normal, every 16 elements with a deviation of their own.
inline std::vector<float> draw_values(std::string_view distribution) {
  Random random(20240501);
  std::vector<float> values(static_cast<size_t>(kMeasuredElements));
  float deviation = 1;
  for (size_t i = 0; i < values.size(); ++i) {
    if (distribution == "uneven" && i % 16 == 0) deviation = std::exp(random.normal());
    values[i] = deviation * draw(distribution, random);
  }
  return values;
}

// Importance of a few powers of ten, some of it zero.
inline std::vector<float> draw_importance() {
  Random random(77);
  std::vector<float> importance(static_cast<size_t>(kMeasuredElements));
  for (float& w : importance) w = random.uniform() < 0.05 ? 0.0f : std::exp(1.5f * random.normal());
  return importance;
}

// sqrt(sum w (x - y)^2 / sum w x^2)
inline double relative_error(const std::vector<float>& x, const std::vector<float>& y,
                             const float* importance) {
  double difference = 0, total = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = importance ? importance[i] : 1;
    difference += w * (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
    total += w * double(x[i]) * x[i];
  }
  return std::sqrt(difference / total);
}

}  // namespace dw::quant
