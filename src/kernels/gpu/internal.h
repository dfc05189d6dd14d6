// Launchers that only other launchers of this folder call.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/gpu/context.h"
#include "kernels/gpu/moe_route.h"

namespace dw::gpu {

// Tensor-core product (sm90/linear_mma.cu) of one or more matrices with x; same meaning as linear() without
// norm. false: nothing was queued, because the device, a type, a shape or too few tokens does not fit. All
// outputs or none.
bool linear_mma(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs);

// Below so many tokens it is slower than gemv() or gemm_dot4().
inline constexpr int kLinearMmaTokens = 9;
// Scratch it needs (Context::scratch).
uint64_t linear_scratch_bytes(int64_t tokens, int64_t columns);

// 1..8 tokens, any types, one launch (gemv.cu). At most kMaxOutputs matrices; norm as for linear().
inline constexpr int kMaxOutputs = 4;
inline constexpr int kGemvTokens = 8;
void gemv(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs,
          const ops::Norm* norm);

// Matrices with more bytes a multiprocessor are large: what surrounds their products matters little.
inline constexpr uint64_t kLargeShare = 512 << 10;

// Few tokens, kTileTokens a launch, on integer tensor cores (sm90/gemv_tile.cu). false: nothing was queued,
// because the device, a type or a shape does not fit.
inline constexpr int kTileTokens = 32;
inline constexpr int kFirstTileTokens = 5, kLastTileTokens = 32;  // where linear() takes it
bool gemv_tile(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs);

// Rows of x sorted by expert, for a product with each its own matrix. Without tiles: every row, one matrix.
inline constexpr int kDot4Tokens = 64;  // of a tile
struct ExpertGroups {
  SortedPairs sorted;
  uint32_t tile_bound = 0;             // how many tiles there may be
  uint64_t expert_bytes = 0;           // from one expert's matrix to the next
  int32_t gather = 0;                  // row of x = pair / gather; 0: slot
  bool by_pair = false;                // row of the result: pair; else slot
  const float* pair_weight = nullptr;  // [pairs]: factor of the result; nullptr: 1
};
// Any number of tokens, any type, integer dot products (fp32 for float types), one matrix or one an expert
// (gemm_dot4.cu).
void gemm_dot4(Context& context, const ops::Activations& x, const ops::Linear& output,
               const ExpertGroups& groups = {});

// What the router chose; device pointers.
struct MoeChoice {
  const int32_t* experts = nullptr;      // [tokens, top_k], each in [0, expert_count)
  const float* weights = nullptr;        // [tokens, top_k]
  const float* shared_weight = nullptr;  // [tokens]: sigmoid of the shared router; nullptr: 1
};

// The chosen experts and the shared one for few tokens (moe_decode.cu; up to about 16, see kMoeDecodeTokens),
// each expert's weights read once per pair (token, expert), added to op.out. op.x is computed already.
// hidden: [tokens, top_k + 1, op.down.columns] floats, for silu(gate) * up; the shared expert's row is the
// last.
inline constexpr int kMoeDecodeTokens = 16;
void moe_decode(Context& context, const ops::Moe& op, const MoeChoice& choice, float* hidden);

// Many tokens (sm90/moe_mma.cu and moe_prefill.cu), op.x computed already. moe_mma: false: nothing was
// queued.
bool moe_mma(Context& context, const ops::Moe& op);
void moe_prefill(Context& context, const ops::Moe& op);
// Scratch that they need; larger batches are cut into pieces of so many tokens.
inline constexpr int64_t kMoePieceTokens = 8192;
inline constexpr int64_t kMoePrefillPieceTokens = 2048;
struct GateUp {
  ops::Matrix gate, up;
  uint64_t gate_bytes, up_bytes;  // from one expert's matrix to the next
};
GateUp gate_and_up(const ops::Moe& op);  // of the experts, merged or not
ops::Moe moe_piece(const ops::Moe& op, int64_t first,
                   int64_t most);  // at most so many tokens from `first` on
uint64_t moe_mma_scratch_bytes(const ops::Moe& largest);
uint64_t moe_prefill_scratch_bytes(const ops::Moe& largest);

}  // namespace dw::gpu
