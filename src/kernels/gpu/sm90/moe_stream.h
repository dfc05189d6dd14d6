// The decode of the mixture of experts on Hopper: the router gives its values only, and whoever needs the
// chosen experts chooses for itself, before the launch in front has ended where it can.
#pragma once

#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_choose.h"

namespace dw::gpu {

// Where a token's experts come from: the router's values, or a choice that was made already.
struct ExpertSource {
  const float* logits = nullptr;  // [tokens, expert_count + 1], the shared expert's last; nullptr: `given`
  MoeChoice given;
  int32_t expert_count = 0, top_k = 0;
  bool normalise = false, weigh_shared = false;
};

// logits[t, e] of the router and of the shared expert's gate, for at most some tens of tokens; norm as for
// route_few(). counts: [expert_count], cleared on the way; or nullptr. false: nothing queued.
bool router_logits(Context& context, const ops::Moe& op, const ops::Norm* norm, float* logits,
                   int32_t* counts = nullptr);

// As moe_decode(). false: does not fit, nothing queued.
bool moe_decode_stream(Context& context, const ops::Moe& op, const ExpertSource& source, float* hidden);
bool moe_decode_stream_fits(const Context& context, const ops::Moe& op);

// The whole op for at most kMoeTileTokens tokens (moe_tiles.cu); norm as for moe(). false: does not fit,
// nothing queued. Below kMoeTileLeast it is slower than moe_decode_stream().
inline constexpr int kMoeTileLeast = 13, kMoeTileTokens = 128;
bool moe_tiles(Context& context, const ops::Moe& op, const ops::Norm* norm);
uint64_t moe_tiles_scratch_bytes(const ops::Moe& largest);

// All kernels of the chain ask for the same split of a multiprocessor's memory, because it can be changed
// only when nothing runs there, and they are to overlap.
template <class... Parameters>
void prefer_shared_memory(void (*kernel)(Parameters...)) {
  check_runtime(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                     cudaSharedmemCarveoutMaxShared),
                "cudaFuncSetAttribute");
}

}  // namespace dw::gpu
