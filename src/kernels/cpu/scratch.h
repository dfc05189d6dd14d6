// Uninitialised working memory of one op call, aligned to a cache line. A ScratchArena keeps the memory from
// call to call, so that an op neither asks the system for pages nor gives them back.
#pragma once

#include <cstdint>
#include <memory>

namespace dw::cpu {

class ScratchArena {
 public:
  // Room for `floats` floats; what an earlier call returned is gone.
  float* take(int64_t floats) {
    const int64_t lines = (floats + kLineFloats - 1) / kLineFloats;
    if (lines > lines_) {
      memory_ = std::make_unique_for_overwrite<Line[]>(size_t(lines));
      lines_ = lines;
    }
    return memory_ == nullptr ? nullptr : memory_[0].values;
  }

 private:
  static constexpr int64_t kLineFloats = 16;
  struct alignas(64) Line {
    float values[kLineFloats];
  };
  std::unique_ptr<Line[]> memory_;
  int64_t lines_ = 0;
};

// The memory of one call: from the arena, or its own when there is none.
class Scratch {
 public:
  Scratch(ScratchArena* arena, int64_t floats) : data_((arena != nullptr ? *arena : own_).take(floats)) {}
  float* data() { return data_; }

 private:
  ScratchArena own_;
  float* data_;
};

}  // namespace dw::cpu
