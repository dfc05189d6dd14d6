// Random weights in any tensor type, made at the speed of memory: a pool of a few thousand blocks whose
// values are normal with a given deviation, from which tensors of any size are drawn. Types with a quantiser
// get quantised normal numbers; the others random codes under a scale that gives the same deviation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "quant/types.h"

namespace dw {

class RandomBlocks {
 public:
  // The type must have a dequantiser.
  RandomBlocks(quant::Type type, float deviation, uint64_t seed);

  // Bytes of a unit: the blocks of 256 elements. fill draws whole units and cuts the last.
  size_t unit_bytes() const { return unit_bytes_; }
  void fill(std::span<std::byte> out, uint64_t seed) const;

 private:
  void quantise_normal(const quant::TypeInfo& info, float deviation, Random& random);
  void scale_random_codes(const quant::TypeInfo& info, float deviation, Random& random);

  size_t unit_bytes_ = 0;
  std::vector<std::byte> units_;  // [kUnitCount, unit_bytes]
};

}  // namespace dw
