// Arguments of the tensor-core product (mma_gemm.h) and its launchers, one a family of weight types.
#pragma once

#include <cstdint>

#include "kernels/gpu/context.h"
#include "kernels/gpu/moe_route.h"

namespace dw::gpu {

enum class MmaOutput : int32_t {
  kRows,    // fp32 [tokens, out_stride]
  kHidden,  // f16 of silu(gate) * up, packed order, [slots, out_stride]
  kPairs,   // f16 times 2^kPairScaleLog2 - exponent, [pairs, out_stride]
};

// What experts add lies far below 1 as a rule: f16 keeps its bits that way.
inline constexpr int kPairScaleLog2 = 8;

// -127 < exponent < 128
DW_DEVICE float power_of_two(int exponent) {
  return __uint_as_float(uint32_t(exponent + 127) << 23);
}

struct MmaJob {
  const uint8_t* weights[2] = {};  // kHidden: gate and up; else the first
  uint64_t row_bytes = 0, expert_bytes = 0;
  int32_t rows = 0, columns = 0;  // of each matrix; columns % 32 == 0
  int32_t padded = 0;             // columns rounded up to 128
  int32_t row_tiles = 0;          // kHidden: of 64 rows of each of gate and up; else of 128 rows
  int32_t row_tiles_per_block = 1;

  // f16 rows, [*, padded] in packed order; x_low: what rounding x left, for fp32 weights
  const uint16_t* x = nullptr;
  const uint16_t* x_low = nullptr;
  const float* x_scale = nullptr;      // [*]: of a row; nullptr: 1
  const uint8_t* exponents = nullptr;  // [*, padded / 64]: of 64 columns of a row; nullptr: 0

  const ExpertTile* tiles = nullptr;    // [*tile_count]; nullptr: kN rows each of `tokens`
  const int32_t* tile_count = nullptr;  // device
  int32_t tokens = 0;                   // without tiles
  const int32_t* slot_pair = nullptr;   // [slots]: token * top_k + choice; nullptr: slot
  int32_t gather = 0;                   // row of x = pair / gather; 0: slot

  MmaOutput output = MmaOutput::kRows;
  bool add = false;
  bool aligned = false;                  // out is fit for float2
  float inverse_weight_scale = 1;        // set by the launcher
  const float* column_weight = nullptr;  // [pairs]: factor of the result; nullptr: 1
  float* out = nullptr;                  // kRows
  uint16_t* hidden = nullptr;            // kHidden
  uint8_t* hidden_exponents = nullptr;   // kHidden, [slots, out_stride / 64]
  uint16_t* pairs = nullptr;             // kPairs
  uint8_t* pair_exponents = nullptr;     // kPairs, [pairs, row_tiles]: of 128 values
  int64_t out_stride = 0;                // elements
};

// Within 128 columns, fragment place p (0..15) of product s (0..7) holds column 32 c + 4 s + j: lane c of
// four has a chunk of 32 columns to itself. Position 16 s + p of a packed row.
inline constexpr __host__ __device__ int column_at_position(int position) {
  const int s = position % 128 / 16, p = position % 16;
  return position / 128 * 128 + 32 * (p % 8 / 2) + 4 * s + p % 2 + 2 * (p / 8);
}
inline constexpr __host__ __device__ int packed_position(int column) {
  const int c = column % 128 / 32, s = column % 32 / 4, j = column % 4;
  return column / 128 * 128 + 16 * s + 2 * c + j % 2 + 8 * (j / 2);
}

// Tiles are 16, 64, 128 or 192 tokens wide; types that files rarely consist of have kernels for 64 only, and
// fp32 none beyond 64: their activations take twice the room.
inline constexpr bool has_all_tiles(quant::Type type) {
  using enum quant::Type;
  return type == Q2_K || type == Q3_K || type == Q4_K || type == Q5_K || type == Q6_K || type == Q8_0 ||
         type == Q4_0 || type == MXFP4 || type == F32;
}
// The narrowest kernel for tiles of that many tokens, or the widest there is.
inline constexpr int mma_tile_tokens(quant::Type type, int64_t tokens) {
  if (!has_all_tiles(type)) return 64;
  if (tokens <= 64 || type == quant::Type::F32) return tokens <= 16 ? 16 : 64;
  return tokens <= 128 ? 128 : 192;
}

// A copy of x in f16; see pack_halves().
struct PackedRows {
  uint16_t* high = nullptr;  // [rows, padded]
  uint16_t* low = nullptr;   // [rows, padded]; nullptr: not wanted
  float* scale = nullptr;    // [rows], powers of two
  int32_t padded = 0;
};
inline constexpr int32_t padded_columns(int64_t columns) {
  return int32_t((columns + 127) / 128 * 128);
}
// x = scale (high + low), zeros beyond the columns. With a shared router (a column vector) sigmoid(router x)
// of each row as well; `zeroed` numbers are set to 0 on the way.
void pack_halves(Context& context, const ops::Activations& x, const PackedRows& rows,
                 const float* shared_router, float* shared_weight, int32_t* zeroed, int32_t zeroed_count);

bool launch_mma(Context& context, quant::Type type, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
                const char* name, const Work& work);
bool mma_supports(const ops::Matrix& matrix);

// Queues the product; grid_tiles: how many tiles there may be. false: not a type of the family.
bool launch_mma_float(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                      uint32_t grid_tiles, const char* name, const Work& work);
bool launch_mma_simple(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                       uint32_t grid_tiles, const char* name, const Work& work);
bool launch_mma_k(Context& context, quant::Type type, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
                  const char* name, const Work& work);
bool launch_mma_iq(Context& context, quant::Type type, int tile_tokens, const MmaJob& job,
                   uint32_t grid_tiles, const char* name, const Work& work);

}  // namespace dw::gpu
