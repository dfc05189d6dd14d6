// The router's values for few tokens: RMS norm and product in one launch, the weights in registers before
// the launch in front has ended. A block has four rows; its threads share the columns, so that the block
// reads x once.
#include "base/check.h"
#include "kernels/gpu/activations.h"
#include "kernels/gpu/gemv_core.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/sm90/moe_stream.h"

namespace dw::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kWaves = kThreads / kWave;
constexpr int kRows = 4;
constexpr int kFours = 2;                            // groups of four columns a thread holds of each row
constexpr int kHeldColumns = kThreads * 4 * kFours;  // 2048
constexpr int kSums = 8;                             // of a wave: kRows dots, a sum of squares, rounded up
constexpr int kSquares = kRows;

struct LogitsJob {
  const uint8_t* router;
  uint64_t row_bytes;
  int columns, expert_count, tokens;
  const float* x;  // before the norm, if there is one
  const float* norm_weight;
  float eps;
  ops::Activations norm_out;
  const float* shared_router;
  float* logits;  // [tokens, expert_count + 1]
};

DW_DEVICE float4 four_floats(const float* values, int column, int columns) {
  return column < columns ? *reinterpret_cast<const float4*>(values + column) : make_float4(0, 0, 0, 0);
}

template <quant::Type kType>
DW_DEVICE float4 four_weights(const uint8_t* row, int column, int columns) {
  if constexpr (kType == quant::Type::F32) {
    return four_floats(reinterpret_cast<const float*>(row), column, columns);
  } else {
    if (column >= columns) return make_float4(0, 0, 0, 0);
    const uint2 raw = *reinterpret_cast<const uint2*>(row + 2 * column);
    const auto value = [](uint32_t bits) {
      return kType == quant::Type::F16 ? half_bits_to_float(uint16_t(bits))
                                       : bfloat_bits_to_float(uint16_t(bits));
    };
    return make_float4(value(raw.x), value(raw.x >> 16), value(raw.y), value(raw.y >> 16));
  }
}

DW_DEVICE int held_column(int first, int i) {
  return first + (i * kThreads + int(threadIdx.x)) * 4;
}

// The block's rows (row expert_count: the shared expert's gate) times the norm's weight.
template <quant::Type kType>
DW_DEVICE void hold_weights(const LogitsJob& job, int first, float4 (&held)[kRows][kFours]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = int(blockIdx.x) * kRows + r;
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int column = held_column(first, i);
      if (row < job.expert_count)
        held[r][i] = four_weights<kType>(job.router + uint64_t(row) * job.row_bytes, column, job.columns);
      else if (row == job.expert_count && job.shared_router != nullptr)
        held[r][i] = four_floats(job.shared_router, column, job.columns);
      else
        held[r][i] = make_float4(0, 0, 0, 0);
    }
  }
  if (job.norm_weight == nullptr) return;
#pragma unroll
  for (int i = 0; i < kFours; ++i) {
    const float4 w = four_floats(job.norm_weight, held_column(first, i), job.columns);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float4& h = held[r][i];
      h.x *= w.x, h.y *= w.y, h.z *= w.z, h.w *= w.w;
    }
  }
}

// The normed rows, 32 columns a wave; the last waves of the blocks first, for the first ones have logits to
// write. scale_of(token): 1 / rms.
template <class ScaleOf>
DW_DEVICE void write_norm(const LogitsJob& job, const ScaleOf& scale_of) {
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  const int groups = (job.columns + kWave - 1) / kWave, all = groups * job.tokens;
  for (int g = int(blockIdx.x) + int(gridDim.x) * (kWaves - 1 - wave); g < all;
       g += int(gridDim.x) * kWaves) {
    const int token = g / groups, column = g % groups * kWave + lane;
    const bool inside = column < job.columns;
    const float x = inside ? job.x[int64_t(token) * job.columns + column] : 0.0f;
    const float value = inside ? x * scale_of(token) * job.norm_weight[column] : 0.0f;
    if (job.norm_out.quants != nullptr)
      store_activation(job.norm_out, token, column, value);
    else if (inside)
      job.norm_out.values[int64_t(token) * job.columns + column] = value;
  }
}

