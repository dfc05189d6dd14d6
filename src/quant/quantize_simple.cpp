// Quantisers of the types of 32-element blocks (and Q8_K): four blocks at a time, one a lane.
#include "base/half.h"
#include "quant/blocks.h"
#include "quant/code_books.h"
#include "quant/codecs.h"
#include "quant/group_fit.h"

namespace dw::quant {
namespace {

// Calls encode(tile, blocks, count) for every four blocks; lanes past count are zeros.
template <class Block, int N, class Encode>
void for_each_tile(const float* values, std::byte* bytes, int64_t element_count, const float* importance,
                   const Encode& encode) {
  DW_CHECK(element_count >= 0 && element_count % N == 0, "a row is a whole number of blocks");
  Block* blocks = reinterpret_cast<Block*>(bytes);
  const int64_t block_count = element_count / N;
  for (int64_t first = 0; first < block_count; first += kLanes) {
    const int count = int(std::min<int64_t>(kLanes, block_count - first));
    Tile<N> tile{};
    tile.unit = splat(1);
    for (int lane = 0; lane < count; ++lane) {
      const float* group = values + (first + lane) * N;
      const float* weights = importance ? importance + (first + lane) * N : nullptr;
      const float heaviest = weights ? *std::max_element(weights, weights + N) : 0.0f;
      load_lane(tile, lane, group, heaviest > 0 ? weights : nullptr,
                power_of_two_below(largest_magnitude(group, N)), heaviest);
    }
    encode(tile, blocks + first, count);
  }
}

// Codes of a tile, one row a lane.
template <int N>
struct CodeRows {
  uint8_t at[kLanes][N];
};

template <int N>
void put_codes(CodeRows<N>& rows, int i, M4 codes) {
  for (int lane = 0; lane < kLanes; ++lane) rows.at[lane][i] = uint8_t(codes[lane]);
}

template <int kLow, int kHigh, int N>
CodeRows<N> linear_codes(const Tile<N>& tile, F4 scale, int bias) {
  CodeRows<N> rows;
  const F4 inv = inverse(scale);
  for (int i = 0; i < N; ++i) {
    const F4 q = LinearCodes<kLow, kHigh>::nearest(tile.x[i] * inv);
    put_codes(rows, i, __builtin_convertvector(q, M4) + bias);
  }
  return rows;
}

template <class Book, int N>
CodeRows<N> book_codes(const Tile<N>& tile, F4 scale) {
  CodeRows<N> rows;
  const F4 inv = inverse(scale);
  for (int i = 0; i < N; ++i) put_codes(rows, i, Book::index(tile.x[i] * inv));
  return rows;
}

// Low nibble: element i; high nibble: element i + 16.
void pack_nibbles(const uint8_t codes[32], uint8_t packed[16]) {
  for (int i = 0; i < 16; ++i) packed[i] = uint8_t((codes[i] & 15) | (codes[16 + i] << 4));
}

uint32_t fifth_bits(const uint8_t codes[32]) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= uint32_t(codes[i] >> 4) << i;
  return bits;
}

uint16_t half_of(const Tile<32>& tile, F4 scale, int lane) {
  return half_scale(scale[lane] * tile.unit[lane]);
}

// First trials of the fits: the codes (negative: the long side) that the largest value is mapped to. Near the
// best scale the error has many small dips, so that a few close trials pay.
constexpr float kTrials4[] = {-8.0f, -7.6f, -8.4f, -9.0f, 7.4f, 7.9f, -7.2f, 7.0f};
constexpr float kTrials5[] = {-16.0f, -15.6f, -16.4f, 15.4f, -17.0f, 15.0f, -15.2f, 15.8f};
constexpr float kTrials8[] = {127.0f, 126.5f, 126.0f, 127.3f, 126.75f, 125.5f};
constexpr Overhang kOverhangs[] = {{0, 0},       {-0.3f, 0.2f}, {0.2f, -0.3f}, {0.4f, 0.4f},
                                   {0.9f, 0.1f}, {0.1f, 0.9f},  {-0.4f, -0.4f}};
constexpr float kTrialsIq4[] = {-127.0f, -121.0f, -134.0f, -142.0f, 113.0f, 120.0f, 106.0f};

// The offset is stored first, so that the scale and the codes make up for its rounding. Leaves the tile
// centred.
template <int kHigh>
F4 settle_offset(Tile<32>& tile, const OffsetFit& fit, F4& offset) {
  offset = stored_scale(fit.offset, tile.unit);
  for (F4& x : tile.x) x -= offset;
  return settle_scale<LinearCodes<0, kHigh>>(tile, fit.scale);
}

}  // namespace

