// Mixture of experts for many tokens without tensor cores: tokens sorted by expert, tiles of 64 weight rows
// and 32 tokens, integer dot products of decoded weights with the int8 activations; fp32 for float weights.
#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_route.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/scratch.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kTileRows = 64;
constexpr int kTileTokens = 32;
constexpr int kStepChunks = 4;    // 64 rows x 4 chunks: one decode a thread
constexpr int kStepColumns = 32;  // of float weights
// A thread's outputs: rows thread / 16 + 16 i, tokens thread % 16 + 16 j.
constexpr int kOwnRows = 4, kOwnTokens = 2;
constexpr float kFineSteps = 254;  // of the second plane in one step of the first

enum class TileOutput : int32_t { kHidden, kPairs, kRows };

struct TileJob {
  const uint8_t* weights[2] = {};  // gate and up, or the first
  uint64_t row_bytes = 0, expert_bytes = 0;
  int32_t rows = 0, columns = 0;
  ops::Activations x;
  const ExpertTile* tiles = nullptr;  // nullptr: kTileTokens rows each of `tokens`
  const int32_t* tile_count = nullptr;
  int32_t tokens = 0;
  const int32_t* slot_pair = nullptr;  // nullptr: slot
  int32_t gather = 0;                  // row of x = pair / gather; 0: slot
  TileOutput output = TileOutput::kRows;
  const float* column_weight = nullptr;  // [pairs]; nullptr: 1
  float* out = nullptr;  // kHidden: [slots, rows], kPairs: [pairs, rows], kRows: [tokens, rows], added to
};

struct IntegerStage {
  int quants[kTileRows][kStepChunks * 8 + 1];
  float scale[kTileRows][kStepChunks * 2], offset[kTileRows][kStepChunks * 2];
};
struct ActivationStage {
  int quants[kTileTokens][kStepChunks * 8 + 1];
  int fine[kTileTokens][kStepChunks * 8 + 1];
  float scale[kTileTokens][kStepChunks];
  float sums[kTileTokens][kStepChunks * 2];
};

template <quant::Type kType, int kMatrices>
struct IntegerTile {
  using Trait = Weights<kType>;
  struct Room {
    IntegerStage weights[kMatrices];
    ActivationStage x;
  };

  DW_DEVICE void load_weights(const TileJob& job, const IqTables& tables, const uint8_t* matrix,
                              int first_row, int first_chunk, IntegerStage& stage) {
    const int r = int(threadIdx.x) / kStepChunks, c = int(threadIdx.x) % kStepChunks;
    const int row = min(first_row + r, job.rows - 1);
    const int chunk = min(first_chunk + c, job.columns / 32 - 1);
    const Chunk decoded = Trait::decode(
        Trait::fetch(matrix + uint64_t(row) * job.row_bytes, job.columns, chunk), chunk, tables);
    for (int i = 0; i < 8; ++i) stage.quants[r][8 * c + i] = decoded.q[i];
    for (int i = 0; i < 2; ++i) {
      stage.scale[r][2 * c + i] = decoded.scale[Trait::kTwoScales ? i : 0];
      stage.offset[r][2 * c + i] = decoded.offset[Trait::kTwoScales ? i : 0];
    }
  }

  // One quarter of a chunk a thread and round; rows beyond the tile and columns beyond the matrix are zeros.
  DW_DEVICE void load_activations(const TileJob& job, const int* rows, int first_chunk,
                                  ActivationStage& stage) {
    for (int i = int(threadIdx.x); i < kTileTokens * kStepChunks * 8; i += kThreads) {
      const int n = i / (kStepChunks * 8), word = i % (kStepChunks * 8), c = word / 8;
      const int64_t row = rows[n];
      const int chunk = first_chunk + c;
      const bool inside = row >= 0 && chunk < job.columns / 32;
      const int64_t at = inside ? row * job.columns + chunk * 32 + word % 8 * 4 : 0;
      const int quants = inside ? *reinterpret_cast<const int*>(job.x.quants + at) : 0;
      const float scale = inside ? job.x.scales[at / 32] : 0.0f;
      stage.quants[n][word] = quants;
      if (word % 8 == 0) stage.scale[n][c] = scale;
      if (word % 4 == 0) stage.sums[n][2 * c + word % 8 / 4] = inside ? float(job.x.sums[at / 16]) : 0.0f;
      if constexpr (Trait::kFine) {
        uint32_t fine = 0;
        for (int j = 0; j < 4; ++j) {
          const float rest =
              scale == 0 ? 0.0f : job.x.values[at + j] / scale - float(int8_t(quants >> 8 * j));
          fine |= (uint32_t(__float2int_rn(rest * kFineSteps)) & 255u) << (8 * j);
        }
        stage.fine[n][word] = int(fine);
      }
    }
  }

