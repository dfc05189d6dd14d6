// Picks the kernels of the delta mixer.
#include "kernels/gpu/delta.h"

#include "base/check.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int32_t kHopper = 900;
// Spans shorter than this cost less token by token, whatever the op says.
constexpr int32_t kChunkedFrom = 33;

}  // namespace

int32_t delta_default_chunk(const Limits& limits) {
  return limits.architecture >= kHopper ? 64 : 32;
}

DeltaPlan plan_delta(const Limits& limits, const ops::DeltaMixer& op) {
  DeltaPlan plan;
  plan.chunk = op.chunk;
  plan.min_rows = op.min_chunked_tokens > kChunkedFrom ? op.min_chunked_tokens : kChunkedFrom;
#if defined(DW_GPU_CUDA)
  plan.hopper = limits.architecture >= kHopper && hopper::takes(op);
#endif
  return plan;
}

uint64_t delta_scratch_bytes(const ops::DeltaMixer& largest, const DeltaPlan& plan) {
#if defined(DW_GPU_CUDA)
  if (plan.hopper) return hopper::delta_scratch_bytes(largest, plan);
#endif
  return portable::delta_scratch_bytes(largest, plan);
}

uint64_t delta_scratch_bytes(const ops::DeltaMixer& largest) {
  // The device is not known here: room for either kind.
  DeltaPlan plan = plan_delta({}, largest);
  uint64_t bytes = portable::delta_scratch_bytes(largest, plan);
#if defined(DW_GPU_CUDA)
  if (hopper::takes(largest)) {
    const uint64_t other = hopper::delta_scratch_bytes(largest, plan);
    bytes = other > bytes ? other : bytes;
  }
#endif
  return bytes;
}

void run_delta(Context& context, const ops::DeltaMixer& op, const DeltaPlan& plan) {
  DW_CHECK(op.k_heads > 0 && op.v_heads % op.k_heads == 0, "V heads must be a multiple of K heads");
  DW_CHECK(op.out.columns == int64_t(op.v_heads) * op.v_dim, "wrong width of the delta mixer's output");
  DW_CHECK(op.tokens == context.batch.tokens, "the op and the batch differ in rows");
  DW_CHECK(delta_scratch_bytes(op, plan) <= context.scratch_bytes, "too little scratch memory");
  if (op.tokens == 0) return;
#if defined(DW_GPU_CUDA)
  if (plan.hopper) {
    const int32_t from = plan.chunked_from();
    // With one span its length says which kind it is; of several, only the longest is known.
    if (context.batch.longest_span >= from) hopper::delta_chunked(context, op, plan);
    if (context.batch.span_count > 1 || context.batch.longest_span < from)
      hopper::delta_decode(context, op, from);
    return;
  }
#endif
  portable::delta_mixer(context, op, plan);
}

void delta_mixer(Context& context, const ops::DeltaMixer& op) {
  run_delta(context, op, plan_delta(context.limits, op));
}

}  // namespace dw::gpu
