// The delta mixer's launchers among themselves, and what its tests and benchmarks choose by hand.
#pragma once

#include <climits>

#include "kernels/gpu/context.h"

namespace dw::gpu {

// How a batch runs. Spans of at least min_rows rows run in chunks of `chunk` tokens (0: none does), the
// others token by token.
struct DeltaPlan {
  int32_t chunk = 0;
  int32_t min_rows = 1;
  bool hopper = false;  // kernels of sm90/
  // Row counts from which a span runs in chunks.
  int32_t chunked_from() const { return chunk == 0 ? INT_MAX : min_rows; }
};

// What delta_mixer() takes for this op and device.
DeltaPlan plan_delta(const Limits& limits, const ops::DeltaMixer& op);
// The tokens a chunk that measured fastest.
int32_t delta_default_chunk(const Limits& limits);
void run_delta(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan);
uint64_t delta_scratch_bytes(const ops::DeltaMixer& largest, const DeltaPlan& plan);

// As many chunks as a batch of `tokens` rows can have, however it is cut into spans of min_rows or more: a
// span has most chunks for its rows when it is as short as may be, or one row longer than whole chunks.
inline int64_t chunk_bound(int64_t tokens, const DeltaPlan& plan) {
  if (plan.chunk == 0) return 0;
  const int64_t shortest = plan.min_rows > 1 ? plan.min_rows : 1;
  const int64_t of_shortest = (shortest + plan.chunk - 1) / plan.chunk;
  const int64_t as_short = tokens * of_shortest / shortest;
  const int64_t one_longer = tokens * (of_shortest + 1) / (of_shortest * plan.chunk + 1);
  return as_short > one_longer ? as_short : one_longer;
}

// The portable kernels, any device: three launches or four.
namespace portable {
void delta_mixer(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan);
uint64_t delta_scratch_bytes(const ops::DeltaMixer& op, const DeltaPlan& plan);
}  // namespace portable

// sm_90: head sizes 128, 4 taps, 1, 2 or 4 V heads a K head.
namespace hopper {
bool takes(const ops::DeltaMixer& op);
// Token by token: the spans of fewer than `chunked_from` rows; one launch.
void delta_decode(Context& context, const ops::DeltaMixer& op, int32_t chunked_from);
// In chunks: the other spans; two launches.
void delta_chunked(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan);
uint64_t delta_scratch_bytes(const ops::DeltaMixer& op, const DeltaPlan& plan);
}  // namespace hopper

}  // namespace dw::gpu
