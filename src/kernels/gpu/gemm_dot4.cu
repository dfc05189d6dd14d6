// Many tokens with integer dot products, without tensor cores: tiles of 64 rows and 64 tokens, 64 columns at
// a time; weights are decoded once a tile into int8 quants in shared memory.
#include <algorithm>

#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;       // rows, and tokens
constexpr int kStepChunks = 2;  // of 32 columns, a step
// 16-byte words a row of the tile: 2 a chunk, and one more so that the rows that neighbouring lanes read
// begin in different banks (5 words: consecutive rows are 20 banks apart, eight rows cover all 32).
constexpr int kRowWords = 2 * kStepChunks + 1;
constexpr float kResidualSteps = 254.0f;  // as in gemv_stage.h

struct Tile {
  int4 weights[kTile][kRowWords];
  int4 tokens[kTile][kRowWords];
  int4 residual[kTile][kRowWords];  // only for types with kFine
  float weight_scale[kStepChunks][2][kTile];
  float weight_offset[kStepChunks][2][kTile];
  float token_scale[kStepChunks][kTile];
  float token_sum[kStepChunks][2][kTile];  // scale * sum of a half
};

struct GemmArguments {
  ops::Activations x;
  ExpertGroups groups;
  const uint8_t* weight;
  float* out;
  int64_t out_stride;
  uint32_t row_bytes;
  int32_t rows;
  bool add;
  IqTables tables;
};

// What a block multiplies: rows of x and where their results go.
struct BlockTokens {
  const uint8_t* weight;  // of its expert
  int32_t row[kTile];     // of x; -1: none
  int32_t out[kTile];
  float factor[kTile];
};

// false: the block has nothing to do.
DW_DEVICE bool find_tokens(const GemmArguments& a, BlockTokens& block) {
  const ExpertGroups& groups = a.groups;
  ExpertTile tile = {0, int(blockIdx.y) * kTile, kTile};
  if (groups.sorted.tiles != nullptr) {
    if (int(blockIdx.y) >= *groups.sorted.tile_count) return false;
    tile = groups.sorted.tiles[blockIdx.y];
  } else {
    tile.count = min(kTile, int(a.x.tokens) - tile.first);
  }
  const int n = int(threadIdx.x);
  if (n == 0) block.weight = a.weight + uint64_t(tile.expert) * groups.expert_bytes;
  if (n < kTile) {
    const int slot = tile.first + n;
    const bool inside = n < tile.count;
    const int pair = inside && groups.sorted.slot_pair != nullptr ? groups.sorted.slot_pair[slot] : slot;
    block.row[n] = !inside ? -1 : groups.gather != 0 ? pair / groups.gather : slot;
    block.out[n] = groups.by_pair ? pair : slot;
    block.factor[n] = inside && groups.pair_weight != nullptr ? groups.pair_weight[pair] : 1.0f;
  }
  __syncthreads();
  return true;
}

DW_DEVICE void store_sums(const GemmArguments& a, const BlockTokens& block, int first_row, int row, int token,
                          const float (&sums)[4][4]) {
#pragma unroll
  for (int t = 0; t < 4; ++t)
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int n = first_row + 16 * r + row, m = 16 * t + token;
      if (n >= a.rows || block.row[m] < 0) continue;
      float* to = a.out + int64_t(block.out[m]) * a.out_stride + n;
      const float value = sums[r][t] * block.factor[m];
      *to = a.add ? *to + value : value;
    }
}

// Thread i loads the chunk i % 2 of row i / 2 (i < 128) or of token i / 2 - 64.
template <class W>
DW_DEVICE void load_weight(const GemmArguments& a, const uint8_t* weight, int first_row, int first_chunk,
                           int chunks, int i, Tile& tile) {
  const int row = i / kStepChunks, part = i % kStepChunks, chunk = first_chunk + part;
  Chunk c = {};
  if (first_row + row < a.rows && chunk < chunks) {
    const uint8_t* from = weight + uint64_t(first_row + row) * a.row_bytes;
    c = W::decode(W::fetch(from, 32 * chunks, chunk), chunk, a.tables);
  }
  tile.weights[row][2 * part] = {c.q[0], c.q[1], c.q[2], c.q[3]};
  tile.weights[row][2 * part + 1] = {c.q[4], c.q[5], c.q[6], c.q[7]};
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    tile.weight_scale[part][h][row] = c.scale[h];
    tile.weight_offset[part][h][row] = c.offset[h];
  }
}

