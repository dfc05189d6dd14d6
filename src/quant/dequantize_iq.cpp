// The IQ types of 1 to 3 bits: a grid index names the magnitudes of 4 or 8 elements at once.
#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codecs.h"
#include "quant/iq_tables.h"

namespace dw::quant {
namespace {

// out[i] = scale * byte i of the grid entry, minus where bit i of signs is set.
template <class Word>
void signed_grid(float scale, Word entry, uint32_t signs, float* out) {
  for (int i = 0; i < int(sizeof(Word)); ++i) {
    const float magnitude = scale * float((entry >> (8 * i)) & 255u);
    out[i] = (signs >> i) & 1u ? -magnitude : magnitude;
  }
}

// out[i] = scale * (byte i of the IQ1 grid entry + delta).
void shifted_grid(float scale, uint64_t entry, float delta, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = scale * (float(int8_t(entry >> (8 * i))) + delta);
}

uint32_t sign_field(uint32_t word, int index) {
  return kIqSigns[(word >> (7 * index)) & 127u];
}

}  // namespace

void dequantize_iq2_xxs(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ2_XXS, 256>(blocks, out, element_count, [](const BlockIQ2_XXS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int s = 0; s < 8; ++s) {
      const uint32_t indices = block.qs[4 * s] | uint32_t(block.qs[4 * s + 1]) << 16;
      const uint32_t signs = block.qs[4 * s + 2] | uint32_t(block.qs[4 * s + 3]) << 16;
      const float scale = d * (0.5f + float(signs >> 28)) * 0.25f;
      for (int j = 0; j < 4; ++j)
        signed_grid(scale, kIq2xxsGrid[(indices >> (8 * j)) & 255u], sign_field(signs, j),
                    y + 32 * s + 8 * j);
    }
  });
}

void dequantize_iq2_xs(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ2_XS, 256>(blocks, out, element_count, [](const BlockIQ2_XS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int g = 0; g < 32; ++g) {
      const int nibble = (block.scales[g / 4] >> (4 * ((g / 2) & 1))) & 15;
      const float scale = d * (0.5f + float(nibble)) * 0.25f;
      signed_grid(scale, kIq2xsGrid[block.qs[g] & 511u], kIqSigns[block.qs[g] >> 9], y + 8 * g);
    }
  });
}

void dequantize_iq2_s(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ2_S, 256>(blocks, out, element_count, [](const BlockIQ2_S& block, float* y) {
    const float d = half_to_float(block.d);
    for (int g = 0; g < 32; ++g) {
      const int nibble = (block.scales[g / 4] >> (4 * ((g / 2) & 1))) & 15;
      const float scale = d * (0.5f + float(nibble)) * 0.25f;
      const uint32_t index = block.qs[g] | ((uint32_t(block.qh[g / 4]) >> (2 * (g & 3))) & 3u) << 8;
      signed_grid(scale, kIq2sGrid[index], block.signs[g], y + 8 * g);
    }
  });
}

void dequantize_iq3_xxs(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ3_XXS, 256>(blocks, out, element_count, [](const BlockIQ3_XXS& block, float* y) {
    const float d = half_to_float(block.d);
    for (int s = 0; s < 8; ++s) {
      const uint32_t signs = block.signs_scales[s];
      const float scale = d * (0.5f + float(signs >> 28)) * 0.5f;
      for (int j = 0; j < 8; ++j) {
        const uint32_t four_signs = sign_field(signs, j / 2) >> (4 * (j & 1));
        signed_grid(scale, kIq3xxsGrid[block.qs[8 * s + j]], four_signs, y + 32 * s + 4 * j);
      }
    }
  });
}

void dequantize_iq3_s(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ3_S, 256>(blocks, out, element_count, [](const BlockIQ3_S& block, float* y) {
    const float d = half_to_float(block.d);
    for (int s = 0; s < 8; ++s) {
      const int nibble = (block.scales[s / 2] >> (4 * (s & 1))) & 15;
      const float scale = d * float(1 + 2 * nibble);
      for (int j = 0; j < 8; ++j) {
        const uint32_t index = block.qs[8 * s + j] | ((uint32_t(block.qh[s]) >> j) & 1u) << 8;
        const uint32_t four_signs = uint32_t(block.signs[4 * s + j / 2]) >> (4 * (j & 1));
        signed_grid(scale, kIq3sGrid[index], four_signs, y + 32 * s + 4 * j);
      }
    }
  });
}

void dequantize_iq1_s(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ1_S, 256>(blocks, out, element_count, [](const BlockIQ1_S& block, float* y) {
    const float d = half_to_float(block.d);
    for (int s = 0; s < 8; ++s) {
      const uint32_t high = block.qh[s];
      const float scale = d * float(2 * ((high >> 12) & 7) + 1);
      const float delta = high & 0x8000u ? -kIq1Delta : kIq1Delta;
      for (int j = 0; j < 4; ++j) {
        const uint32_t index = block.qs[4 * s + j] | ((high >> (3 * j)) & 7u) << 8;
        shifted_grid(scale, kIq1Grid[index], delta, y + 32 * s + 8 * j);
      }
    }
  });
}

void dequantize_iq1_m(const std::byte* blocks, float* out, int64_t element_count) {
  for_each_block<BlockIQ1_M, 256>(blocks, out, element_count, [](const BlockIQ1_M& block, float* y) {
    const float d = half_to_float(iq1_m_scale(block));
    for (int g = 0; g < 32; ++g) {
      const uint32_t high = uint32_t(block.qh[g / 2]) >> (4 * (g & 1));
      const uint32_t code = (uint32_t(block.scales[g / 8]) >> (3 * ((g / 2) & 3))) & 7u;
      const uint32_t index = block.qs[g] | (high & 7u) << 8;
      shifted_grid(d * float(2 * code + 1), kIq1Grid[index], high & 8u ? -kIq1Delta : kIq1Delta, y + 8 * g);
    }
  });
}

}  // namespace dw::quant
