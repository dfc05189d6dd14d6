// Random but valid weight blocks of any type: random quants and integer scales, float scales of a sane size.
#pragma once

#include <cstddef>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "quant/blocks.h"
#include "quant/types.h"

namespace dw::test {

inline uint16_t random_half(Random& random) {
  return float_to_half(random.uniform(0.001f, 0.02f) * (random.below(4) == 0 ? -1.0f : 1.0f));
}

// Makes the float scales of one block, whose other bytes are random, sane.
inline void fix_scales(quant::Type type, std::byte* block, Random& random) {
  using enum quant::Type;
  const auto put_half = [&](size_t offset) {
    const uint16_t half = random_half(random);
    std::memcpy(block + offset, &half, sizeof half);
  };
  switch (type) {
    case F32: {
      const float value = random.normal();
      std::memcpy(block, &value, sizeof value);
      break;
    }
    case F16: {
      const uint16_t value = float_to_half(random.normal());
      std::memcpy(block, &value, sizeof value);
      break;
    }
    case BF16: {
      const uint16_t value = float_to_bfloat16(random.normal());
      std::memcpy(block, &value, sizeof value);
      break;
    }
    case Q4_1:
    case Q5_1:
    case Q4_K:
    case Q5_K:
      put_half(0);
      put_half(2);
      break;
    case Q2_K:
      put_half(offsetof(quant::BlockQ2_K, d));
      put_half(offsetof(quant::BlockQ2_K, dmin));
      break;
    case Q3_K:
      put_half(offsetof(quant::BlockQ3_K, d));
      break;
    case Q6_K:
      put_half(offsetof(quant::BlockQ6_K, d));
      break;
    case Q8_K: {
      const float d = random.uniform(-0.02f, 0.02f);
      std::memcpy(block, &d, sizeof d);
      break;
    }
    case MXFP4:
      block[0] = std::byte(uint8_t(112 + random.below(20)));
      break;
    case IQ1_M: {
      auto* scales = block + offsetof(quant::BlockIQ1_M, scales);
      const uint16_t d = random_half(random);
      for (int i = 0; i < 4; ++i) {
        uint16_t word;
        std::memcpy(&word, scales + 2 * i, sizeof word);
        word = uint16_t((word & 0x0fff) | ((d >> (4 * i)) & 15) << 12);
        std::memcpy(scales + 2 * i, &word, sizeof word);
      }
      break;
    }
    default:
      put_half(0);
  }
}

// rows x columns elements; columns must be a multiple of the block size.
inline std::vector<std::byte> random_weights(quant::Type type, int64_t rows, int64_t columns,
                                             Random& random) {
  const auto& info = quant::type_info(type);
  std::vector<std::byte> data(size_t(rows) * quant::row_bytes(type, uint64_t(columns)));
  for (auto& byte : data) byte = std::byte(uint8_t(random.next() >> 24));
  for (size_t at = 0; at < data.size(); at += info.block_bytes) fix_scales(type, data.data() + at, random);
  return data;
}

}  // namespace dw::test
