// ops::Attention on the GPU: which kernels run, the cache write of long spans, the merge of cut spans.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"
#include "kernels/gpu/attention.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int kStoreThreads = 256;
constexpr int kStoreRows = kStoreThreads / 32;  // 32 lanes a row
constexpr int kMergeThreads = 256;

// Rounds 32 consecutive columns of a row, one a lane, into the cache.
template <ops::KvType kType>
DW_DEVICE void store_cached(uint8_t* row, int dim, int column, float x) {
  if constexpr (kType == ops::KvType::kF32) {
    reinterpret_cast<float*>(row)[column] = x;
  } else if constexpr (kType == ops::KvType::kF16) {
    reinterpret_cast<uint16_t*>(row)[column] = float_to_half_bits(x);
  } else {
    const QuantisedGroup group = quantise_group(x);
    row[column] = uint8_t(int8_t(group.quant));
    if (column % 32 == 0)
      *reinterpret_cast<uint16_t*>(row + dim + column / 16) = float_to_half_bits(group.scale);
  }
}

// Keys (normed, rotated) and values of the batch into the cache; of long spans only, unless all_spans.
// 32 lanes take one row of one KV head: its key if blockIdx.y is 0, its value if it is 1.
template <ops::KvType kType>
__global__ void __launch_bounds__(kStoreThreads)
    attention_store_kernel(AttentionArgs args, RopeTable rope, bool all_spans) {
  __shared__ float staged[kStoreRows][kMaxHeadDim];
  wait_for_previous();
  allow_next();
  const int group = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int item = blockIdx.x * kStoreRows + group;
  const int row = item / args.kv_heads, kv_head = item % args.kv_heads;
  const bool inside = row < args.tokens;
  const bool is_key = blockIdx.y == 0;
  const SpanEntry span = args.spans[args.row_span[inside ? row : 0]];
  const bool wanted = inside && (all_spans || span.row_count > kShortSpan);
  const int dim = args.dim, position = span.position + row - span.first_row;
  const float* x = (is_key ? args.k : args.v) + int64_t(inside ? item : 0) * dim;
  float values[kMaxHeadDim / 32], sum = 0;
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 32; ++j) {
    values[j] = 32 * j < dim ? x[32 * j + lane] : 0.0f;
    sum += values[j] * values[j];
  }
  if (is_key) {
    const float factor = 1.0f / sqrtf(lanes_sum<32>(sum) / float(dim) + args.eps);
#pragma unroll
    for (int j = 0; j < kMaxHeadDim / 32; ++j) {
      if (32 * j >= dim) break;
      values[j] *= factor * args.k_norm[32 * j + lane];
      staged[group][32 * j + lane] = values[j];
    }
    __syncthreads();
    const int half = args.rope_dims / 2;
#pragma unroll
    for (int j = 0; j < kMaxHeadDim / 32; ++j) {
      const int d = 32 * j + lane;
      if (d >= args.rope_dims) break;
      const int pair = d < half ? d : d - half;
      const float2 turn = rope_cos_sin(rope.turns[pair], position);
      const float other = staged[group][d < half ? d + half : pair];
      values[j] = values[j] * turn.x + (d < half ? -other : other) * turn.y;
    }
  }
  if (!wanted) return;
  uint8_t* cache =
      (is_key ? args.k_cache : args.v_cache) +
      attention_cache_row(args, span.first_page, kv_head, position) * attention_row_bytes<kType>(dim);
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 32; ++j)
    if (32 * j < dim) store_cached<kType>(cache, dim, 32 * j + lane, values[j]);
}

// Merges the cuts of a short span: one block a row and head. Threads: 64 columns of four by four parts of the
// cuts, then one column each.
__global__ void __launch_bounds__(kMergeThreads) attention_merge_kernel(AttentionArgs args) {
  constexpr int kParts = 4, kAhead = (kMaxSplits + kParts - 1) / kParts;
  __shared__ float weights[kMaxSplits];
  __shared__ float4 sums[kParts][kMaxHeadDim / 4];
  // The next kernel may come early: it waits for this one's end. The tables are older than this step.
  allow_next();
  const int row = blockIdx.x, head = blockIdx.y, dim = args.dim;
  const int span_index = args.row_span[row];
  const SpanEntry span = args.spans[span_index];
  const int context = span.position + span.row_count;
  const int keys = attention_split_keys(context, args.max_splits);
  // Cuts that begin after the row's own position saw nothing of it.
  const int count = (span.position + row - span.first_row) / keys + 1;
  const int partial_row = attention_partial_row(args, span_index) + row - span.first_row;
  const int64_t base = (int64_t(partial_row) * args.heads + head) * args.splits;
  wait_for_previous();
  if (span.row_count > kShortSpan) return;

  const int column = threadIdx.x % 64, part = threadIdx.x / 64;
  const float4* from = reinterpret_cast<const float4*>(args.partials + base * dim) + column;
  const int stride = dim / 4;
  float4 values[kAhead];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int s = part + kParts * i;
    values[i] = s < count && column < stride ? from[int64_t(s) * stride] : float4{0, 0, 0, 0};
  }
  const float gate = int(threadIdx.x) < dim ? gate_of(args, row, head, threadIdx.x) : 0.0f;
  float2 extremes[(kMaxSplits + kWave - 1) / kWave];
  float largest = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i * kWave < kMaxSplits; ++i) {
    const int s = i * kWave + int(threadIdx.x % kWave);
    extremes[i] = s < count ? args.extremes[base + s] : float2{-INFINITY, 0};
  }
