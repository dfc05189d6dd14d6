// Quantisers of the super-block types: the fit (super_fit.h), then each type's packing.
#include "quant/blocks.h"
#include "quant/code_books.h"
#include "quant/codecs.h"
#include "quant/super_fit.h"

namespace dw::quant {
namespace {

template <class Block, int N, class Encode>
void for_each_super_tile(const float* values, std::byte* bytes, int64_t element_count,
                         const float* importance, const Encode& encode) {
  DW_CHECK(element_count >= 0 && element_count % 256 == 0, "a row is a whole number of blocks");
  Block* blocks = reinterpret_cast<Block*>(bytes);
  for (int64_t i = 0; i < element_count / 256; ++i) {
    SuperTile<N> super;
    load_super_tile(super, values + 256 * i, importance ? importance + 256 * i : nullptr);
    blocks[i] = Block{};
    encode(super, blocks[i]);
  }
}

// Integer scales in the order of the groups.
template <int kTiles>
void store_integers(const F4 (&lanes)[kTiles], int8_t* out) {
  for (int t = 0; t < kTiles; ++t)
    for (int lane = 0; lane < kLanes; ++lane) out[4 * t + lane] = int8_t(lanes[t][lane]);
}

template <int kLow, int kHigh, int N>
void linear_codes(const SuperTile<N>& super, const SuperScale<N>& fit, uint8_t codes[256]) {
  super_codes(super, codes, [&](int t, F4 x) {
    const F4 q = LinearCodes<kLow, kHigh>::nearest(x * inverse(splat(fit.d) * fit.scale[t]));
    return __builtin_convertvector(q, M4) - kLow;
  });
}

template <int kHigh, int N>
void offset_codes(const SuperTile<N>& super, const SuperOffset<N>& fit, uint8_t codes[256]) {
  super_codes(super, codes, [&](int t, F4 x) {
    const F4 lifted = x + splat(fit.dmin) * fit.min[t];
    const F4 q = LinearCodes<0, kHigh>::nearest(lifted * inverse(splat(fit.d) * fit.scale[t]));
    return __builtin_convertvector(q, M4);
  });
}

// The reverse of unpack_k_scales.
void pack_k_scales(const int8_t scales[8], const int8_t mins[8], uint8_t packed[12]) {
  for (int i = 0; i < 4; ++i) {
    packed[i] = uint8_t(scales[i] | ((scales[4 + i] & 48) << 2));
    packed[4 + i] = uint8_t(mins[i] | ((mins[4 + i] & 48) << 2));
    packed[8 + i] = uint8_t((scales[4 + i] & 15) | ((mins[4 + i] & 15) << 4));
  }
}

// Low nibbles of 32 codes with those of the next 32 above them.
void pack_nibble_rows(const uint8_t codes[256], uint8_t packed[128]) {
  for (int pair = 0; pair < 4; ++pair)
    for (int i = 0; i < 32; ++i) {
      const uint8_t* low = codes + 64 * pair + i;
      packed[32 * pair + i] = uint8_t((low[0] & 15) | ((low[32] & 15) << 4));
    }
}

// Two bits of each code: 32 s + l of a half at bits 2s of byte l.
void pack_two_bits(const uint8_t codes[256], int shift, uint8_t packed[64]) {
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 32; ++i) {
      int byte = 0;
      for (int s = 0; s < 4; ++s) byte |= ((codes[128 * half + 32 * s + i] >> shift) & 3) << (2 * s);
      packed[32 * half + i] = uint8_t(byte);
    }
}

// One bit of each code: 32 g + l at bit g of byte l.
void pack_one_bit(const uint8_t codes[256], int shift, uint8_t packed[32]) {
  for (int i = 0; i < 32; ++i) {
    int byte = 0;
    for (int g = 0; g < 8; ++g) byte |= ((codes[32 * g + i] >> shift) & 1) << g;
    packed[i] = uint8_t(byte);
  }
}

// First codes of a group's largest value, then of the largest group scale (trials of group_fit and
// super_fit).
constexpr Overhang kOverhangs[] = {{0, 0},         {-0.3f, 0.2f},  {0.2f, -0.3f}, {0.4f, 0.4f},  {0.9f, 0.1f},
                                   {0.1f, 0.9f},   {-0.4f, -0.4f}, {0.5f, -0.2f}, {-0.2f, 0.5f}, {0.1f, 0.1f},
                                   {-0.1f, -0.1f}, {0.7f, 0.7f},   {1.2f, 1.2f},  {0.6f, 0.2f},  {0.2f, 0.6f},
                                   {1.3f, 0.4f},   {0.4f, 1.3f}};
constexpr float kTrials3[] = {-4.0f,  -3.6f, -4.5f, 3.0f, 3.4f, -5.2f, 4.0f, -3.8f,
                              -4.25f, -3.4f, -4.8f, 3.2f, 3.7f, 2.8f,  4.4f};
constexpr float kTrials6[] = {-32.0f, -31.75f, -31.5f, -31.25f, -31.0f,  -32.25f, -32.5f, 31.5f,
                              31.25f, 31.0f,   30.75f, 30.5f,   -30.75f, -30.5f,  30.25f, -33.0f};
constexpr float kTrialsIq4[] = {-127.0f, -121.0f, -134.0f, -142.0f, 113.0f, 120.0f, 106.0f};
constexpr float kSuper15[] = {15.0f, 14.2f, 13.0f};
constexpr float kSuper63[] = {63.0f, 61.0f, 59.0f, 57.0f, 54.0f, 50.0f};
constexpr float kSuper32[] = {-32.0f, -29.0f, 31.0f, -30.5f};
constexpr float kSuper128[] = {-128.0f, -118.0f, -123.0f, -110.0f};

}  // namespace

