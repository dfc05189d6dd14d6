// CPU kernels of the ops that are not plain matrices: norms, the Gated DeltaNet mixer, attention, routing.
// Each takes the thread pool it may use; results do not depend on the number of threads, nor on which other
// sequences share the batch.
#pragma once

#include "base/cpu_features.h"
#include "base/page_fetcher.h"
#include "base/thread_pool.h"
#include "kernels/cpu/scratch.h"
#include "kernels/ops.h"

namespace dw::cpu {

struct Context {
  CpuLevel level = CpuLevel::kPortable;
  ThreadPool* pool = nullptr;
  ScratchArena* arena = nullptr;  // working memory kept between calls; nullptr: each call has its own
  // The experts lie in a mapped file and may be absent from memory: this asks for the chosen ones as soon as
  // they are known. nullptr: they are there.
  PageFetcher* fetcher = nullptr;
};

// How the tasks of matrices are shared out. With few tokens the weights are read as fast as memory gives
// them: there each thread goes through its own stretch of them (decode 20 % faster); with many, taking tasks
// in turn is.
inline ThreadPool::Order matrix_order(int64_t tokens) {
  return tokens <= 4 ? ThreadPool::Order::kContiguous : ThreadPool::Order::kInTurn;
}

void embed(const Context& context, const ops::Embed& op);
void norm(const Context& context, const ops::Norm& op);
void delta_mixer(const Context& context, const ops::DeltaMixer& op);
void attention(const Context& context, const ops::Attention& op);

// p = softmax(logits); experts[t, i], weights[t, i] for i < top_k, in falling order (see ops::Moe).
void route(const Context& context, const float* logits, int64_t tokens, int32_t expert_count, int32_t top_k,
           bool normalise, int32_t* experts, float* weights);
// out = silu(gate) * up, quantised; gate [tokens, width] with row stride, up the same.
void silu_multiply(CpuLevel level, const float* gate, const float* up, int64_t width,
                   const ops::Activations& out, int64_t row);

}  // namespace dw::cpu
