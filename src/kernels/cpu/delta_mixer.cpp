// ops::DeltaMixer: checks, tasks, scratch. A task is all V heads of one K head of one span (they share the
// l2-normed q and k and, in chunks, their products), or one V head when there are more threads than that.
#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/delta_kernels.h"
#include "kernels/cpu/mixers.h"
#include "kernels/cpu/scratch.h"

namespace dw::cpu {
namespace {

void check(const ops::DeltaMixer& op) {
  DW_CHECK(op.k_heads > 0 && op.v_heads > 0 && op.v_heads % op.k_heads == 0,
           "V heads must be a multiple of K heads");
  DW_CHECK(op.k_dim > 0 && op.k_dim % 32 == 0, "k_dim must be a multiple of 32");
  DW_CHECK(op.v_dim > 0 && op.v_dim % 32 == 0, "v_dim must be a multiple of 32");
  DW_CHECK(op.conv_taps >= 1 && op.conv_taps <= kMaxConvTaps, "conv_taps must lie in [1, 16]");
  DW_CHECK(op.chunk >= 0 && op.chunk <= 1024, "chunk must lie in [0, 1024]");
  int64_t rows = 0;
  for (const ops::Span& span : op.spans) {
    DW_CHECK(span.first_row == rows && span.row_count >= 1, "spans must follow one another");
    rows += span.row_count;
  }
  DW_CHECK(rows == op.tokens, "spans must cover the batch");
}

}  // namespace

int64_t delta_scratch_floats(const ops::DeltaMixer& op, int64_t block, int64_t v_count) {
  DeltaScratch scratch;
  return lay_out(scratch, nullptr, op.k_dim, op.v_dim, op.conv_taps, block, v_count);
}

void delta_mixer(const Context& context, const ops::DeltaMixer& op) {
  check(op);
  const MixerKernels& kernels = mixer_kernels(context.level);
  const int64_t threads = context.pool->thread_count(), span_count = int64_t(op.spans.size());
  const int32_t ratio = op.v_heads / op.k_heads;
  const bool whole_groups = ratio == 1 || span_count * op.k_heads >= threads;
  const int32_t per_task = whole_groups ? ratio : 1, pieces = ratio / per_task;
  const int64_t tasks_per_span = op.k_heads * pieces;
  const int64_t block = std::max<int64_t>(op.chunk, kRecurrentBlock);
  const int64_t scratch_floats = delta_scratch_floats(op, block, per_task);
  Scratch scratch(context.arena, scratch_floats * threads);
  const int64_t slot_conv = (op.conv_taps - 1) * op.channels();
  const int64_t slot_state = int64_t(op.v_heads) * op.k_dim * op.v_dim;
  const auto make_task = [&](int64_t index, int thread) {
    const ops::Span& span = op.spans[size_t(index / tasks_per_span)];
    const int64_t within = index % tasks_per_span;
    const int32_t v_begin = int32_t(within % pieces) * per_task;
    return DeltaTask{&op,
                     op.channels(),
                     op.qkv + span.first_row * op.channels(),
                     span.first_row,
                     span.row_count,
                     op.conv_state + span.slot * slot_conv,
                     op.state + span.slot * slot_state,
                     int32_t(within / pieces),
                     v_begin,
                     v_begin + per_task,
                     whole_groups,
                     scratch.data() + thread * scratch_floats};
  };
  context.pool->parallel_for(span_count * tasks_per_span,
                             [&](int64_t index, int thread) { kernels.delta(make_task(index, thread)); });
  if (whole_groups) return;
  context.pool->parallel_for(span_count, [&](int64_t span, int thread) {
    shift_conv_rows(make_task(span * tasks_per_span, thread), 0, op.channels());
  });
}

}  // namespace dw::cpu