template <quant::Type kType>
__global__ void __launch_bounds__(kThreads, 3) logits_kernel(const DW_GRID_CONSTANT LogitsJob job) {
  __shared__ float partial[kRouterTokens][kWaves][kSums];
  const int thread = int(threadIdx.x), lane = thread % kWave, wave = thread / kWave;
  float4 held[kRows][kFours];
  hold_weights<kType>(job, 0, held);
  wait_for_previous();
  allow_next();
#pragma unroll 2
  for (int token = 0; token < job.tokens; ++token) {
    const float* x = job.x + int64_t(token) * job.columns;
    float sums[kSums] = {};
    for (int first = 0; first < job.columns; first += kHeldColumns) {
      if (job.columns > kHeldColumns) hold_weights<kType>(job, first, held);
#pragma unroll
      for (int i = 0; i < kFours; ++i) {
        const float4 v = four_floats(x, held_column(first, i), job.columns);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const float4& w = held[r][i];
          sums[r] += v.x * w.x + v.y * w.y + v.z * w.z + v.w * w.w;
        }
        sums[kSquares] += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
      }
    }
    const float total = sum_values_of_wave(sums, lane);
    if (lane < kSums) partial[token][wave][lane] = total;
  }
  __syncthreads();
  const auto sum_of = [&](int token, int which) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWaves; ++w) sum += partial[token][w][which];
    return sum;
  };
  const auto scale_of = [&](int token) {
    return 1.0f / sqrtf(sum_of(token, kSquares) / float(job.columns) + job.eps);
  };
  if (thread < job.tokens * kRows) {
    const int token = thread / kRows, r = thread % kRows, row = int(blockIdx.x) * kRows + r;
    const float scale = job.norm_weight == nullptr ? 1.0f : scale_of(token);
    if (row <= job.expert_count)
      job.logits[int64_t(token) * (job.expert_count + 1) + row] = sum_of(token, r) * scale;
  }
  if (job.norm_weight != nullptr) write_norm(job, scale_of);
}

}  // namespace

bool router_logits(Context& context, const ops::Moe& op, const ops::Norm* norm, float* logits) {
  using enum quant::Type;
  const quant::Type type = op.router.type;
  if (type != F32 && type != F16 && type != BF16) return false;
  if (op.x.columns % 4 != 0) return false;
  DW_CHECK(op.x.tokens <= kRouterTokens, "too many tokens for the router's one launch");
  DW_CHECK(norm == nullptr || norm->rows == nullptr, "the router's norm takes all rows");
  LogitsJob job = {};
  job.router = reinterpret_cast<const uint8_t*>(op.router.data);
  job.row_bytes = op.router.row_stride();
  job.columns = int(op.x.columns);
  job.expert_count = op.expert_count;
  job.tokens = int(op.x.tokens);
  job.x = norm != nullptr ? norm->x : op.x.values;
  if (norm != nullptr) job.norm_weight = norm->weight, job.eps = norm->eps, job.norm_out = norm->out;
  job.shared_router = op.shared_router;
  job.logits = logits;
  const Work work = {"route", double(op.expert_count) * double(job.row_bytes),
                     double(op.expert_count + 1) * double(op.x.columns) * 2 * double(op.x.tokens)};
  const auto run = [&](auto kernel) {
    prefer_shared_memory(kernel);
    launch(context, "router_logits_kernel", work, kernel, dim3(ceil_div(op.expert_count + 1, kRows)),
           dim3(kThreads), 0, job);
  };
  if (type == F32)
    run(logits_kernel<F32>);
  else if (type == F16)
    run(logits_kernel<F16>);
  else
    run(logits_kernel<BF16>);
  return true;
}

}  // namespace dw::gpu