DW_DEVICE int residual_word(const float* values, int quants, float scale) {
  int word = 0;
  for (int i = 0; i < 4; ++i) {
    const int q = int8_t(quants >> (8 * i));
    const int r = scale == 0 ? 0 : __float2int_rn((__fdiv_rn(values[i], scale) - float(q)) * kResidualSteps);
    word |= (min(max(r, -127), 127) & 255) << (8 * i);
  }
  return word;
}

template <class W>
DW_DEVICE void load_token(const GemmArguments& a, const BlockTokens& block, int first_chunk, int chunks,
                          int i, Tile& tile) {
  const int t = i / kStepChunks, part = i % kStepChunks, chunk = first_chunk + part;
  const int64_t token = block.row[t];
  int4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0}, fine_low = low, fine_high = high;
  float scale = 0;
  int sums = 0;
  if (token >= 0 && chunk < chunks) {
    const int64_t at = token * chunks + chunk;
    low = reinterpret_cast<const int4*>(a.x.quants)[2 * at];
    high = reinterpret_cast<const int4*>(a.x.quants)[2 * at + 1];
    scale = a.x.scales[at];
    sums = reinterpret_cast<const int*>(a.x.sums)[at];
    if constexpr (W::kFine) {
      const float* v = a.x.values + 32 * at;
      fine_low = {residual_word(v, low.x, scale), residual_word(v + 4, low.y, scale),
                  residual_word(v + 8, low.z, scale), residual_word(v + 12, low.w, scale)};
      fine_high = {residual_word(v + 16, high.x, scale), residual_word(v + 20, high.y, scale),
                   residual_word(v + 24, high.z, scale), residual_word(v + 28, high.w, scale)};
    }
  }
  tile.tokens[t][2 * part] = low;
  tile.tokens[t][2 * part + 1] = high;
  if constexpr (W::kFine) {
    tile.residual[t][2 * part] = fine_low;
    tile.residual[t][2 * part + 1] = fine_high;
  }
  tile.token_scale[part][t] = scale;
  tile.token_sum[part][0][t] = scale * float(int16_t(sums));
  tile.token_sum[part][1][t] = scale * float(sums >> 16);
}

DW_DEVICE int dot16(const int4& a, const int4& b) {
  return dot4(a.x, b.x, dot4(a.y, b.y, dot4(a.z, b.z, dot4(a.w, b.w, 0))));
}

// One half (16 columns) of a chunk: sums[r][t] of rows 16 r + row and tokens 16 t + token.
template <class W>
DW_DEVICE void multiply_half(const Tile& tile, int part, int h, int row, int token, float (&sums)[4][4]) {
  int4 w[4], x[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) w[i] = tile.weights[16 * i + row][2 * part + h];
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = tile.tokens[16 * i + token][2 * part + h];
  float products[4][4];
#pragma unroll
  for (int r = 0; r < 4; ++r)
#pragma unroll
    for (int t = 0; t < 4; ++t) products[r][t] = float(dot16(w[r], x[t]));
  if constexpr (W::kFine) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = tile.residual[16 * i + token][2 * part + h];
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
      for (int t = 0; t < 4; ++t)
        products[r][t] = fmaf(float(dot16(w[r], x[t])), 1.0f / kResidualSteps, products[r][t]);
  }
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const float scale = tile.token_scale[part][16 * t + token];
#pragma unroll
    for (int r = 0; r < 4; ++r)
      sums[r][t] = fmaf(tile.weight_scale[part][h][16 * r + row] * scale, products[r][t], sums[r][t]);
    if constexpr (W::kOffset) {
      const float sum = tile.token_sum[part][h][16 * t + token];
#pragma unroll
      for (int r = 0; r < 4; ++r)
        sums[r][t] = fmaf(tile.weight_offset[part][h][16 * r + row], sum, sums[r][t]);
    }
  }
}

