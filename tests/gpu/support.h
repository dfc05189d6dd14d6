// Shared by the GPU tests: the device (or a skip), arrays on it between poison, and the reference to compare
// with. A GPU test compares an op on the GPU with kernels/reference on the same random input; its seed is
// printed.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend/gpu_device.h"
#include "kernels/reference_support.h"

namespace dw::test {

// The GPU, opened once a program; nullptr when this machine has none (then needs_gpu.cpp skips every test).
inline Device* gpu() {
  static const std::unique_ptr<Device> device = [] {
    Expected<std::unique_ptr<Device>> made = make_gpu_device();
    if (!made) std::printf("no GPU: %s\n", made.error().message.c_str());
    return made ? std::move(*made) : nullptr;
  }();
  return device.get();
}

// `count` values on the GPU, first and last kGuard values poison.
template <class T>
class OnGpu {
 public:
  explicit OnGpu(const std::vector<T>& values) : OnGpu(values.size()) { set(values); }
  explicit OnGpu(size_t count) : count_(count) {
    Expected<Buffer> memory = gpu()->allocate((count + 2 * kGuard) * sizeof(T));
    if (!memory) throw std::runtime_error(memory.error().message);
    memory_ = std::move(*memory);
    const std::vector<unsigned char> poison((count + 2 * kGuard) * sizeof(T), kPoison);
    gpu()->copy_to_device(memory_.data(), poison.data(), poison.size());
  }
  T* data() const { return memory_.as<T>() + kGuard; }
  void set(const std::vector<T>& values) {
    gpu()->copy_to_device(data(), values.data(), values.size() * sizeof(T));
  }
  std::vector<T> values() const {
    std::vector<T> host(count_);
    gpu()->copy_to_host(host.data(), data(), count_ * sizeof(T));
    return host;
  }
  bool guards_intact() const {
    std::vector<unsigned char> all((count_ + 2 * kGuard) * sizeof(T));
    gpu()->copy_to_host(all.data(), memory_.data(), all.size());
    for (size_t i = 0; i < kGuard * sizeof(T); ++i)
      if (all[i] != kPoison || all[all.size() - 1 - i] != kPoison) return false;
    return true;
  }

 private:
  static constexpr size_t kGuard = 64;  // keeps data() aligned to 64 values
  static constexpr unsigned char kPoison = 0xff;
  size_t count_;
  Buffer memory_;
};

// Activations on the GPU; poison at first.
struct CheckedActivations {
  OnGpu<float> values, scales;
  OnGpu<int8_t> quants;
  OnGpu<int16_t> sums;
  ops::Activations view;

  CheckedActivations(int64_t tokens, int64_t columns)
      : values(size_t(tokens * columns)),
        scales(size_t(tokens * columns / 32 + 1)),
        quants(size_t(tokens * columns)),
        sums(size_t(tokens * columns / 16 + 1)) {
    view = {tokens, columns, values.data(), nullptr, nullptr, nullptr};
    if (columns % 32 != 0) return;
    view.quants = quants.data();
    view.scales = scales.data();
    view.sums = sums.data();
  }
  CheckedActivations(const CheckedActivations&) = delete;
  CheckedActivations& operator=(const CheckedActivations&) = delete;

  // Guards whole, and the quantised part what ops.h says of the values.
  void check(const std::string& what) const {
    EXPECT_TRUE(values.guards_intact() && scales.guards_intact() && quants.guards_intact() &&
                sums.guards_intact())
        << what << ": wrote outside";
    if (view.quants == nullptr) return;
    const std::vector<float> x = values.values(), d = scales.values();
    const std::vector<int8_t> q = quants.values();
    const std::vector<int16_t> s = sums.values();
    for (size_t group = 0; group < x.size() / 32; ++group) {
      float largest = 0;
      for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[32 * group + i]));
      ASSERT_EQ(d[group], largest / 127.0f) << what << ", group " << group;
      for (size_t half = 0; half < 2; ++half) {
        int sum = 0;
        for (size_t i = 16 * half; i < 16 * half + 16; ++i) {
          const size_t at = 32 * group + i;
          ASSERT_EQ(int(q[at]), d[group] == 0 ? 0 : int(std::nearbyint(x[at] / d[group])))
              << what << ", element " << at;
          sum += q[at];
        }
        ASSERT_EQ(int(s[2 * group + half]), sum) << what << ", group " << group;
      }
    }
  }
};

}  // namespace dw::test
