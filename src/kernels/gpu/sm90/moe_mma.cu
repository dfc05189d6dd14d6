// Mixture of experts for many tokens on tensor cores: route, sort the (token, choice) pairs by expert, gate
// and up with silu(g) * u in the epilogue, down weighed per pair, and a sum over a token's pairs in their
// order.
#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_route.h"
#include "kernels/gpu/scratch.h"
#include "kernels/gpu/sm90/mma_job.h"

namespace dw::gpu {
namespace {

constexpr int kPairTile = 128;  // rows of `down` that a block of its product has

// Everything between x and out of one piece of the batch.
struct Room {
  PackedRows x;
  float* logits;  // [tokens, experts]
  RouteTarget route;
  uint16_t* keys;   // [pairs rounded up to 8]
  int32_t* counts;  // [experts]
  SortedPairs sorted;
  uint16_t* hidden;    // f16 [pairs, padded width]
  uint8_t* exponents;  // [pairs, padded width / 64]
  uint16_t* shared;    // the shared expert's: [tokens, padded width]
  uint8_t* shared_exponents;
  uint16_t* pairs;          // f16 [pairs, pair_stride]
  uint8_t* pair_exponents;  // [pairs, pair_tiles]
  int64_t pair_stride;
  int32_t pair_tiles;
};

Room lay_out(const ops::Moe& op, int64_t tokens, int tile_tokens, Scratch& scratch) {
  const int64_t pairs = tokens * op.top_k;
  Room room = {};
  room.x.padded = padded_columns(op.x.columns);
  room.x.high = scratch.take<uint16_t>(tokens * room.x.padded);
  room.x.low = scratch.take<uint16_t>(tokens * room.x.padded);
  room.x.scale = scratch.take<float>(tokens);
  room.logits = scratch.take<float>(tokens * op.expert_count);
  room.route.experts = scratch.take<int32_t>(pairs);
  room.route.weights = scratch.take<float>(pairs);
  room.route.shared_weight = scratch.take<float>(tokens);
  room.keys = scratch.take<uint16_t>((pairs + 7) / 8 * 8);
  room.counts = scratch.take<int32_t>(op.expert_count);
  room.sorted.slot_pair = scratch.take<int32_t>(pairs);
  room.sorted.tiles = scratch.take<ExpertTile>(tile_bound(pairs, op.expert_count, tile_tokens));
  room.sorted.tile_count = scratch.take<int32_t>(1);
  const int64_t width = padded_columns(op.down.columns);
  room.hidden = scratch.take<uint16_t>(pairs * width);
  room.exponents = scratch.take<uint8_t>(pairs * (width / 64));
  if (op.shared_down) {
    const int64_t shared_width = padded_columns(op.shared_down.columns);
    room.shared = scratch.take<uint16_t>(tokens * shared_width);
    room.shared_exponents = scratch.take<uint8_t>(tokens * (shared_width / 64));
  }
  room.pair_stride = (op.down.rows + 7) / 8 * 8;
  room.pairs = scratch.take<uint16_t>(pairs * room.pair_stride);
  room.pair_tiles = int32_t(ceil_div(op.down.rows, kPairTile));
  room.pair_exponents = scratch.take<uint8_t>(pairs * room.pair_tiles);
  return room;
}

// Tokens of a tile, from how many each matrix will meet on average. No wider than a type's widest kernel.
int tile_tokens_for(quant::Type first, quant::Type second, int64_t rows_per_matrix) {
  const int64_t wanted = rows_per_matrix <= 20    ? 16
                         : rows_per_matrix <= 56  ? 64
                         : rows_per_matrix <= 112 ? 128
                                                  : 192;
  const int a = mma_tile_tokens(first, wanted), b = mma_tile_tokens(second, wanted);
  return a < b ? a : b;
}

constexpr int kSumThreads = 256;
constexpr int kSumColumns = 8;

// out[t] += the token's pairs, first choice first.
__global__ void __launch_bounds__(kSumThreads)
    sum_pairs_kernel(const uint16_t* pairs, int64_t pair_stride, const uint8_t* exponents, int tiles,
                     int top_k, int columns, float* out) {
  wait_for_previous();
  allow_next();
  const int64_t token = blockIdx.y;
  const int column = (int(blockIdx.x) * kSumThreads + int(threadIdx.x)) * kSumColumns;
  if (column >= columns) return;
  const uint16_t* from = pairs + token * top_k * pair_stride + column;
  const uint8_t* of_token = exponents + token * top_k * tiles + column / kPairTile;
  float sums[kSumColumns] = {};
#pragma unroll 4
  for (int i = 0; i < top_k; ++i) {
    const uint4 load = *reinterpret_cast<const uint4*>(from + i * pair_stride);
    const float scale = power_of_two(int(of_token[i * tiles]) - kPairScaleLog2);
    const uint32_t words[4] = {load.x, load.y, load.z, load.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float2 two = __half22float2(reinterpret_cast<const __half2&>(words[j]));
      sums[2 * j] += two.x * scale;
      sums[2 * j + 1] += two.y * scale;
    }
  }
  float* to = out + token * columns + column;
  if (columns % 4 == 0 && column + kSumColumns <= columns) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float4 v = reinterpret_cast<const float4*>(to)[j];
      v.x += sums[4 * j], v.y += sums[4 * j + 1], v.z += sums[4 * j + 2], v.w += sums[4 * j + 3];
      reinterpret_cast<float4*>(to)[j] = v;
    }
  } else {
    for (int j = 0; j < kSumColumns && column + j < columns; ++j) to[j] += sums[j];
  }
}