void quantize_q2_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const SuperTile<16>& super, BlockQ2_K& out) {
    const auto fit = fit_super_offset<3, 15>(super, kOverhangs, 2, kSuper15);
    int8_t scales[16], mins[16];
    store_integers(fit.scale, scales);
    store_integers(fit.min, mins);
    uint8_t codes[256];
    offset_codes<3>(super, fit, codes);
    for (int g = 0; g < 16; ++g) out.scales[g] = uint8_t(scales[g] | (mins[g] << 4));
    pack_two_bits(codes, 0, out.qs);
    out.d = half_scale(fit.d * super.unit);
    out.dmin = half_scale(fit.dmin * super.unit);
  };
  for_each_super_tile<BlockQ2_K, 16>(values, blocks, element_count, importance, encode);
}

void quantize_q3_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const SuperTile<16>& super, BlockQ3_K& out) {
    const auto fit = fit_super_scale<LinearCodes<-4, 3>, -32, 31>(super, kTrials3, kSuper32);
    int8_t scales[16];
    store_integers(fit.scale, scales);
    uint8_t codes[256];
    linear_codes<-4, 3>(super, fit, codes);
    for (int g = 0; g < 16; ++g) {
      const int biased = scales[g] + 32;
      out.scales[g & 7] |= uint8_t((biased & 15) << (g < 8 ? 0 : 4));
      out.scales[8 + (g & 3)] |= uint8_t((biased >> 4) << (2 * (g >> 2)));
    }
    pack_two_bits(codes, 0, out.qs);
    pack_one_bit(codes, 2, out.hmask);
    out.d = half_scale(fit.d * super.unit);
  };
  for_each_super_tile<BlockQ3_K, 16>(values, blocks, element_count, importance, encode);
}

void quantize_q4_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const SuperTile<32>& super, BlockQ4_K& out) {
    const auto fit = fit_super_offset<15, 63>(super, kOverhangs, 2, kSuper63);
    int8_t scales[8], mins[8];
    store_integers(fit.scale, scales);
    store_integers(fit.min, mins);
    uint8_t codes[256];
    offset_codes<15>(super, fit, codes);
    pack_k_scales(scales, mins, out.scales);
    pack_nibble_rows(codes, out.qs);
    out.d = half_scale(fit.d * super.unit);
    out.dmin = half_scale(fit.dmin * super.unit);
  };
  for_each_super_tile<BlockQ4_K, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q5_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const SuperTile<32>& super, BlockQ5_K& out) {
    const auto fit = fit_super_offset<31, 63>(super, kOverhangs, 2, kSuper63);
    int8_t scales[8], mins[8];
    store_integers(fit.scale, scales);
    store_integers(fit.min, mins);
    uint8_t codes[256];
    offset_codes<31>(super, fit, codes);
    pack_k_scales(scales, mins, out.scales);
    pack_nibble_rows(codes, out.qs);
    pack_one_bit(codes, 4, out.qh);
    out.d = half_scale(fit.d * super.unit);
    out.dmin = half_scale(fit.dmin * super.unit);
  };
  for_each_super_tile<BlockQ5_K, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q6_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const SuperTile<16>& super, BlockQ6_K& out) {
    const auto fit = fit_super_scale<LinearCodes<-32, 31>, -128, 127>(super, kTrials6, kSuper128);
    store_integers(fit.scale, out.scales);
    uint8_t codes[256];
    linear_codes<-32, 31>(super, fit, codes);
    for (int half = 0; half < 2; ++half)
      for (int i = 0; i < 64; ++i) {
        const uint8_t* low = codes + 128 * half + i;
        out.ql[64 * half + i] = uint8_t((low[0] & 15) | ((low[64] & 15) << 4));
      }
    pack_two_bits(codes, 4, out.qh);
    out.d = half_scale(fit.d * super.unit);
  };
  for_each_super_tile<BlockQ6_K, 16>(values, blocks, element_count, importance, encode);
}

void quantize_iq4_xs(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const SuperTile<32>& super, BlockIQ4_XS& out) {
    const auto fit = fit_super_scale<Iq4Codes, -32, 31>(super, kTrialsIq4, kSuper32);
    int8_t scales[8];
    store_integers(fit.scale, scales);
    uint8_t codes[256];
    super_codes(super, codes,
                [&](int t, F4 x) { return Iq4Codes::index(x * inverse(splat(fit.d) * fit.scale[t])); });
    for (int s = 0; s < 8; ++s) {
      const int biased = scales[s] + 32;
      out.scales_l[s / 2] |= uint8_t((biased & 15) << (4 * (s & 1)));
      out.scales_h |= uint16_t((biased >> 4) << (2 * s));
      for (int i = 0; i < 16; ++i)
        out.qs[16 * s + i] = uint8_t(codes[32 * s + i] | (codes[32 * s + 16 + i] << 4));
    }
    out.d = half_scale(fit.d * super.unit);
  };
  for_each_super_tile<BlockIQ4_XS, 32>(values, blocks, element_count, importance, encode);
}

}  // namespace dw::quant
