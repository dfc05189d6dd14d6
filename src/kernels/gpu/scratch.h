// Hands out parts of the context's scratch memory, each aligned to 256 bytes; also counts how much an op will
// need (base nullptr, no end).
#pragma once

#include <cstddef>
#include <cstdint>

namespace dw::gpu {

class Scratch {
 public:
  Scratch(std::byte* base, uint64_t bytes) : base_(base), bytes_(bytes) {}
  template <class T>
  T* take(int64_t count) {
    const uint64_t at = used_;
    used_ += (uint64_t(count) * sizeof(T) + 255) / 256 * 256;
    return base_ == nullptr || used_ > bytes_ ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  uint64_t used() const { return used_; }
  bool exhausted() const { return used_ > bytes_; }

 private:
  std::byte* base_;
  uint64_t bytes_;
  uint64_t used_ = 0;
};

}  // namespace dw::gpu