  DW_DEVICE float multiply_chunk(const IntegerStage& weights, const ActivationStage& x, int r, int n, int c) {
    float sum = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int dot = 0, fine = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int word = 8 * c + 4 * half + i;
        dot = dot4(weights.quants[r][word], x.quants[n][word], dot);
        if constexpr (Trait::kFine) fine = dot4(weights.quants[r][word], x.fine[n][word], fine);
      }
      float product = float(dot);
      if constexpr (Trait::kFine) product += float(fine) * (1.0f / kFineSteps);
      sum += weights.scale[r][2 * c + half] * product;
      if constexpr (Trait::kOffset) sum += weights.offset[r][2 * c + half] * x.sums[n][2 * c + half];
    }
    return sum * x.scale[n][c];
  }

  DW_DEVICE void run(const TileJob& job, const IqTables& tables, const uint8_t* const* matrices,
                     int first_row, const int* rows, Room& room,
                     float (&sums)[kMatrices][kOwnRows][kOwnTokens]) {
    for (int chunk = 0; chunk < job.columns / 32; chunk += kStepChunks) {
      __syncthreads();
      for (int m = 0; m < kMatrices; ++m)
        load_weights(job, tables, matrices[m], first_row, chunk, room.weights[m]);
      load_activations(job, rows, chunk, room.x);
      __syncthreads();
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
        for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
          for (int j = 0; j < kOwnTokens; ++j) {
            for (int c = 0; c < kStepChunks; ++c)
              sums[m][i][j] += multiply_chunk(room.weights[m], room.x, int(threadIdx.x) / 16 + 16 * i,
                                              int(threadIdx.x) % 16 + 16 * j, c);
          }
        }
      }
    }
  }
};

template <quant::Type kType, int kMatrices>
struct FloatTile {
  struct Room {
    float weights[kMatrices][kTileRows][kStepColumns + 1];
    float x[kTileTokens][kStepColumns + 1];
  };
  DW_DEVICE void run(const TileJob& job, const IqTables&, const uint8_t* const* matrices, int first_row,
                     const int* rows, Room& room, float (&sums)[kMatrices][kOwnRows][kOwnTokens]) {
    for (int first = 0; first < job.columns; first += kStepColumns) {
      __syncthreads();
      for (int i = int(threadIdx.x); i < kTileRows * kStepColumns; i += kThreads) {
        const int r = i / kStepColumns, k = i % kStepColumns;
        const int row = min(first_row + r, job.rows - 1);
        for (int m = 0; m < kMatrices; ++m)
          room.weights[m][r][k] =
              first + k < job.columns
                  ? FloatWeights<kType>::get(matrices[m] + uint64_t(row) * job.row_bytes, first + k)
                  : 0.0f;
      }
      for (int i = int(threadIdx.x); i < kTileTokens * kStepColumns; i += kThreads) {
        const int n = i / kStepColumns, k = i % kStepColumns;
        const bool inside = rows[n] >= 0 && first + k < job.columns;
        room.x[n][k] = inside ? job.x.values[int64_t(rows[n]) * job.columns + first + k] : 0.0f;
      }
      __syncthreads();
      for (int k = 0; k < kStepColumns; ++k) {
#pragma unroll
        for (int m = 0; m < kMatrices; ++m) {
#pragma unroll
          for (int i = 0; i < kOwnRows; ++i) {
#pragma unroll
            for (int j = 0; j < kOwnTokens; ++j)
              sums[m][i][j] += room.weights[m][int(threadIdx.x) / 16 + 16 * i][k] *
                               room.x[int(threadIdx.x) % 16 + 16 * j][k];
          }
        }
      }
    }
  }
};

