// What every instruction-set level of the quantised matrix product shares: the unpacked panel of weights, the
// packed activations, and how each type is cut into them.
//
// A tile is 16 rows of W ("lane = row"). For each unit of up to 256 columns the 16 rows are unpacked into a
// Panel: unsigned 8-bit quants u in the operand order of the dot instructions, and the scales of each group
// of columns. A weight is then one of
//   kBlock:  w = d[block] * (u - offset) + min[block]                          blocks of 32 columns
//   kSuper:  w = d * scale[group] * (u - offset) - dmin * min[group]           groups of 16 or 32 columns
// and the dot product of one row with one token, always in this order and thus independent of the other
// tokens and rows, is the sum over units (a = activation scale of a block, q = activation quants):
//   kBlock:  for each block: sum += (d * a) * float(u . q - offset * sum(q)); sum += min * (a * sum(q))
//   kSuper:  for each block: s += a * float(integer dot with the integer scales); m += min * (a * sum(q))
//            sum += d * s; sum -= dmin * m
// Types of two planes (planes_of) make a second sum with the activations' residual plane, as if it were
// another token, and add it to the first at the end.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul.h"

namespace dw::cpu {

inline constexpr int kUnitColumns = 256;
inline constexpr int kUnitBlocks = kUnitColumns / 32;

struct alignas(64) Panel {
  uint8_t quants[kUnitColumns / 4][kRowTile][4];
  int32_t scales[16][kRowTile];    // kSuper: [group][row]
  float mins[16][kRowTile];        // [group][row]
  float d[kUnitBlocks][kRowTile];  // kBlock: [block][row]; kSuper: [0][row]
  float dmin[kRowTile];            // kSuper
};

// One token's activations in one unit.
struct alignas(32) TokenUnit {
  int8_t quants[kUnitColumns];
  float scales[kUnitBlocks];
  int32_t bias[16];  // -offset * sum(q) over each group (format.group columns)
  float sums[16];    // scale * sum(q) over each group of format.min_group columns
};

enum class Scaling : uint8_t { kBlock, kSuper };
struct Format {
  Scaling scaling = Scaling::kBlock;
  int group = 32;       // columns of an integer scale
  bool scaled = false;  // integer scales (kSuper)
  int min_group = 0;    // columns of a min; 0: none
  int offset = 0;       // of the quants
  int max_quant = 255;  // largest u
  bool operator==(const Format&) const = default;
};

constexpr Format format_of(quant::Type type) {
  using enum quant::Type;
  using enum Scaling;
  switch (type) {
    case Q8_0:
      return {kBlock, 32, false, 0, 128, 255};
    case Q4_0:
      return {kBlock, 32, false, 0, 8, 15};
    case Q4_1:
      return {kBlock, 32, false, 32, 0, 15};
    case Q5_0:
      return {kBlock, 32, false, 0, 16, 31};
    case Q5_1:
      return {kBlock, 32, false, 32, 0, 31};
    case IQ4_NL:
      return {kBlock, 32, false, 0, 128, 255};
    case MXFP4:
      return {kBlock, 32, false, 0, 12, 24};
    case Q2_K:  // quants times their 4-bit scale: at most 45
      return {kSuper, 32, false, 16, 0, 45};
    case Q3_K:
      return {kSuper, 16, true, 0, 4, 7};
    case Q4_K:
      return {kSuper, 32, true, 32, 0, 15};
    case Q5_K:
      return {kSuper, 32, true, 32, 0, 31};
    case Q6_K:
      return {kSuper, 16, true, 0, 32, 63};
    case Q8_K:
      return {kSuper, 32, false, 0, 128, 255};
    case IQ4_XS:
      return {kSuper, 32, true, 0, 128, 255};
    case IQ2_XXS:
      return {kSuper, 32, true, 0, 64, 107};
    case IQ2_XS:
    case IQ2_S:
      return {kSuper, 16, true, 0, 64, 107};
    case IQ3_XXS:
      return {kSuper, 32, true, 0, 64, 126};
    case IQ3_S:
      return {kSuper, 32, true, 0, 16, 31};
    case IQ1_S:  // 8 * grid +- 1
      return {kSuper, 32, true, 0, 16, 25};
    case IQ1_M:
      return {kSuper, 16, true, 0, 16, 25};
    default:
      return {};
  }
}

// Planes of int8 activations that the type multiplies. The error of one plane (NMSE 2e-5 a product) is as
// large as that of these types' own rounding; with the residual (residual_kernels.h) it is 6e4 times smaller.
constexpr int planes_of(quant::Type type) {
  using enum quant::Type;
  return type == Q8_0 || type == Q6_K || type == Q8_K ? 2 : 1;
}

// Unpacks one unit of 16 rows; rows lie `stride` bytes apart, `blocks` blocks of 32 columns each (8 for the
// types of 256-column blocks).
using UnpackFn = void (*)(const std::byte* rows, int64_t stride, int blocks, Panel& panel);
// sums[t * 16 + row] += the unit's part, for t < the kernel's token count; units of the tokens are adjacent.
using DotFn = void (*)(const Panel& panel, const TokenUnit* tokens, int blocks, float* sums);

// sums[row] = the whole product of a tile with one token (units one after the other, a unit's planes side by
// side). `next`: the tile
// that will be read after this one, or this one. Gives the bits that unpack and dot give.
using GemvFn = void (*)(const std::byte* rows, int64_t stride, int64_t columns, const TokenUnit* token,
                        const std::byte* next, float* sums);

inline constexpr int kMaxTokenTile = 8;
struct TypeKernels {
  UnpackFn unpack = nullptr;
  DotFn dot[kMaxTokenTile + 1] = {};  // [tokens]
  int max_tokens = 1;                 // dot[1 .. max_tokens] exist
  GemvFn gemv = nullptr;              // optional
};

// Portable unpackers (matmul_unpack.cpp).
UnpackFn portable_unpacker(quant::Type type);

// The kernels of each level (the file matmul_<level>.cpp); unpack is nullptr for types without quants.
TypeKernels portable_kernels(quant::Type type);
TypeKernels avx2_kernels(quant::Type type);
TypeKernels avx512_kernels(quant::Type type);
GemvFn avx512_gemv(quant::Type type);

// F32, F16, BF16: rows [row_begin, row_end) of the call.
void float_rows_portable(const MatmulCall& call, int64_t row_begin, int64_t row_end);
void float_rows_avx2(const MatmulCall& call, int64_t row_begin, int64_t row_end);
void float_rows_avx512(const MatmulCall& call, int64_t row_begin, int64_t row_end);

// The residual plane of one unit of a token (residual_kernels.h). sums[16].
using ResidualFn = void (*)(const float* values, const int8_t* quants, const float* scales, int blocks,
                            int8_t* out_quants, float* out_scales, float* sums);
ResidualFn portable_residual();
ResidualFn avx2_residual();
ResidualFn avx512_residual();

void quantize_portable(const float* values, int64_t columns, int8_t* quants, float* scales, int16_t* sums);
void quantize_avx2(const float* values, int64_t columns, int8_t* quants, float* scales, int16_t* sums);
void quantize_avx512(const float* values, int64_t columns, int8_t* quants, float* scales, int16_t* sums);

}  // namespace dw::cpu
