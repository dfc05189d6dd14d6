// Memory of the GPU for tests and benchmarks of single kernels, poisoned and between guards.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace dw::test {

// `count` values on the GPU between two guards. Every byte is 0xff at first, so that floats read before they
// are written are NaN.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t count) : count_(count) {
    gpu::check_runtime(cudaMalloc(&memory_, bytes()), "cudaMalloc");
    poison();
  }
  template <class Values>
  requires requires(const Values& v) { v.data(); }
  explicit DeviceArray(const Values& values) : DeviceArray(values.size()) {
    set(values.data(), values.size());
  }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(DeviceArray&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(count_, other.count_);
    return *this;
  }

  T* data() const { return memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + kGuardBytes); }
  size_t size() const { return count_; }
  void poison() { gpu::check_runtime(cudaMemset(memory_, 0xff, bytes()), "cudaMemset"); }
  void set(const std::vector<T>& values) { set(values.data(), values.size()); }
  void set(const T* values, size_t count, size_t first = 0) {
    gpu::check_runtime(cudaMemcpy(data() + first, values, count * sizeof(T), cudaMemcpyHostToDevice),
                       "cudaMemcpy");
  }
  // What it holds once all queued work is done.
  std::vector<T> values() const {
    gpu::check_runtime(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    std::vector<T> host(count_);
    gpu::check_runtime(cudaMemcpy(host.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost),
                       "cudaMemcpy");
    return host;
  }
  bool guards_intact() const {
    std::vector<unsigned char> all(bytes());
    gpu::check_runtime(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    const auto poisoned = [](unsigned char byte) { return byte == 0xff; };
    return std::all_of(all.begin(), all.begin() + kGuardBytes, poisoned) &&
           std::all_of(all.end() - kGuardBytes, all.end(), poisoned);
  }

 private:
  static constexpr std::ptrdiff_t kGuardBytes = 1024;  // keeps data() aligned as cudaMalloc aligns
  size_t bytes() const { return count_ * sizeof(T) + 2 * kGuardBytes; }
  unsigned char* memory_ = nullptr;
  size_t count_ = 0;
};

// What the first GPU has and allows.
inline gpu::Limits device_limits() {
  cudaDeviceProp properties = {};
  gpu::check_runtime(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  gpu::Limits limits;
  limits.multiprocessors = properties.multiProcessorCount;
  limits.shared_bytes_block = properties.sharedMemPerBlockOptin;
  limits.architecture = properties.major * 100 + properties.minor * 10;
  limits.overlap_launches = properties.major >= 9;
  return limits;
}

}  // namespace dw::test
