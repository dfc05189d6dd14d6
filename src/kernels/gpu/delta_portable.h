// The portable delta mixer's kernels among themselves.
#pragma once

#include "kernels/gpu/delta.h"
#include "kernels/gpu/delta_step.h"

namespace dw::gpu::portable {

// What the convolution leaves in scratch memory for the kernels behind it.
struct DeltaRows {
  float* u = nullptr;       // [tokens, channels]: q and k normalised
  float2* gates = nullptr;  // [tokens, v_heads]: g, beta
};

// The channels of V head h, and those of q and k where h is the first of its K head.
DW_DEVICE void keep_rows_of_head(const ops::DeltaMixer& op, const SpanEntry& span, int h, int thread,
                                 int threads) {
  const int ratio = op.v_heads / op.k_heads;
  const int64_t keys = int64_t(op.k_heads) * op.k_dim;
  keep_newest_rows(op, span, 2 * keys + int64_t(h) * op.v_dim, op.v_dim, thread, threads);
  if (h % ratio != 0) return;
  keep_newest_rows(op, span, int64_t(h / ratio) * op.k_dim, op.k_dim, thread, threads);
  keep_newest_rows(op, span, keys + int64_t(h / ratio) * op.k_dim, op.k_dim, thread, threads);
}

// Every row of the batch.
void convolve_rows(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows);
// Spans of fewer than chunked_from rows. Head sizes of 128: finished; else o goes to out.values.
void step_tokens(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows, int32_t chunked_from);
// Spans of at least chunked_from rows, in chunks of 16 or 32; o goes to out.values. Head sizes of 128.
void step_chunks(Context& context, const ops::DeltaMixer& op, const DeltaRows& rows, int32_t chunk,
                 int32_t chunked_from, float* triangles);
uint64_t triangle_bytes(int32_t chunk);  // of one chunk and head
// Norm, gate and quantised output of the rows whose o lies in out.values: spans of at least `from` rows.
void finish_rows(Context& context, const ops::DeltaMixer& op, int32_t from);

}  // namespace dw::gpu::portable
