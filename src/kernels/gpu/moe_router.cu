// The router for few tokens in one launch: RMS norm, router product, top-k. Blocks have four rows of the
// router each; the last one to finish chooses.
#include "base/check.h"
#include "kernels/gpu/activations.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/moe_choose.h"
#include "kernels/gpu/moe_route.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 64;  // threads a row
constexpr int kRows = kThreads / kGroup;
constexpr int kWaves = kThreads / kWave;
constexpr int kWavesPerRow = kGroup / kWave;
constexpr int kHeld = 32;  // weights a thread holds: 2048 columns
constexpr int kHeldColumns = kGroup * kHeld;

struct RouterJob {
  const uint8_t* router;
  uint64_t row_bytes;
  int columns, expert_count, top_k, tokens;
  bool normalise;
  const float* x;  // before the norm, if there is one
  const float* norm_weight;
  float eps;
  ops::Activations norm_out;
  const float* shared_router;
  RouteTarget target;
  float* logits;  // [tokens, expert_count + 1]
  uint32_t* counter;
};

template <quant::Type kType>
DW_DEVICE float weight_at(const uint8_t* row, int column) {
  if constexpr (kType == quant::Type::F32)
    return reinterpret_cast<const float*>(row)[column];
  else if constexpr (kType == quant::Type::F16)
    return half_bits_to_float(reinterpret_cast<const uint16_t*>(row)[column]);
  else
    return bfloat_bits_to_float(reinterpret_cast<const uint16_t*>(row)[column]);
}

// Columns first + (i * 64 + lane) * 4 + 0..3 for i < kHeld / 4.
DW_DEVICE int held_column(int first, int i) {
  return first + (i * kGroup + int(threadIdx.x) % kGroup) * 4;
}

DW_DEVICE float4 four_floats(const float* values, int column, int columns) {
  return column < columns ? *reinterpret_cast<const float4*>(values + column) : make_float4(0, 0, 0, 0);
}

// A row of the router (row == expert_count: of the shared expert's) times the norm's weight.
template <quant::Type kType>
DW_DEVICE void hold_weights(const RouterJob& job, int row, int first, float4 (&held)[kHeld / 4]) {
  const bool exists = row < job.expert_count || (row == job.expert_count && job.shared_router != nullptr);
  const uint8_t* bytes = job.router + uint64_t(row) * job.row_bytes;
#pragma unroll
  for (int i = 0; i < kHeld / 4; ++i) {
    const int column = held_column(first, i);
    if (!exists) {
      held[i] = make_float4(0, 0, 0, 0);
    } else if (row == job.expert_count) {
      held[i] = four_floats(job.shared_router, column, job.columns);
    } else if constexpr (kType == quant::Type::F32) {
      held[i] = four_floats(reinterpret_cast<const float*>(bytes), column, job.columns);
    } else if (column < job.columns) {
      const uint2 raw = *reinterpret_cast<const uint2*>(bytes + 2 * column);
      const uint16_t four[4] = {uint16_t(raw.x), uint16_t(raw.x >> 16), uint16_t(raw.y),
                                uint16_t(raw.y >> 16)};
      const uint8_t* as_row = reinterpret_cast<const uint8_t*>(four);
      held[i] = make_float4(weight_at<kType>(as_row, 0), weight_at<kType>(as_row, 1),
                            weight_at<kType>(as_row, 2), weight_at<kType>(as_row, 3));
    } else {
      held[i] = make_float4(0, 0, 0, 0);
    }
  }
  if (job.norm_weight == nullptr) return;
#pragma unroll
  for (int i = 0; i < kHeld / 4; ++i) {
    const float4 w = four_floats(job.norm_weight, held_column(first, i), job.columns);
    held[i].x *= w.x, held[i].y *= w.y, held[i].z *= w.z, held[i].w *= w.w;
  }
}

DW_DEVICE void write_norm(const RouterJob& job, int token, float scale) {
  const float* x = job.x + int64_t(token) * job.columns;
  const int rounded = (job.columns + kThreads - 1) / kThreads * kThreads;
  for (int i = int(threadIdx.x); i < rounded; i += kThreads) {
    const float value = i < job.columns ? x[i] * scale * job.norm_weight[i] : 0.0f;
    if (job.norm_out.quants == nullptr) {
      if (i < job.columns) job.norm_out.values[int64_t(token) * job.columns + i] = value;
    } else if (i / 32 * 32 < job.columns) {
      store_activation(job.norm_out, token, i, value);
    }
  }
}

template <int kPerLane>
DW_DEVICE void choose_all(const RouterJob& job) {
  const int lane = int(threadIdx.x) % kWave;
  const int stride = job.expert_count + 1;
  for (int token = int(threadIdx.x) / kWave; token < job.tokens; token += kWaves) {
    // Written by other blocks of this launch: not through the first-level cache.
    const volatile float* row = job.logits + int64_t(token) * stride;
    const float shared = row[job.expert_count];
    const Chosen mine = choose_top<kPerLane>(job.expert_count, job.top_k, job.normalise,
                                             [&](int e) { return float(row[e]); });
    if (lane < job.top_k) {
      job.target.experts[token * job.top_k + lane] = mine.expert;
      job.target.weights[token * job.top_k + lane] = mine.weight;
    }
    if (lane == 0 && job.shared_router != nullptr) job.target.shared_weight[token] = sigmoid(shared);
  }
}

