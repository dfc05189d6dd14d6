// Which kernels run the mixture of experts: one launch of routing and one per product for few tokens, sorted
// tiles for many.
#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/moe_route.h"
#include "kernels/gpu/ops.h"
#include "kernels/gpu/scratch.h"
#if defined(DW_GPU_CUDA)
#include "kernels/gpu/sm90/moe_stream.h"
#endif

namespace dw::gpu {
namespace {

struct FewRoom {
  RouteTarget route;
  float* logits;  // [tokens, experts + 1]
  uint16_t* keys;
  int32_t* counts;
  float* hidden;  // [tokens, top_k + 1, width]
};

FewRoom lay_out_few(const ops::Moe& op, int64_t tokens, Scratch& scratch) {
  FewRoom room = {};
  const int64_t pairs = tokens * op.top_k;
  room.route.experts = scratch.take<int32_t>(pairs);
  room.route.weights = scratch.take<float>(pairs);
  room.route.shared_weight = scratch.take<float>(tokens);
  room.logits = scratch.take<float>(tokens * (op.expert_count + 1));
  room.keys = scratch.take<uint16_t>((pairs + 7) / 8 * 8);
  room.counts = scratch.take<int32_t>(op.expert_count);
  room.hidden = scratch.take<float>(tokens * (op.top_k + 1) * op.down.columns);
  return room;
}

void moe_few(Context& context, const ops::Moe& op, const ops::Norm* fused_norm) {
  Scratch scratch(context.scratch, context.scratch_bytes);
  const FewRoom room = lay_out_few(op, op.x.tokens, scratch);
  DW_CHECK(!scratch.exhausted(), "the scratch memory was planned for fewer tokens");
#if defined(DW_GPU_CUDA)
  if (moe_decode_stream_fits(context, op) && router_logits(context, op, fused_norm, room.logits)) {
    ExpertSource source;
    source.logits = room.logits;
    source.expert_count = op.expert_count, source.top_k = op.top_k;
    source.normalise = op.normalise, source.weigh_shared = op.shared_router != nullptr;
    moe_decode_stream(context, op, source, room.hidden);
    return;
  }
#endif
  if (!route_few(context, op, fused_norm, room.route, room.logits)) {
    if (fused_norm != nullptr) norm(context, *fused_norm, nullptr);
    gemm_dot4(context, op.x, {op.router, room.logits, op.expert_count, false});
    clear_counts(context, room.counts, op.expert_count);
    choose_experts(context, op, room.logits, op.expert_count, room.route, room.keys, room.counts);
    if (op.shared_router != nullptr) weigh_shared(context, op, room.route.shared_weight);
  }
  const MoeChoice choice = {room.route.experts, room.route.weights,
                            op.shared_router != nullptr ? room.route.shared_weight : nullptr};
  moe_decode(context, op, choice, room.hidden);
}

}  // namespace

void moe(Context& context, const ops::Moe& op, const ops::Norm* fused_norm) {
  if (op.x.tokens == 0) return;
#if defined(DW_GPU_CUDA)
  if (op.x.tokens >= kMoeTileLeast && op.x.tokens <= kMoeTileTokens && moe_tiles(context, op, fused_norm))
    return;
#endif
  if (op.x.tokens <= kMoeDecodeTokens) {
    moe_few(context, op, fused_norm);
    return;
  }
  if (fused_norm != nullptr) norm(context, *fused_norm, nullptr);
#if defined(DW_GPU_CUDA)
  if (moe_mma(context, op)) return;
#endif
  moe_prefill(context, op);
}

GateUp gate_and_up(const ops::Moe& op) {
  if (!op.gate_up) return {op.gate, op.up, op.gate.matrix_bytes(), op.up.matrix_bytes()};
  const uint64_t bytes = op.gate_up.matrix_bytes();
  ops::Matrix gate = op.gate_up;
  gate.rows /= 2;
  ops::Matrix up = gate;
  up.data += gate.matrix_bytes();
  return {gate, up, bytes, bytes};
}

ops::Moe moe_piece(const ops::Moe& op, int64_t first, int64_t most) {
  ops::Moe piece = op;
  piece.x.tokens = op.x.tokens - first < most ? op.x.tokens - first : most;
  piece.x.values += first * op.x.columns;
  if (op.x.quants != nullptr) {
    piece.x.quants += first * op.x.columns;
    piece.x.scales += first * (op.x.columns / 32);
    piece.x.sums += first * (op.x.columns / 16);
  }
  piece.out += first * op.down.rows;
  return piece;
}

uint64_t moe_scratch_bytes(const ops::Moe& largest) {
  Scratch few(nullptr, UINT64_MAX);
  const int64_t tokens = largest.x.tokens < kMoeDecodeTokens ? largest.x.tokens : kMoeDecodeTokens;
  lay_out_few(largest, tokens, few);
  uint64_t bytes = moe_prefill_scratch_bytes(largest);
  if (few.used() > bytes) bytes = few.used();
#if defined(DW_GPU_CUDA)
  const uint64_t tensor_cores = moe_mma_scratch_bytes(largest);
  if (tensor_cores > bytes) bytes = tensor_cores;
  const uint64_t tiles = moe_tiles_scratch_bytes(largest);
  if (tiles > bytes) bytes = tiles;
#endif
  return bytes;
}

}  // namespace dw::gpu
