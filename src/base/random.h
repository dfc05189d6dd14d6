// A small deterministic generator (SplitMix64 seeding xoshiro256**; Blackman and Vigna, 2018): the same seed
// gives the same numbers on every machine and standard library.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace dw {

class Random {
 public:
  explicit Random(uint64_t seed) {
    for (auto& word : state_) {
      seed += 0x9e3779b97f4a7c15ull;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
      word = z ^ (z >> 31);
    }
  }
  uint64_t next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  double uniform() { return double(next() >> 11) * 0x1p-53; }  // [0, 1)
  float uniform(float low, float high) { return low + float(uniform()) * (high - low); }
  int64_t below(int64_t bound) { return int64_t(next() % uint64_t(bound)); }  // [0, bound)
  float normal() {                                                            // mean 0, deviation 1
    const double u = 1.0 - uniform();
    return float(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * uniform()));
  }

 private:
  uint64_t state_[4];
};

}  // namespace dw