template <class Tile, int kMatrices>
__global__ void __launch_bounds__(kThreads) expert_tile_kernel(TileJob job, IqTables tables) {
  __shared__ typename Tile::Room room;
  __shared__ int rows[kTileTokens];  // of x; -1: none
  wait_for_previous();
  allow_next();
  ExpertTile tile = {0, int(blockIdx.y) * kTileTokens, 0};
  if (job.tiles != nullptr) {
    if (int(blockIdx.y) >= *job.tile_count) return;
    tile = job.tiles[blockIdx.y];
  } else {
    tile.count = min(kTileTokens, job.tokens - tile.first);
  }
  const auto pair_of = [&](int slot) { return job.slot_pair != nullptr ? job.slot_pair[slot] : slot; };
  for (int n = int(threadIdx.x); n < kTileTokens; n += kThreads) {
    const int slot = tile.first + n;
    rows[n] = n >= tile.count ? -1 : job.gather != 0 ? pair_of(slot) / job.gather : slot;
  }
  const uint8_t* matrices[2] = {job.weights[0] + uint64_t(tile.expert) * job.expert_bytes,
                                job.weights[1] + uint64_t(tile.expert) * job.expert_bytes};
  float sums[kMatrices][kOwnRows][kOwnTokens] = {};
  const int first_row = int(blockIdx.x) * kTileRows;
  Tile::run(job, tables, matrices, first_row, rows, room, sums);
  for (int i = 0; i < kOwnRows; ++i) {
    const int row = first_row + int(threadIdx.x) / 16 + 16 * i;
    for (int j = 0; j < kOwnTokens; ++j) {
      const int n = int(threadIdx.x) % 16 + 16 * j;
      if (n >= tile.count || row >= job.rows) continue;
      const int slot = tile.first + n, pair = pair_of(slot);
      if constexpr (kMatrices == 2) {
        job.out[int64_t(slot) * job.rows + row] = silu(sums[0][i][j]) * sums[1][i][j];
      } else {
        const float weight = job.column_weight != nullptr ? job.column_weight[pair] : 1.0f;
        float* to = job.out + int64_t(pair) * job.rows + row;
        const float value = weight * sums[0][i][j];
        *to = job.output == TileOutput::kRows ? *to + value : value;
      }
    }
  }
}

constexpr int kSumThreads = 256;
__global__ void __launch_bounds__(kSumThreads)
    sum_float_pairs_kernel(const float* pairs, int top_k, int columns, float* out) {
  wait_for_previous();
  allow_next();
  const int64_t token = blockIdx.y;
  const int column = int(blockIdx.x) * kSumThreads + int(threadIdx.x);
  if (column >= columns) return;
  float sum = 0;
  for (int i = 0; i < top_k; ++i) sum += pairs[(token * top_k + i) * columns + column];
  out[token * columns + column] += sum;
}

struct Room {
  float* logits;
  RouteTarget route;
  uint16_t* keys;
  int32_t* counts;
  SortedPairs sorted;
  ops::Activations hidden;  // [pairs, width]
  ops::Activations shared;  // [tokens, width of the shared expert]
  float* pairs;             // [pairs, hidden]
};

ops::Activations take_activations(Scratch& scratch, int64_t rows, int64_t columns) {
  ops::Activations x;
  x.tokens = rows, x.columns = columns;
  x.values = scratch.take<float>(rows * columns);
  if (columns % 32 == 0) {
    x.quants = scratch.take<int8_t>(rows * columns);
    x.scales = scratch.take<float>(rows * columns / 32);
    x.sums = scratch.take<int16_t>(rows * columns / 16);
  }
  return x;
}

Room lay_out(const ops::Moe& op, int64_t tokens, Scratch& scratch) {
  const int64_t pairs = tokens * op.top_k;
  Room room = {};
  room.logits = scratch.take<float>(tokens * op.expert_count);
  room.route.experts = scratch.take<int32_t>(pairs);
  room.route.weights = scratch.take<float>(pairs);
  room.route.shared_weight = scratch.take<float>(tokens);
  room.keys = scratch.take<uint16_t>((pairs + 7) / 8 * 8);
  room.counts = scratch.take<int32_t>(op.expert_count);
  room.sorted.slot_pair = scratch.take<int32_t>(pairs);
  room.sorted.tiles = scratch.take<ExpertTile>(tile_bound(pairs, op.expert_count, kTileTokens));
  room.sorted.tile_count = scratch.take<int32_t>(1);
  room.hidden = take_activations(scratch, pairs, op.down.columns);
  if (op.shared_down) room.shared = take_activations(scratch, tokens, op.shared_down.columns);
  room.pairs = scratch.take<float>(pairs * op.down.rows);
  return room;
}

void run_tiles(Context& context, const ops::Matrix& matrix, TileJob job, uint32_t grid_tiles) {
  job.weights[0] = reinterpret_cast<const uint8_t*>(matrix.data);
  job.row_bytes = matrix.row_stride();
  job.rows = int32_t(matrix.rows), job.columns = int32_t(matrix.columns);
  const double rows = job.tiles != nullptr ? double(job.x.tokens) : double(job.tokens);
  const int matrices = job.output == TileOutput::kHidden ? 2 : 1;
  const Work work = {"moe", matrices * double(matrix.count) * double(matrix.matrix_bytes()),
                     2 * rows * matrices * double(matrix.rows) * double(matrix.columns)};
  const dim3 grid(ceil_div(matrix.rows, kTileRows), grid_tiles);
  const auto run = [&](auto kernel) {
    launch(context, "expert_tile_kernel", work, kernel, grid, dim3(kThreads), 0, job, context.tables);
  };
  const bool found = visit_float_type(matrix.type,
                                      [&](auto t) {
                                        if (matrices == 2)
                                          run(expert_tile_kernel<FloatTile<t.value, 2>, 2>);
                                        else
                                          run(expert_tile_kernel<FloatTile<t.value, 1>, 1>);
                                      }) ||
                     visit_quantised_type(matrix.type, [&](auto t) {
                       if (matrices == 2)
                         run(expert_tile_kernel<IntegerTile<t.value, 2>, 2>);
                       else
                         run(expert_tile_kernel<IntegerTile<t.value, 1>, 1>);
                     });
  DW_CHECK(found, "matrices of this type have no device layout");
}

