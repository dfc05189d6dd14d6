// Mixture of experts for many tokens without tensor cores: pairs (token, choice) sorted by expert, tiles of
// the integer dot product (gemm_dot4.cu) for each of gate, up and down.
#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/scratch.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 256;

// gate = silu(gate) * up
__global__ void __launch_bounds__(kThreads)
    silu_multiply_kernel(float* gate, const float* up, int64_t count) {
  wait_for_previous();
  allow_next();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) gate[i] = silu(gate[i]) * up[i];
}

// out[t] += the token's pairs, first choice first.
__global__ void __launch_bounds__(kThreads)
    sum_float_pairs_kernel(const float* pairs, int top_k, int columns, float* out) {
  wait_for_previous();
  allow_next();
  const int64_t token = blockIdx.x;
  const int column = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (column >= columns) return;
  float sum = 0;
  for (int i = 0; i < top_k; ++i) sum += pairs[(token * top_k + i) * columns + column];
  out[token * columns + column] += sum;
}

struct Room {
  float* logits;  // [tokens, experts]
  RouteTarget route;
  uint16_t* keys;
  int32_t* counts;
  SortedPairs sorted;
  ops::Activations hidden;  // [pairs, width]
  ops::Activations shared;  // [tokens, width of the shared expert]
  float* up;                // as many as the larger of hidden and shared
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
  room.sorted.tiles = scratch.take<ExpertTile>(tile_bound(pairs, op.expert_count, kDot4Tokens));
  room.sorted.tile_count = scratch.take<int32_t>(1);
  int64_t values = pairs * op.down.columns;
  room.hidden = take_activations(scratch, pairs, op.down.columns);
  if (op.shared_down) {
    room.shared = take_activations(scratch, tokens, op.shared_down.columns);
    if (tokens * op.shared_down.columns > values) values = tokens * op.shared_down.columns;
  }
  room.up = scratch.take<float>(values);
  room.pairs = scratch.take<float>(pairs * op.down.rows);
  return room;
}

// silu(gate x) * (up x), quantised.
void multiply_hidden(Context& context, const ops::Activations& x, const GateUp& both, ExpertGroups groups,
                     float* up_values, const ops::Activations& hidden) {
  groups.expert_bytes = both.gate_bytes;
  gemm_dot4(context, x, {both.gate, hidden.values, hidden.columns, false}, groups);
  groups.expert_bytes = both.up_bytes;
  gemm_dot4(context, x, {both.up, up_values, hidden.columns, false}, groups);
  const int64_t count = hidden.tokens * hidden.columns;
  launch(context, "silu_multiply_kernel", {"moe", double(count) * 12, double(count)}, silu_multiply_kernel,
         dim3(ceil_div(count, kThreads)), dim3(kThreads), 0, hidden.values, up_values, count);
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
  sort_pairs(context, pairs, op.expert_count, kDot4Tokens, room.keys, room.counts, room.sorted);

  ExpertGroups groups;
  groups.sorted = room.sorted;
  groups.tile_bound = uint32_t(tile_bound(pairs, op.expert_count, kDot4Tokens));
  groups.gather = op.top_k;
  multiply_hidden(context, op.x, gate_and_up(op), groups, room.up, room.hidden);
  groups.expert_bytes = op.down.matrix_bytes();
  groups.gather = 0, groups.by_pair = true, groups.pair_weight = room.route.weights;
  gemm_dot4(context, room.hidden, {op.down, room.pairs, op.down.rows, false}, groups);

  if (op.shared_down) {
    ExpertGroups all;
    multiply_hidden(context, op.x, {op.shared_gate, op.shared_up, 0, 0}, all, room.up, room.shared);
    if (op.shared_router != nullptr) {
      weigh_shared(context, op, room.route.shared_weight);
      all.pair_weight = room.route.shared_weight;
    }
    gemm_dot4(context, room.shared, {op.shared_down, op.out, op.down.rows, true}, all);
  }
  const double count = double(pairs) * double(op.down.rows);
  launch(context, "sum_float_pairs_kernel", {"moe", count * 4 + count / op.top_k * 8, count},
         sum_float_pairs_kernel, dim3(uint32_t(tokens), ceil_div(op.down.rows, kThreads)), dim3(kThreads), 0,
         room.pairs, op.top_k, int(op.down.rows), op.out);
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