#pragma unroll
  for (int i = 0; i * kWave < kMaxSplits; ++i) largest = fmaxf(largest, extremes[i].x);
  largest = lanes_max(largest);
#pragma unroll
  for (int i = 0; i * kWave < kMaxSplits; ++i) {
    const int s = i * kWave + int(threadIdx.x % kWave);
    const float weight = exp2f(extremes[i].x - largest);
    if (int(threadIdx.x) < kWave && s < count) weights[s] = weight;
    total += weight * extremes[i].y;
  }
  total = lanes_sum(total);
  __syncthreads();
  float4 sum = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    const int s = part + kParts * i;
    if (s >= count) break;
    const float w = weights[s];
    sum.x += w * values[i].x, sum.y += w * values[i].y, sum.z += w * values[i].z, sum.w += w * values[i].w;
  }
  sums[part][column] = sum;
  __syncthreads();
  const int d = threadIdx.x;
  if (d >= dim) return;
  float x = 0;
#pragma unroll
  for (int i = 0; i < kParts; ++i) x += reinterpret_cast<const float*>(sums[i])[d];
  finish_attention(args, row, head, d, x, total, gate);
}

void check(const ops::Attention& op) {
  DW_CHECK(op.heads > 0 && op.kv_heads > 0 && op.heads % op.kv_heads == 0,
           "query heads must be a multiple of KV heads");
  DW_CHECK(op.key_dim == op.value_dim, "the gate has key_dim columns, so value_dim must equal it");
  DW_CHECK(op.key_dim > 0 && op.key_dim % 32 == 0 && op.key_dim <= kMaxHeadDim,
           "head dim must be a multiple of 32, at most 256");
  DW_CHECK(op.rope_dims >= 0 && op.rope_dims % 2 == 0 && op.rope_dims <= op.key_dim,
           "rope_dims must be even and at most key_dim");
  DW_CHECK(op.page_tokens > 0, "page_tokens must be positive");
  DW_CHECK(op.out.quants != nullptr, "the output has a multiple of 32 columns: it is quantised");
}

int32_t most_splits(const Limits& limits, int32_t kv_heads) {
  return std::clamp(limits.multiprocessors / kv_heads, 1, kMaxSplits);
}

uint64_t partial_bytes(int64_t rows, int64_t heads, int64_t splits, int64_t dim) {
  return uint64_t(rows * heads * splits) * (uint64_t(dim) * 4 + 8);
}

// Rows of short spans, at most.
int64_t short_rows(const BatchTable& batch) {
  if (batch.longest_span <= kShortSpan) return batch.tokens;
  return std::min<int64_t>(batch.tokens - batch.longest_span, int64_t(kShortSpan) * (batch.span_count - 1));
}

void plan_splits(const Context& context, AttentionPlan& plan) {
  AttentionArgs& args = plan.args;
  const int64_t rows = short_rows(context.batch);
  int64_t aim = most_splits(context.limits, args.kv_heads);
  if (rows > kPartialRows) aim = std::max<int64_t>(1, aim * kPartialRows / rows);
  const int64_t bound = std::max(1, context.batch.context_bound);
  args.max_splits = int32_t(aim);
  args.splits = bound <= kUncutKeys ? 1 : int32_t(std::min<int64_t>(aim, ceil_div(bound, kSplitKeys)));
  args.partials = reinterpret_cast<float*>(context.scratch);
  const uint64_t values = uint64_t(rows * args.heads * args.splits) * uint64_t(args.dim) * 4;
  args.extremes = reinterpret_cast<float2*>(context.scratch + values);
  DW_CHECK(
      args.splits == 1 || partial_bytes(rows, args.heads, args.splits, args.dim) <= context.scratch_bytes,
      "attention's partial results do not fit the scratch memory");
}

