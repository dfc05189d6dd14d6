// The K types: super-blocks of 256 elements with small integer scales (and mins) a group of 16 or 32.
#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codecs.h"
#include "quant/iq_tables.h"

namespace dw::quant {

void dequantize_q2_k(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ2_K, 256>(blocks, out, element_count, [](const BlockQ2_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * float(block.scales[group] & 15);
      const float min = dmin * float(block.scales[group] >> 4);
      const uint8_t* qs = block.qs + 32 * (group / 8) + 16 * (group & 1);
      const int shift = group & 6;
      for (int i = 0; i < 16; ++i) y[16 * group + i] = scale * float((qs[i] >> shift) & 3) - min;
    }
  });
}

void dequantize_q3_k(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ3_K, 256>(blocks, out, element_count, [](const BlockQ3_K& block, float* y) {
    const float d = half_to_float(block.d);
    int8_t scales[16];
    unpack_q3_scales(block.scales, scales);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * float(scales[group]);
      const uint8_t* qs = block.qs + 32 * (group / 8) + 16 * (group & 1);
      const uint8_t* high = block.hmask + 16 * (group & 1);
      const int shift = group & 6;
      for (int i = 0; i < 16; ++i) {
        const int q = ((qs[i] >> shift) & 3) - 4 + (((high[i] >> (group / 2)) & 1) << 2);
        y[16 * group + i] = scale * float(q);
      }
    }
  });
}

void dequantize_q4_k(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ4_K, 256>(blocks, out, element_count, [](const BlockQ4_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    uint8_t scales[8], mins[8];
    unpack_k_scales(block.scales, scales, mins);
    for (int group = 0; group < 8; ++group) {
      const float scale = d * float(scales[group]);
      const float min = dmin * float(mins[group]);
      const uint8_t* qs = block.qs + 32 * (group / 2);
      const int shift = 4 * (group & 1);
      for (int i = 0; i < 32; ++i) y[32 * group + i] = scale * float((qs[i] >> shift) & 15) - min;
    }
  });
}

void dequantize_q5_k(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ5_K, 256>(blocks, out, element_count, [](const BlockQ5_K& block, float* y) {
    const float d = half_to_float(block.d);
    const float dmin = half_to_float(block.dmin);
    uint8_t scales[8], mins[8];
    unpack_k_scales(block.scales, scales, mins);
    for (int group = 0; group < 8; ++group) {
      const float scale = d * float(scales[group]);
      const float min = dmin * float(mins[group]);
      const uint8_t* qs = block.qs + 32 * (group / 2);
      const int shift = 4 * (group & 1);
      for (int i = 0; i < 32; ++i) {
        const int q = ((qs[i] >> shift) & 15) | (((block.qh[i] >> group) & 1) << 4);
        y[32 * group + i] = scale * float(q) - min;
      }
    }
  });
}

void dequantize_q6_k(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ6_K, 256>(blocks, out, element_count, [](const BlockQ6_K& block, float* y) {
    const float d = half_to_float(block.d);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * float(block.scales[group]);
      const int half = group / 8, part = (group & 7) / 2, first = 16 * (group & 1);
      const uint8_t* low = block.ql + 64 * half + 32 * (part & 1) + first;
      const uint8_t* high = block.qh + 32 * half + first;
      const int low_shift = 4 * (part / 2), high_shift = 2 * part;
      for (int i = 0; i < 16; ++i) {
        const int q = ((low[i] >> low_shift) & 15) | (((high[i] >> high_shift) & 3) << 4);
        y[16 * group + i] = scale * float(q - 32);
      }
    }
  });
}

void dequantize_q8_k(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockQ8_K, 256>(blocks, out, element_count, [](const BlockQ8_K& block, float* y) {
    const float d = block.d;
    for (int i = 0; i < 256; ++i) y[i] = d * float(block.qs[i]);
  });
}

void dequantize_iq4_xs(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ4_XS, 256>(blocks, out, element_count, [](const BlockIQ4_XS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int s = 0; s < 8; ++s) {
      const float scale = d * float(iq4_xs_scale(block, s));
      for (int i = 0; i < 16; ++i) {
        const uint8_t pair = block.qs[16 * s + i];
        y[32 * s + i] = scale * float(kIq4NlValues[pair & 15]);
        y[32 * s + 16 + i] = scale * float(kIq4NlValues[pair >> 4]);
      }
    }
  });
}

}  // namespace dw::quant
