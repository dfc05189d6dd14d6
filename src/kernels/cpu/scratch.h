// Uninitialised working memory of one op call, aligned to a cache line.
#pragma once

#include <cstdint>
#include <memory>

namespace dw::cpu {

class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : memory_(std::make_unique_for_overwrite<Line[]>(size_t((floats + kLineFloats - 1) / kLineFloats))) {}
  float* data() { return memory_[0].values; }

 private:
  static constexpr int64_t kLineFloats = 16;
  struct alignas(64) Line {
    float values[kLineFloats];
  };
  std::unique_ptr<Line[]> memory_;
};

}  // namespace dw::cpu