AttentionPlan make_plan(const Context& context, const ops::Attention& op) {
  AttentionPlan plan = {};
  AttentionArgs& args = plan.args;
  const BatchTable& batch = context.batch;
  args.q_gate = op.q_gate, args.k = op.k, args.v = op.v, args.q_norm = op.q_norm, args.k_norm = op.k_norm;
  args.k_cache = reinterpret_cast<uint8_t*>(op.k_cache);
  args.v_cache = reinterpret_cast<uint8_t*>(op.v_cache);
  args.spans = batch.spans, args.row_span = batch.row_span, args.pages = batch.pages;
  args.out = op.out;
  args.heads = op.heads, args.kv_heads = op.kv_heads, args.group = op.heads / op.kv_heads;
  args.dim = op.key_dim, args.rope_dims = op.rope_dims, args.page_tokens = op.page_tokens;
  args.span_count = batch.span_count, args.tokens = batch.tokens;
  args.mixed = batch.span_count > 1 && batch.longest_span > kShortSpan;
  args.eps = op.eps;
  args.scale = op.scale * std::numbers::log2e_v<float>;
  for (int32_t i = 0; i < op.rope_dims / 2; ++i) {
    const double angle = std::pow(double(op.rope_base), -2.0 * double(i) / double(op.rope_dims));
    plan.rope.turns[i] = uint64_t(std::ldexp(angle / (2 * std::numbers::pi), 64));
  }
  plan.kv_type = op.kv_type;
  plan.longest_span = batch.longest_span;
  plan_splits(context, plan);
  // Positions are not known here: a full cache up to the bound, half of it for the batch's own rows.
  const double row_bytes = 2.0 * double(ops::kv_row_bytes(op.kv_type, op.key_dim)) * op.kv_heads;
  const double width = double(op.heads) * op.key_dim;
  plan.work.op = "attention";
  plan.work.bytes = row_bytes * double(batch.span_count) * double(batch.context_bound) +
                    double(batch.tokens) * (width * 13.25 + 8.0 * double(op.kv_heads) * op.key_dim);
  plan.work.operations =
      4.0 * width * double(batch.tokens) * (double(batch.context_bound) - double(batch.longest_span) / 2);
  return plan;
}

void store_rows(Context& context, const AttentionPlan& plan, bool all_spans) {
  const auto kernel = plan.kv_type == ops::KvType::kF16    ? attention_store_kernel<ops::KvType::kF16>
                      : plan.kv_type == ops::KvType::kQ8_0 ? attention_store_kernel<ops::KvType::kQ8_0>
                                                           : attention_store_kernel<ops::KvType::kF32>;
  const AttentionArgs& args = plan.args;
  const int64_t rows = int64_t(args.tokens) * args.kv_heads;
  const double row_bytes = double(ops::kv_row_bytes(plan.kv_type, args.dim)) + 4.0 * args.dim;
  launch(context, "attention_store_kernel", {"attention store", 2 * double(rows) * row_bytes, 0}, kernel,
         dim3(ceil_div(rows, kStoreRows), 2), dim3(kStoreThreads), 0, args, plan.rope, all_spans);
}

}  // namespace

uint64_t attention_scratch_bytes(const ops::Attention& largest, const Limits& limits) {
  const int64_t rows = std::min<int64_t>(largest.tokens, kPartialRows);
  return partial_bytes(rows, largest.heads, most_splits(limits, largest.kv_heads), largest.key_dim);
}

void attention(Context& context, const ops::Attention& op) {
  check(op);
  const AttentionPlan plan = make_plan(context, op);
  const bool any_long = context.batch.longest_span > kShortSpan;
  const bool any_short = !any_long || plan.args.mixed;
#if defined(DW_GPU_CUDA)
  const bool tensor_cores = context.limits.architecture >= 900;
  const bool fast_short = tensor_cores && sm90::attention_decode_fits(plan);
  const bool fast_long = tensor_cores && sm90::attention_prefill_fits(plan);
#else
  constexpr bool fast_short = false, fast_long = false;
#endif

  if (any_long || !fast_short) store_rows(context, plan, !fast_short);
#if defined(DW_GPU_CUDA)
  if (any_short && fast_short) sm90::attention_decode(context, plan);
  if (any_long && fast_long) sm90::attention_prefill(context, plan);
#endif
  if (any_long && !fast_long) attention_tiles(context, plan, false, true);
  if (any_short && !fast_short) attention_tiles(context, plan, true, false);
  if (any_short && plan.args.splits > 1) {
    const double bytes = double(short_rows(context.batch)) * plan.args.heads * plan.args.dim;
    launch(context, "attention_merge_kernel", {"attention merge", bytes * (4.0 * plan.args.splits + 9.25), 0},
           attention_merge_kernel, dim3(uint32_t(plan.args.tokens), uint32_t(plan.args.heads)),
           dim3(kMergeThreads), 0, plan.args);
  }
}

}  // namespace dw::gpu