template <quant::Type kType>
__global__ void DW_LAUNCH_BOUNDS(kThreads, 2) gemm_dot4_kernel(const DW_GRID_CONSTANT GemmArguments a) {
  using W = Weights<kType>;
  __shared__ Tile tile;
  __shared__ BlockTokens block;
  wait_for_previous();
  allow_next();
  if (!find_tokens(a, block)) return;
  const int first_row = int(blockIdx.x) * kTile, chunks = int(a.x.columns) / 32;
  const int row = int(threadIdx.x) % 16, token = int(threadIdx.x) / 16;
  float sums[4][4] = {};
  for (int chunk = 0; chunk < chunks; chunk += kStepChunks) {
    const int i = int(threadIdx.x);
    if (i < kTile * kStepChunks)
      load_weight<W>(a, block.weight, first_row, chunk, chunks, i, tile);
    else
      load_token<W>(a, block, chunk, chunks, i - kTile * kStepChunks, tile);
    __syncthreads();
#pragma unroll
    for (int part = 0; part < kStepChunks; ++part)
#pragma unroll
      for (int h = 0; h < 2; ++h) multiply_half<W>(tile, part, h, row, token, sums);
    __syncthreads();
  }
  store_sums(a, block, first_row, row, token, sums);
}

// Unquantised weights: the same tiles in fp32, 16 columns a step.
constexpr int kFloatStep = 16;
template <quant::Type kType>
__global__ void __launch_bounds__(kThreads) gemm_float_kernel(const DW_GRID_CONSTANT GemmArguments a) {
  __shared__ float weights[kFloatStep][kTile + 1];
  __shared__ float tokens[kFloatStep][kTile + 1];
  __shared__ BlockTokens block;
  wait_for_previous();
  allow_next();
  if (!find_tokens(a, block)) return;
  const int first_row = int(blockIdx.x) * kTile, columns = int(a.x.columns);
  const int row = int(threadIdx.x) % 16, token = int(threadIdx.x) / 16;
  float sums[4][4] = {};
  for (int first = 0; first < columns; first += kFloatStep) {
    for (int i = threadIdx.x; i < kTile * kFloatStep; i += kThreads) {
      const int line = i / kFloatStep, column = first + i % kFloatStep;
      float w = 0, x = 0;
      if (column < columns) {
        if (first_row + line < a.rows)
          w = FloatWeights<kType>::get(block.weight + uint64_t(first_row + line) * a.row_bytes, column);
        if (block.row[line] >= 0) x = a.x.values[int64_t(block.row[line]) * columns + column];
      }
      weights[i % kFloatStep][line] = w;
      tokens[i % kFloatStep][line] = x;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kFloatStep; ++k) {
      float w[4], x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) w[i] = weights[k][16 * i + row], x[i] = tokens[k][16 * i + token];
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int t = 0; t < 4; ++t) sums[r][t] = fmaf(w[r], x[t], sums[r][t]);
    }
    __syncthreads();
  }
  store_sums(a, block, first_row, row, token, sums);
}

}  // namespace

void gemm_dot4(Context& context, const ops::Activations& x, const ops::Linear& output,
               const ExpertGroups& groups) {
  const ops::Matrix& w = output.weight;
  if (x.tokens == 0 || w.rows == 0) return;
  GemmArguments a = {};
  a.x = x;
  a.groups = groups;
  a.weight = reinterpret_cast<const uint8_t*>(w.data);
  a.out = output.out;
  a.out_stride = output.out_stride != 0 ? output.out_stride : w.rows;
  a.row_bytes = uint32_t(w.row_stride());
  a.rows = int32_t(w.rows);
  a.add = output.add;
  a.tables = context.tables;
  const Work work = {"linear",
                     double(w.matrix_bytes()) + double(x.tokens) * double(x.columns) * 1.25 +
                         double(x.tokens * w.rows) * (output.add ? 8 : 4),
                     2.0 * double(x.tokens) * double(w.rows) * double(w.columns)};
  static_assert(kTile == kDot4Tokens);
  const dim3 grid(ceil_div(w.rows, kTile),
                  groups.sorted.tiles != nullptr ? groups.tile_bound : ceil_div(x.tokens, kTile));
  const bool found =
      visit_float_type(w.type,
                       [&](auto t) {
                         launch(context, "gemm_float_kernel", work, gemm_float_kernel<t.value>, grid,
                                dim3(kThreads), 0, a);
                       }) ||
      visit_quantised_type(w.type, [&](auto t) {
        launch(context, "gemm_dot4_kernel", work, gemm_dot4_kernel<t.value>, grid, dim3(kThreads), 0, a);
      });
  DW_CHECK(found, "matrices of this type cannot be multiplied");
}

}  // namespace dw::gpu
