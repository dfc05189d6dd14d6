// ops::Attention: checks, rotation angles, tasks, scratch. Three loops: cache rows of the new tokens; tiles
// of queries against the cache; merges, for the spans whose positions were cut. How a span is cut depends on
// that span alone.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/mixers.h"
#include "kernels/cpu/scratch.h"

namespace dw::cpu {
namespace {

constexpr int64_t kPartitionKeys = 512;    // positions a task reads for a single query token
constexpr int64_t kPartitionedRows = 128;  // longer spans have queries enough to go round

void check(const ops::Attention& op) {
  DW_CHECK(op.heads > 0 && op.kv_heads > 0 && op.heads % op.kv_heads == 0,
           "query heads must be a multiple of KV heads");
  DW_CHECK(op.key_dim == op.value_dim, "the gate has key_dim columns, so value_dim must equal it");
  DW_CHECK(op.key_dim > 0 && op.key_dim % 32 == 0 && op.key_dim <= kMaxHeadDim,
           "head dim must be a multiple of 32, at most 1024");
  DW_CHECK(op.rope_dims >= 0 && op.rope_dims % 2 == 0 && op.rope_dims <= op.key_dim,
           "rope_dims must be even and at most key_dim");
  DW_CHECK(op.page_tokens > 0, "page_tokens must be positive");
  int64_t rows = 0;
  for (const ops::Span& span : op.spans) {
    DW_CHECK(span.first_row == rows && span.row_count >= 1, "spans must follow one another");
    DW_CHECK(span.position >= 0 && int64_t(span.position) + span.row_count <= (1 << 24),
             "positions must stay below 2^24");
    rows += span.row_count;
  }
  DW_CHECK(rows == op.tokens, "spans must cover the batch");
}

// Where a span's partial results lie.
struct Cut {
  int64_t keys = 0;    // positions per partition
  int64_t count = 1;   // partitions; 1: none, the tiles write the output
  int64_t offset = 0;  // floats
};

std::vector<Cut> cut_spans(const ops::Attention& op, int64_t& partial_floats) {
  std::vector<Cut> cuts(op.spans.size());
  partial_floats = 0;
  for (size_t i = 0; i < cuts.size(); ++i) {
    const ops::Span& span = op.spans[i];
    const int64_t length = int64_t(span.position) + span.row_count;
    Cut& cut = cuts[i];
    // In proportion to the rows, so that partial results stay a small part of what is read.
    cut.keys = span.row_count > kPartitionedRows ? length : kPartitionKeys * ((span.row_count + 1) / 2);
    cut.count = (length + cut.keys - 1) / cut.keys;
    cut.offset = partial_floats;
    if (cut.count > 1) {
      partial_floats += cut.count * span.row_count * op.heads * (kPartialExtra + op.value_dim);
    }
  }
  return cuts;
}

// Angles in double: at position 10^6 a float angle is off by 0.03.
std::vector<double> rope_frequencies(const ops::Attention& op) {
  std::vector<double> frequencies(size_t(op.rope_dims / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(double(op.rope_base), -2.0 * double(i) / double(op.rope_dims));
  }
  return frequencies;
}

// Which span each row belongs to.
std::vector<int32_t> span_of_rows(const ops::Attention& op) {
  std::vector<int32_t> spans(size_t(op.tokens));
  for (size_t s = 0; s < op.spans.size(); ++s) {
    std::fill_n(spans.begin() + op.spans[s].first_row, op.spans[s].row_count, int32_t(s));
  }
  return spans;
}

std::vector<AttentionTask> make_tasks(const ops::Attention& op, const std::vector<Cut>& cuts, float* rope,
                                      float* partials) {
  std::vector<AttentionTask> tasks;
  const int64_t group = op.heads / op.kv_heads, tile = std::max<int64_t>(1, kRowTileMax / group);
  const int64_t row_floats = kPartialExtra + op.value_dim;
  for (size_t i = 0; i < cuts.size(); ++i) {
    const ops::Span& span = op.spans[i];
    const int64_t length = int64_t(span.position) + span.row_count;
    // Last tokens first: they see most and take longest.
    for (int64_t begin = (span.row_count - 1) / tile * tile; begin >= 0; begin -= tile) {
      const int64_t end = std::min<int64_t>(span.row_count, begin + tile);
      for (int64_t p = 0; p < cuts[i].count; ++p) {
        for (int32_t h = 0; h < op.kv_heads; ++h) {
          const int64_t place = ((p * op.kv_heads + h) * span.row_count + begin) * group * row_floats;
          tasks.push_back({&op, &span, rope, h, begin, end, p * cuts[i].keys,
                           std::min(length, (p + 1) * cuts[i].keys),
                           cuts[i].count > 1 ? partials + cuts[i].offset + place : nullptr, nullptr});
        }
      }
    }
  }
  return tasks;
}

}  // namespace

int64_t attention_scratch_floats(const ops::Attention& op) {
  AttentionScratch scratch;
  return lay_out(scratch, nullptr, op);
}

void attention(const Context& context, const ops::Attention& op) {
  check(op);
  const MixerKernels& kernels = mixer_kernels(context.level);
  ThreadPool& pool = *context.pool;
  int64_t partial_floats = 0;
  const std::vector<Cut> cuts = cut_spans(op, partial_floats);
  const int64_t rope_floats = (op.tokens * op.rope_dims + 15) / 16 * 16;
  const int64_t scratch_floats = attention_scratch_floats(op);
  Scratch scratch(context.arena, rope_floats + partial_floats + scratch_floats * pool.thread_count());
  float* const rope = scratch.data();
  float* const partials = rope + rope_floats;
  float* const working = partials + partial_floats;

  const std::vector<int32_t> span_of = span_of_rows(op);
  const std::vector<double> frequencies = rope_frequencies(op);
  pool.parallel_for(op.tokens, [&](int64_t row, int) {
    const ops::Span& span = op.spans[size_t(span_of[size_t(row)])];
    const double position = double(span.position + row - span.first_row);
    float* out = rope + row * op.rope_dims;
    for (size_t i = 0; i < frequencies.size(); ++i) {
      out[i] = float(std::cos(position * frequencies[i]));
      out[frequencies.size() + i] = float(std::sin(position * frequencies[i]));
    }
    kernels.attention_store(op, span, rope, row);
  });

  const std::vector<AttentionTask> tasks = make_tasks(op, cuts, rope, partials);
  pool.parallel_for(int64_t(tasks.size()), [&](int64_t index, int thread) {
    AttentionTask task = tasks[size_t(index)];
    task.scratch = working + thread * scratch_floats;
    kernels.attention(task);
  });

  if (partial_floats == 0) return;
  const int64_t group = op.heads / op.kv_heads, row_floats = kPartialExtra + op.value_dim;
  pool.parallel_for(op.tokens, [&](int64_t row, int) {
    const int32_t index = span_of[size_t(row)];
    const ops::Span& span = op.spans[size_t(index)];
    const Cut& cut = cuts[size_t(index)];
    if (cut.count == 1) return;
    for (int64_t head = 0; head < op.heads; ++head) {
      const int64_t place = (head / group * span.row_count + row - span.first_row) * group + head % group;
      kernels.attention_merge({&op, partials + cut.offset + place * row_floats,
                               op.kv_heads * span.row_count * group * row_floats, cut.count, row, head});
    }
  });
}

}  // namespace dw::cpu
