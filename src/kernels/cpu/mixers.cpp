#include "kernels/cpu/mixers.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/mixer_kernels.h"
#include "kernels/cpu/scratch.h"
#include "quant/types.h"

namespace dw::cpu {
namespace {
// Rows a task takes, so that a task is worth more than its hand-over.
constexpr int64_t kRowsPerTask = 4;

// body(row) for every row, over the pool when there is more than one task's worth.
template <class Body>
void for_rows(const Context& context, int64_t rows, const Body& body) {
  const int64_t tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
  context.pool->parallel_for(tasks, [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) body(row);
  });
}
}  // namespace

const MixerKernels& mixer_kernels(CpuLevel level) {
  const MixerKernels* kernels = nullptr;
#if defined(__x86_64__)
  if (level == CpuLevel::kAvx512) kernels = mixer_kernels_avx512();
  if (level >= CpuLevel::kAvx2 && kernels == nullptr) kernels = mixer_kernels_avx2();
#endif
  static_cast<void>(level);
  return kernels != nullptr ? *kernels : *mixer_kernels_portable();
}

void embed(const Context& context, const ops::Embed& op) {
  const quant::TypeInfo& type = quant::type_info(op.table.type);
  DW_CHECK(type.dequantize != nullptr, "embedding table of a type that cannot be dequantised");
  const uint64_t row_bytes = quant::row_bytes(op.table.type, uint64_t(op.table.columns));
  for (int64_t t = 0; t < op.tokens; ++t) {
    DW_CHECK(op.ids[t] >= 0 && op.ids[t] < op.table.rows, "token id outside the vocabulary");
  }
  for_rows(context, op.tokens, [&](int64_t t) {
    type.dequantize(op.table.data + uint64_t(op.ids[t]) * row_bytes, op.out + t * op.table.columns,
                    op.table.columns);
  });
}

void norm(const Context& context, const ops::Norm& op) {
  const int64_t columns = op.out.columns;
  DW_CHECK(op.out.quants == nullptr || columns % kQuantGroup == 0, "quantised columns come in groups of 32");
  const MixerKernels& kernels = mixer_kernels(context.level);
  for_rows(context, op.out.tokens, [&](int64_t t) {
    const int64_t from = op.rows == nullptr ? t : op.rows[t];
    kernels.norm_row(op.x + from * columns, op.weight, op.eps, columns, row_out(op.out, t * columns));
  });
}

void route(const Context& context, const float* logits, int64_t tokens, int32_t expert_count, int32_t top_k,
           bool normalise, int32_t* experts, float* weights) {
  DW_CHECK(top_k >= 1 && top_k <= expert_count, "top_k must lie in [1, expert_count]");
  const MixerKernels& kernels = mixer_kernels(context.level);
  const int64_t work_floats = (expert_count + 31) / 32 * 32;
  Scratch scratch(context.arena, work_floats * context.pool->thread_count());
  const int64_t tasks = (tokens + kRowsPerTask - 1) / kRowsPerTask;
  context.pool->parallel_for(tasks, [&](int64_t task, int thread) {
    const int64_t end = std::min(tokens, (task + 1) * kRowsPerTask);
    for (int64_t t = task * kRowsPerTask; t < end; ++t) {
      kernels.route_row(logits + t * expert_count, expert_count, top_k, normalise,
                        scratch.data() + thread * work_floats, experts + t * top_k, weights + t * top_k);
    }
  });
}

void silu_multiply(CpuLevel level, const float* gate, const float* up, int64_t width,
                   const ops::Activations& out, int64_t row) {
  DW_CHECK(out.quants == nullptr || width % kQuantGroup == 0, "quantised columns come in groups of 32");
  mixer_kernels(level).silu_multiply_row(gate, up, width, row_out(out, row * out.columns));
}

}  // namespace dw::cpu
