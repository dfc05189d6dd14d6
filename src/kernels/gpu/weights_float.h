// Values of unquantised matrices; see weights.h. The device's rows are the file's, padded with zeros to a
// multiple of 16 bytes.
#pragma once

#include "kernels/gpu/weights_base.h"

namespace dw::gpu {

template <quant::Type kType>
struct FloatWeights {
  static constexpr int kBytes = kType == quant::Type::F32 ? 4 : 2;
  static constexpr int kPerLoad = 16 / kBytes;  // values of a 16-byte load

  static __host__ __device__ uint64_t row_bytes(int64_t columns) {
    return round_up_16(uint64_t(columns) * kBytes);
  }
  DW_DEVICE float value(uint32_t bits) {  // low bits hold the element
    if constexpr (kType == quant::Type::F32)
      return __uint_as_float(bits);
    else if constexpr (kType == quant::Type::F16)
      return half_bits_to_float(uint16_t(bits));
    else
      return bfloat_bits_to_float(uint16_t(bits));
  }
  DW_DEVICE float get(const uint8_t* row, int column) {
    if constexpr (kBytes == 4)
      return value(load_plane<uint32_t>(row, column));
    else
      return value(load_plane<uint16_t>(row, column));
  }
  DW_DEVICE void unpack(const uint4& raw, float (&out)[kPerLoad]) {
    const NibbleWords words = as_words(raw);
    for (int i = 0; i < 4; ++i) {
      if constexpr (kBytes == 4) {
        out[i] = value(words.word[i]);
      } else {
        out[2 * i] = value(words.word[i] & 0xffff);
        out[2 * i + 1] = value(words.word[i] >> 16);
      }
    }
  }
};

}  // namespace dw::gpu
