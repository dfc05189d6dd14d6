// Shared by the tests of the CPU mixer ops: every level and thread count, output arrays between guards.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/mixers.h"
#include "kernels/reference_support.h"

namespace dw::test {

inline std::vector<CpuLevel> available_levels() {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (level <= detect_cpu_level()) levels.push_back(level);
  }
  return levels;
}

// An array of poison between two guards.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t count) : count_(count), memory_((count + 2 * kGuard) * sizeof(T), kPoison) {}
  T* data() { return reinterpret_cast<T*>(memory_.data()) + kGuard; }
  std::vector<T> values() { return {data(), data() + count_}; }
  bool guards_intact() const {
    const auto poisoned = [](unsigned char byte) { return byte == kPoison; };
    const auto guard = std::ptrdiff_t(kGuard * sizeof(T));
    return std::all_of(memory_.begin(), memory_.begin() + guard, poisoned) &&
           std::all_of(memory_.end() - guard, memory_.end(), poisoned);
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr unsigned char kPoison = 0xff;  // a NaN as a float
  size_t count_;
  std::vector<unsigned char> memory_;
};

// An op's output between guards.
struct GuardedActivations {
  Guarded<float> values, scales;
  Guarded<int8_t> quants;
  Guarded<int16_t> sums;
  ops::Activations view;

  GuardedActivations(int64_t tokens, int64_t columns)
      : values(size_t(tokens * columns)),
        scales(size_t(tokens * columns / 32)),
        quants(size_t(tokens * columns)),
        sums(size_t(tokens * columns / 16)) {
    view = {tokens, columns, values.data(), nullptr, nullptr, nullptr};
    if (columns % 32 == 0) {
      view.quants = quants.data();
      view.scales = scales.data();
      view.sums = sums.data();
    }
  }
  GuardedActivations(const GuardedActivations&) = delete;
  GuardedActivations& operator=(const GuardedActivations&) = delete;

  // Guards whole, and the quantised part exactly what ops.h says of the values.
  void check(const std::string& what) {
    EXPECT_TRUE(values.guards_intact() && scales.guards_intact() && quants.guards_intact() &&
                sums.guards_intact())
        << what << ": wrote outside";
    if (view.quants == nullptr) return;
    for (int64_t group = 0; group < view.tokens * view.columns / 32; ++group) {
      const float* x = view.values + 32 * group;
      float largest = 0;
      for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
      const float scale = largest / 127.0f;
      ASSERT_EQ(view.scales[group], scale) << what << ", group " << group;
      for (int half = 0; half < 2; ++half) {
        int sum = 0;
        for (int i = 16 * half; i < 16 * half + 16; ++i) {
          const int quant = scale == 0 ? 0 : int(std::nearbyint(x[i] / scale));
          ASSERT_EQ(view.quants[32 * group + i], quant) << what << ", group " << group << " of " << x[i];
          sum += quant;
        }
        ASSERT_EQ(view.sums[2 * group + half], sum) << what << ", group " << group;
      }
    }
  }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

inline std::string name_of(CpuLevel level, int threads) {
  return std::string(cpu_level_name(level)) + ", " + std::to_string(threads) + " threads";
}

}  // namespace dw::test