bool supported(const ops::Moe& op) {
  const GateUp both = gate_and_up(op);
  const auto pair_fits = [](const ops::Matrix& gate, const ops::Matrix& up, const ops::Matrix& down) {
    // fp32 weights want activations in two parts, which the hidden values are not.
    return gate.type == up.type && gate.row_stride() == up.row_stride() && mma_supports(gate) &&
           mma_supports(down) && gate.type != quant::Type::F32 && down.type != quant::Type::F32;
  };
  return pair_fits(both.gate, both.up, op.down) && op.x.columns % 32 == 0 &&
         (!op.shared_down || pair_fits(op.shared_gate, op.shared_up, op.shared_down));
}

MmaJob job_of(const ops::Matrix& matrix, uint64_t expert_bytes, int rows_per_tile) {
  MmaJob job;
  job.weights[0] = reinterpret_cast<const uint8_t*>(matrix.data);
  job.row_bytes = matrix.row_stride();
  job.expert_bytes = expert_bytes;
  job.rows = int32_t(matrix.rows), job.columns = int32_t(matrix.columns);
  job.padded = padded_columns(matrix.columns);
  job.row_tiles = int32_t(ceil_div(matrix.rows, rows_per_tile));
  return job;
}

void run(Context& context, quant::Type type, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
         const char* op_name, double experts, double rows) {
  const double matrices = job.output == MmaOutput::kHidden ? 2 : 1;
  const double n = matrices * job.rows, k = job.columns;
  const Work work = {op_name, experts * n * double(job.row_bytes) + rows * (k + n / matrices) * 2,
                     2 * rows * n * k};
  DW_CHECK(
      launch_mma(context, type, mma_tile_tokens(type, tile_tokens), job, grid_tiles, "mma_gemm_kernel", work),
      "no tensor-core product for this type");
}

void add_shared(Context& context, const ops::Moe& op, const Room& room) {
  const int tile_tokens = tile_tokens_for(op.shared_gate.type, op.shared_down.type, op.x.tokens);
  const uint32_t grid_tiles = ceil_div(op.x.tokens, tile_tokens);
  MmaJob job = job_of(op.shared_gate, 0, 64);
  job.row_tiles = padded_columns(op.shared_gate.rows) / 64;  // the padding is written too
  job.weights[1] = reinterpret_cast<const uint8_t*>(op.shared_up.data);
  job.x = room.x.high, job.x_scale = room.x.scale, job.tokens = int32_t(op.x.tokens);
  job.output = MmaOutput::kHidden;
  job.hidden = room.shared, job.hidden_exponents = room.shared_exponents;
  job.out_stride = padded_columns(op.shared_down.columns);
  run(context, op.shared_gate.type, tile_tokens, job, grid_tiles, "shared expert gate up", 1,
      double(op.x.tokens));
  job = job_of(op.shared_down, 0, 128);
  job.x = room.shared, job.exponents = room.shared_exponents, job.tokens = int32_t(op.x.tokens);
  job.column_weight = room.route.shared_weight;
  job.output = MmaOutput::kRows;
  job.add = true, job.aligned = op.down.rows % 2 == 0 && reinterpret_cast<uintptr_t>(op.out) % 8 == 0;
  job.out = op.out, job.out_stride = op.down.rows;
  run(context, op.shared_down.type, tile_tokens, job, grid_tiles, "shared expert down", 1,
      double(op.x.tokens));
}

