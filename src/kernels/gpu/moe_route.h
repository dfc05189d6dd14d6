// The router of the mixture of experts and the ordering of tokens by expert; see ops::Moe.
#pragma once

#include <cstdint>

#include "kernels/gpu/context.h"

namespace dw::gpu {

inline constexpr int kMaxTopK = 32;
inline constexpr int kMaxRouterExperts = 2048;
inline constexpr int kRouterTokens = 16;  // route_few() takes so many at most

// Where the choice goes; device.
struct RouteTarget {
  int32_t* experts = nullptr;      // [tokens, top_k], largest weight first
  float* weights = nullptr;        // [tokens, top_k]
  float* shared_weight = nullptr;  // [tokens]: sigmoid(shared_router x); written when op.shared_router is set
};

// 1..kRouterTokens tokens in one launch. norm: op.x is norm->out and not computed yet; it is written too.
// logits: scratch, [tokens, expert_count + 1]. Needs context.counters. false: nothing was queued (a quantised
// router).
bool route_few(Context& context, const ops::Moe& op, const ops::Norm* norm, const RouteTarget& target,
               float* logits);

// Any number of tokens, from logits [tokens, stride]. counts: [expert_count], zeros before; keys: the experts
// again as 16 bits, [tokens * top_k rounded up to 8].
void choose_experts(Context& context, const ops::Moe& op, const float* logits, int64_t stride,
                    const RouteTarget& target, uint16_t* keys, int32_t* counts);

// sigmoid(shared_router x) per token, where no other kernel computes it on the way.
void weigh_shared(Context& context, const ops::Moe& op, float* shared_weight);
void clear_counts(Context& context, int32_t* counts, int32_t count);

// A run of slots of one expert.
struct ExpertTile {
  int32_t expert;
  int32_t first;
  int32_t count;
};
struct SortedPairs {
  int32_t* slot_pair = nullptr;   // [pairs]: pairs (token * top_k + choice) by expert, then by token
  ExpertTile* tiles = nullptr;    // [tile_bound()], the first *tile_count are used
  int32_t* tile_count = nullptr;  // device
};
inline int64_t tile_bound(int64_t pairs, int32_t expert_count, int tile_tokens) {
  return pairs / tile_tokens + (pairs < expert_count ? pairs : expert_count);
}
// Orders the pairs and cuts each expert's slots into tiles of at most tile_tokens. The order does not depend
// on timing.
void sort_pairs(Context& context, int64_t pairs, int32_t expert_count, int tile_tokens, const uint16_t* keys,
                const int32_t* counts, const SortedPairs& target);

}  // namespace dw::gpu