template <quant::Type kType>
__global__ void __launch_bounds__(kThreads) router_kernel(RouterJob job) {
  __shared__ float dots[kRouterTokens][kWaves], squares[kRouterTokens][kWaves];
  __shared__ bool is_last;
  const int thread = int(threadIdx.x);
  const int row = int(blockIdx.x) * kRows + thread / kGroup;
  float4 held[kHeld / 4];
  hold_weights<kType>(job, row, 0, held);
  wait_for_previous();
  allow_next();
#if defined(DW_GPU_CUDA)
#pragma unroll 2
#endif
  for (int token = 0; token < job.tokens; ++token) {
    const float* x = job.x + int64_t(token) * job.columns;
    float dot = 0, square = 0;
    for (int first = 0; first < job.columns; first += kHeldColumns) {
      if (job.columns > kHeldColumns) hold_weights<kType>(job, row, first, held);
#pragma unroll
      for (int i = 0; i < kHeld / 4; ++i) {
        const float4 v = four_floats(x, held_column(first, i), job.columns);
        dot += v.x * held[i].x + v.y * held[i].y + v.z * held[i].z + v.w * held[i].w;
        square += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
      }
    }
    dot = lanes_sum(dot), square = lanes_sum(square);
    if (thread % kWave == 0) dots[token][thread / kWave] = dot, squares[token][thread / kWave] = square;
  }
  __syncthreads();
  const auto scale_of = [&](int token) {
    if (job.norm_weight == nullptr) return 1.0f;
    float sum = 0;  // the first row's threads saw all columns
    for (int i = 0; i < kWavesPerRow; ++i) sum += squares[token][i];
    return 1.0f / sqrtf(sum / float(job.columns) + job.eps);
  };
  if (thread < job.tokens * kRows) {
    const int token = thread / kRows, r = thread % kRows;
    float sum = 0;
    for (int i = 0; i < kWavesPerRow; ++i) sum += dots[token][r * kWavesPerRow + i];
    if (int(blockIdx.x) * kRows + r <= job.expert_count)
      job.logits[int64_t(token) * (job.expert_count + 1) + int(blockIdx.x) * kRows + r] =
          sum * scale_of(token);
    __threadfence();
  }
  __syncthreads();
  if (thread == 0) is_last = atomicAdd(job.counter, 1u) == gridDim.x - 1;
  __syncthreads();
  if (is_last) {
    const RouterJob again = arguments_again(job);
    __threadfence();
    if (thread == 0) *again.counter = 0;
    constexpr int kFew = 16, kMost = kMaxRouterExperts / kWave;  // values a lane
    if (kFew == kMost || again.expert_count <= kFew * kWave)
      choose_all<kFew>(again);
    else
      choose_all<kMost>(again);
  }
  const RouterJob last = arguments_again(job);
  if (last.norm_weight != nullptr) {
    for (int token = int(blockIdx.x); token < last.tokens; token += int(gridDim.x))
      write_norm(last, token, scale_of(token));
  }
}

}  // namespace

bool route_few(Context& context, const ops::Moe& op, const ops::Norm* norm, const RouteTarget& target,
               float* logits) {
  using enum quant::Type;
  const quant::Type type = op.router.type;
  if (type != F32 && type != F16 && type != BF16) return false;
  if (op.x.columns % 4 != 0) return false;
  DW_CHECK(op.expert_count <= kMaxRouterExperts && op.top_k <= kMaxTopK,
           "more experts than the router kernels hold");
  DW_CHECK(op.x.tokens <= kRouterTokens, "too many tokens for the router's one launch");
  DW_CHECK(norm == nullptr || norm->rows == nullptr, "the router's norm takes all rows");
  RouterJob job = {};
  job.router = reinterpret_cast<const uint8_t*>(op.router.data);
  job.row_bytes = op.router.row_stride();
  job.columns = int(op.x.columns);
  job.expert_count = op.expert_count;
  job.top_k = op.top_k;
  job.tokens = int(op.x.tokens);
  job.normalise = op.normalise;
  job.x = norm != nullptr ? norm->x : op.x.values;
  if (norm != nullptr) job.norm_weight = norm->weight, job.eps = norm->eps, job.norm_out = norm->out;
  job.shared_router = op.shared_router;
  job.target = target;
  job.logits = logits;
  job.counter = context.counters;
  const double count = double(op.expert_count + 1) * double(op.x.columns);
  const Work work = {"route", double(op.expert_count) * double(job.row_bytes),
                     count * 2 * double(op.x.tokens)};
  const dim3 grid(ceil_div(op.expert_count + 1, kRows));
  const auto run = [&](auto kernel) {
    launch(context, "router_kernel", work, kernel, grid, dim3(kThreads), 0, job);
  };
  if (type == F32)
    run(router_kernel<F32>);
  else if (type == F16)
    run(router_kernel<F16>);
  else
    run(router_kernel<BF16>);
  return true;
}

}  // namespace dw::gpu
