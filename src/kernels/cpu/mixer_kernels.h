// The pieces of the mixer ops that differ per instruction set, as a table of functions. The op functions
// (delta_mixer.cpp, attention.cpp, mixers.cpp) check arguments, cut the work into tasks and own the scratch
// memory; a task's result depends on its arguments only.
#pragma once

#include "base/cpu_features.h"
#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

namespace dw::cpu {

// Columns of a panel: matrices that are streamed again and again ([tokens or k_dim, v_dim]) are kept as
// v_dim / 32 panels of [rows, 32], each of which fits the first-level cache and has no power-of-two stride.
inline constexpr int64_t kPanel = 32;

// The row of `out` that begins `offset` elements from the start.
DW_INLINE RowOut row_out(const ops::Activations& out, int64_t offset) {
  if (out.quants == nullptr) return {out.values + offset, nullptr, nullptr, nullptr};
  return {out.values + offset, out.quants + offset, out.scales + offset / kQuantGroup,
          out.sums + offset / kSumGroup};
}

// Some V heads of one K head over all rows of a span.
struct DeltaTask {
  const ops::DeltaMixer* op;
  int64_t channels;
  const float* span_qkv;  // first row of the span
  int64_t first_row, row_count;
  float* conv_state;  // the slot's
  float* state;       // the slot's
  int32_t k_head;
  int32_t v_begin, v_end;   // of the K head's V heads: 0 <= begin < end <= v_heads / k_heads
  bool updates_conv_state;  // this task alone reads these channels, so it may shift them
  float* scratch;           // delta_scratch_floats()
};
inline constexpr int32_t kMaxConvTaps = 16;
inline constexpr int64_t kRecurrentBlock = 16;  // tokens convolved at once in the token-by-token form
inline constexpr int64_t kChunkMultiple = 16;   // chunks are padded to it with zero tokens

// Rows of queries [token_begin, token_end) of a span x the heads of one KV head, over cached positions
// [key_begin, key_end).
struct AttentionTask {
  const ops::Attention* op;
  const ops::Span* span;
  const float* rope;  // [tokens, 2, rope_dims / 2]: cos, then sin
  int32_t kv_head;
  int64_t token_begin, token_end;  // rows of the span
  int64_t key_begin, key_end;
  // nullptr: writes the op's output. Else, per token and head of the KV head, kPartialExtra + value_dim
  // floats: largest score, sum of e^(score - largest), padding, the values weighted alike.
  float* partial;
  float* scratch;  // attention_scratch_floats()
};
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kPartialExtra = 16;
inline constexpr int64_t kKeyTile = 64;  // cached positions per tile
inline constexpr int64_t kRowTileMax =
    128;  // rows (tokens x heads of a KV head) per tile, unless one token has more

// The partial results of one token and head, merged in order.
struct MergeTask {
  const ops::Attention* op;
  const float* partials;                      // of partition 0
  int64_t partition_stride, partition_count;  // floats; how many
  int64_t row, head;                          // of the batch
};

struct MixerKernels {
  void (*norm_row)(const float* x, const float* weight, float eps, int64_t count, const RowOut& out);
  void (*silu_multiply_row)(const float* gate, const float* up, int64_t count, const RowOut& out);
  // work: [expert_count] floats
  void (*route_row)(const float* logits, int64_t expert_count, int64_t top_k, bool normalise, float* work,
                    int32_t* experts, float* weights);
  void (*delta)(const DeltaTask& task);
  // Norm, rotation and cache write of one row of the batch.
  void (*attention_store)(const ops::Attention& op, const ops::Span& span, const float* rope, int64_t row);
  void (*attention)(const AttentionTask& task);
  void (*attention_merge)(const MergeTask& task);
};

int64_t delta_scratch_floats(const ops::DeltaMixer& op, int64_t block, int64_t v_count);
int64_t attention_scratch_floats(const ops::Attention& op);

const MixerKernels& mixer_kernels(CpuLevel level);
// nullptr where the compiler's target has no such instructions.
const MixerKernels* mixer_kernels_portable();
const MixerKernels* mixer_kernels_avx2();
const MixerKernels* mixer_kernels_avx512();

}  // namespace dw::cpu