void quantize_q8_0(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  using Codes = LinearCodes<-127, 127>;
  const auto encode = [](const Tile<32>& tile, BlockQ8_0* out, int count) {
    const F4 scale = settle_scale<Codes>(tile, fit_scale<Codes>(tile, kTrials8, 0).scale);
    const auto codes = linear_codes<-127, 127>(tile, scale, 0);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = half_of(tile, scale, lane);
      std::memcpy(out[lane].qs, codes.at[lane], 32);
    }
  };
  for_each_tile<BlockQ8_0, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q4_0(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  using Codes = LinearCodes<-8, 7>;
  const auto encode = [](const Tile<32>& tile, BlockQ4_0* out, int count) {
    const F4 scale = settle_scale<Codes>(tile, fit_scale<Codes>(tile, kTrials4, 1).scale);
    const auto codes = linear_codes<-8, 7>(tile, scale, 8);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = half_of(tile, scale, lane);
      pack_nibbles(codes.at[lane], out[lane].qs);
    }
  };
  for_each_tile<BlockQ4_0, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q5_0(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  using Codes = LinearCodes<-16, 15>;
  const auto encode = [](const Tile<32>& tile, BlockQ5_0* out, int count) {
    const F4 scale = settle_scale<Codes>(tile, fit_scale<Codes>(tile, kTrials5, 1).scale);
    const auto codes = linear_codes<-16, 15>(tile, scale, 16);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = half_of(tile, scale, lane);
      out[lane].qh = fifth_bits(codes.at[lane]);
      pack_nibbles(codes.at[lane], out[lane].qs);
    }
  };
  for_each_tile<BlockQ5_0, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q4_1(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](Tile<32>& tile, BlockQ4_1* out, int count) {
    F4 offset;
    const F4 scale = settle_offset<15>(tile, fit_offset<15, false>(tile, kOverhangs, 1), offset);
    const auto codes = linear_codes<0, 15>(tile, scale, 0);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = half_of(tile, scale, lane);
      out[lane].m = half_of(tile, offset, lane);
      pack_nibbles(codes.at[lane], out[lane].qs);
    }
  };
  for_each_tile<BlockQ4_1, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q5_1(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](Tile<32>& tile, BlockQ5_1* out, int count) {
    F4 offset;
    const F4 scale = settle_offset<31>(tile, fit_offset<31, false>(tile, kOverhangs, 1), offset);
    const auto codes = linear_codes<0, 31>(tile, scale, 0);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = half_of(tile, scale, lane);
      out[lane].m = half_of(tile, offset, lane);
      out[lane].qh = fifth_bits(codes.at[lane]);
      pack_nibbles(codes.at[lane], out[lane].qs);
    }
  };
  for_each_tile<BlockQ5_1, 32>(values, blocks, element_count, importance, encode);
}

void quantize_iq4_nl(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const Tile<32>& tile, BlockIQ4_NL* out, int count) {
    const F4 scale = settle_scale<Iq4Codes>(tile, fit_scale<Iq4Codes>(tile, kTrialsIq4, 1).scale);
    const auto codes = book_codes<Iq4Codes>(tile, scale);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = half_of(tile, scale, lane);
      pack_nibbles(codes.at[lane], out[lane].qs);
    }
  };
  for_each_tile<BlockIQ4_NL, 32>(values, blocks, element_count, importance, encode);
}

// The scale is a power of two: the one that the largest value asks for, its half or its double.
void quantize_mxfp4(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  const auto encode = [](const Tile<32>& tile, BlockMXFP4* out, int count) {
    uint8_t best[kLanes] = {};
    ScaleFit fit;
    for (int step : {-3, -2, -4}) {
      F4 scale;
      uint8_t e[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        const int exponent = int(float_to_bits(tile.unit[lane]) >> 23) + 1 + step;
        e[lane] = uint8_t(std::clamp(exponent, 0, 254));
        scale[lane] = e8m0_half(e[lane]) / tile.unit[lane];
      }
      const F4 error = scale_error<E2M1Codes>(tile, scale);
      for (int lane = 0; lane < kLanes; ++lane)
        if (error[lane] < fit.error[lane]) {
          fit.error[lane] = error[lane];
          fit.scale[lane] = scale[lane];
          best[lane] = e[lane];
        }
    }
    const auto codes = book_codes<E2M1Codes>(tile, fit.scale);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].e = best[lane];
      pack_nibbles(codes.at[lane], out[lane].qs);
    }
  };
  for_each_tile<BlockMXFP4, 32>(values, blocks, element_count, importance, encode);
}

void quantize_q8_k(const float* values, std::byte* blocks, int64_t element_count, const float* importance) {
  using Codes = LinearCodes<-127, 127>;
  const auto encode = [](const Tile<256>& tile, BlockQ8_K* out, int count) {
    const F4 first = fit_scale<Codes>(tile, kTrials8, 0).scale;
    // Through the float that is stored: its codes are then those of the reader.
    const F4 stored = first * tile.unit;
    const auto codes = linear_codes<-127, 127>(tile, stored / tile.unit, 0);
    for (int lane = 0; lane < count; ++lane) {
      out[lane].d = stored[lane];
      std::memcpy(out[lane].qs, codes.at[lane], 256);
      for (int group = 0; group < 16; ++group) {
        int total = 0;
        for (int i = 0; i < 16; ++i) total += int8_t(codes.at[lane][16 * group + i]);
        out[lane].bsums[group] = int16_t(total);
      }
    }
  };
  for_each_tile<BlockQ8_K, 256>(values, blocks, element_count, importance, encode);
}

}  // namespace dw::quant