// silu(gate x) * (up x) of sorted pairs, or of all rows of x without them, quantised.
void run_hidden(Context& context, const ops::Activations& x, const ops::Matrix& gate, const std::byte* up,
                uint64_t expert_bytes, const Room* room, int top_k, uint32_t grid_tiles,
                const ops::Activations& hidden) {
  TileJob job;
  job.weights[1] = reinterpret_cast<const uint8_t*>(up);
  job.expert_bytes = expert_bytes;
  job.x = x, job.tokens = int32_t(x.tokens);
  if (room != nullptr) {
    job.tiles = room->sorted.tiles, job.tile_count = room->sorted.tile_count;
    job.slot_pair = room->sorted.slot_pair, job.gather = top_k;
  }
  job.output = TileOutput::kHidden;
  job.out = hidden.values;
  run_tiles(context, gate, job, grid_tiles);
  if (hidden.quants != nullptr) pack(context, hidden.values, hidden);
}

void run_piece(Context& context, const ops::Moe& op) {
  const int64_t tokens = op.x.tokens, pairs = tokens * op.top_k;
  Scratch scratch(context.scratch, context.scratch_bytes);
  const Room room = lay_out(op, tokens, scratch);
  DW_CHECK(!scratch.exhausted(), "the scratch memory was planned for fewer tokens");
  clear_counts(context, room.counts, op.expert_count);
  gemm_dot4(context, op.x, {op.router, room.logits, op.expert_count, false});
  choose_experts(context, op, room.logits, op.expert_count, room.route, room.keys, room.counts);
  sort_pairs(context, pairs, op.expert_count, kTileTokens, room.keys, room.counts, room.sorted);

  ops::Matrix gate = op.gate_up ? op.gate_up : op.gate;
  const uint64_t expert_bytes = gate.matrix_bytes();
  if (op.gate_up) gate.rows /= 2;
  const std::byte* up = op.gate_up ? gate.data + gate.matrix_bytes() : op.up.data;
  DW_CHECK(op.gate_up || op.gate.type == op.up.type, "gate and up are of one type");
  const uint32_t grid_tiles = uint32_t(tile_bound(pairs, op.expert_count, kTileTokens));
  run_hidden(context, op.x, gate, up, expert_bytes, &room, op.top_k, grid_tiles, room.hidden);
  TileJob job;
  job.expert_bytes = op.down.matrix_bytes();
  job.x = room.hidden;
  job.tiles = room.sorted.tiles, job.tile_count = room.sorted.tile_count;
  job.slot_pair = room.sorted.slot_pair;
  job.column_weight = room.route.weights;
  job.output = TileOutput::kPairs;
  job.out = room.pairs;
  run_tiles(context, op.down, job, grid_tiles);

  if (op.shared_down) {
    const uint32_t shared_tiles = ceil_div(tokens, kTileTokens);
    if (op.shared_router != nullptr) weigh_shared(context, op, room.route.shared_weight);
    run_hidden(context, op.x, op.shared_gate, op.shared_up.data, 0, nullptr, 0, shared_tiles, room.shared);
    job = {};
    job.x = room.shared, job.tokens = int32_t(tokens);
    job.column_weight = op.shared_router != nullptr ? room.route.shared_weight : nullptr;
    job.output = TileOutput::kRows;
    job.out = op.out;
    run_tiles(context, op.shared_down, job, shared_tiles);
  }
  const double count = double(pairs) * double(op.down.rows);
  launch(context, "sum_float_pairs_kernel", {"moe", count * 4 + count / op.top_k * 8, count},
         sum_float_pairs_kernel, dim3(ceil_div(op.down.rows, kSumThreads), uint32_t(tokens)),
         dim3(kSumThreads), 0, room.pairs, op.top_k, int(op.down.rows), op.out);
}

}  // namespace

uint64_t moe_prefill_scratch_bytes(const ops::Moe& largest) {
  Scratch scratch(nullptr, UINT64_MAX);
  lay_out(largest, largest.x.tokens < kMoePieceTokens ? largest.x.tokens : kMoePieceTokens, scratch);
  return scratch.used();
}

void moe_prefill(Context& context, const ops::Moe& op) {
  for (int64_t first = 0; first < op.x.tokens; first += kMoePieceTokens)
    run_piece(context, moe_piece(op, first));
}

}  // namespace dw::gpu