void add_experts(Context& context, const ops::Moe& op, const Room& room, int tile_tokens) {
  const int64_t pairs = op.x.tokens * op.top_k;
  const uint32_t grid_tiles = uint32_t(tile_bound(pairs, op.expert_count, tile_tokens));
  const double experts = double(pairs < op.expert_count ? pairs : op.expert_count);
  const GateUp both = gate_and_up(op);
  MmaJob job = job_of(both.gate, both.gate_bytes, 64);
  job.row_tiles = padded_columns(both.gate.rows) / 64;
  job.weights[1] = reinterpret_cast<const uint8_t*>(both.up.data);
  job.x = room.x.high, job.x_scale = room.x.scale;
  job.tiles = room.sorted.tiles, job.tile_count = room.sorted.tile_count;
  job.slot_pair = room.sorted.slot_pair, job.gather = op.top_k;
  job.output = MmaOutput::kHidden;
  job.hidden = room.hidden, job.hidden_exponents = room.exponents;
  job.out_stride = padded_columns(op.down.columns);
  run(context, both.gate.type, tile_tokens, job, grid_tiles, "experts gate up", experts, double(pairs));

  job = job_of(op.down, op.down.matrix_bytes(), 128);
  job.row_tiles_per_block = job.padded / 128 >= 16 ? 1 : 16 / (job.padded / 128);
  job.x = room.hidden, job.exponents = room.exponents;
  job.tiles = room.sorted.tiles, job.tile_count = room.sorted.tile_count;
  job.slot_pair = room.sorted.slot_pair;
  job.column_weight = room.route.weights;
  job.output = MmaOutput::kPairs;
  job.pairs = room.pairs, job.pair_exponents = room.pair_exponents, job.out_stride = room.pair_stride;
  run(context, op.down.type, tile_tokens, job, grid_tiles, "experts down", experts, double(pairs));
}

void run_piece(Context& context, const ops::Moe& op) {
  const int64_t pairs = op.x.tokens * op.top_k;
  const int tile_tokens = tile_tokens_for(gate_and_up(op).gate.type, op.down.type, pairs / op.expert_count);
  Scratch scratch(context.scratch, context.scratch_bytes);
  const Room room = lay_out(op, op.x.tokens, tile_tokens, scratch);
  DW_CHECK(!scratch.exhausted(), "the scratch memory was planned for fewer tokens");
  pack_halves(context, op.x, room.x, op.shared_router, room.route.shared_weight, room.counts,
              op.expert_count);
  if (op.router.type == quant::Type::F32) {
    MmaJob job = job_of(op.router, 0, 128);
    job.x = room.x.high, job.x_low = room.x.low, job.x_scale = room.x.scale;
    job.tokens = int32_t(op.x.tokens);
    job.out = room.logits, job.out_stride = op.expert_count, job.aligned = op.expert_count % 2 == 0;
    const int router_tile = op.x.tokens <= 512 ? 16 : 64;
    run(context, op.router.type, router_tile, job, ceil_div(op.x.tokens, router_tile), "route", 1,
        double(op.x.tokens));
  } else {
    gemm_dot4(context, op.x, {op.router, room.logits, op.expert_count, false});
  }
  choose_experts(context, op, room.logits, op.expert_count, room.route, room.keys, room.counts);
  sort_pairs(context, pairs, op.expert_count, tile_tokens, room.keys, room.counts, room.sorted);
  add_experts(context, op, room, tile_tokens);
  if (op.shared_down) add_shared(context, op, room);
  const double count = double(pairs) * double(op.down.rows);
  launch(context, "sum_pairs_kernel", {"moe", count * 2 + count / op.top_k * 8, count}, sum_pairs_kernel,
         dim3(ceil_div(op.down.rows, kSumThreads * kSumColumns), uint32_t(op.x.tokens)), dim3(kSumThreads), 0,
         room.pairs, room.pair_stride, room.pair_exponents, room.pair_tiles, op.top_k, int(op.down.rows),
         op.out);
}

}  // namespace

uint64_t moe_mma_scratch_bytes(const ops::Moe& largest) {
  Scratch scratch(nullptr, UINT64_MAX);
  const int64_t tokens = largest.x.tokens < kMoePieceTokens ? largest.x.tokens : kMoePieceTokens;
  lay_out(largest, tokens, 16, scratch);
  return scratch.used();
}

bool moe_mma(Context& context, const ops::Moe& op) {
  if (context.limits.architecture < 900 || !supported(op)) return false;
  for (int64_t first = 0; first < op.x.tokens; first += kMoePieceTokens)
    run_piece(context, moe_piece(op, first, kMoePieceTokens));
  return true;
}

}  // namespace dw::gpu
