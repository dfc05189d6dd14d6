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
  float* logits;    // [tokens, expert_count + 1]
  int32_t* counts;  // [expert_count], to be cleared; or nullptr
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

// The normed rows [first, first + count), 32 columns a wave; the last waves of the blocks first, for the
// first ones have logits to write. scale_of(i): 1 / rms of row first + i.
template <class ScaleOf>
DW_DEVICE void write_norm(const LogitsJob& job, int first, int count, const ScaleOf& scale_of) {
  const int lane = int(threadIdx.x) % kWave, wave = int(threadIdx.x) / kWave;
  const int groups = (job.columns + kWave - 1) / kWave, all = groups * count;
  for (int g = int(blockIdx.x) + int(gridDim.x) * (kWaves - 1 - wave); g < all;
       g += int(gridDim.x) * kWaves) {
    const int i = g / groups, token = first + i, column = g % groups * kWave + lane;
    const bool inside = column < job.columns;
    const float x = inside ? job.x[int64_t(token) * job.columns + column] : 0.0f;
    const float value = inside ? x * scale_of(i) * job.norm_weight[column] : 0.0f;
    if (job.norm_out.quants != nullptr)
      store_activation(job.norm_out, token, column, value);
    else if (inside)
      job.norm_out.values[int64_t(token) * job.columns + column] = value;
  }
}

// Grid: rows of the router, tokens by kRouterTokens. kAhead: tokens whose loads are in flight together.
template <quant::Type kType, int kAhead>
__global__ void __launch_bounds__(kThreads, kAhead > 1 ? 2 : 3)
    router_logits_kernel(const DW_GRID_CONSTANT LogitsJob job) {
  __shared__ float partial[kRouterTokens][kWaves][kSums];
  const int thread = int(threadIdx.x), lane = thread % kWave, wave = thread / kWave;
  const int first_token = int(blockIdx.y) * kRouterTokens,
            count = min(kRouterTokens, job.tokens - first_token);
  float4 held[kRows][kFours];
  hold_weights<kType>(job, 0, held);
  wait_for_previous();
  allow_next();
  if (job.counts != nullptr && blockIdx.x == 0 && blockIdx.y == 0)
    for (int e = thread; e < job.expert_count; e += kThreads) job.counts[e] = 0;
  for (int base = 0; base < count; base += kAhead) {
    float sums[kAhead][kSums] = {};
    for (int first = 0; first < job.columns; first += kHeldColumns) {
      if (job.columns > kHeldColumns) hold_weights<kType>(job, first, held);
      float4 x[kAhead][kFours];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        const float* row = job.x + int64_t(first_token + min(base + a, count - 1)) * job.columns;
#pragma unroll
        for (int f = 0; f < kFours; ++f) x[a][f] = four_floats(row, held_column(first, f), job.columns);
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
#pragma unroll
        for (int f = 0; f < kFours; ++f) {
          const float4& v = x[a][f];
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            const float4& w = held[r][f];
            sums[a][r] += v.x * w.x + v.y * w.y + v.z * w.z + v.w * w.w;
          }
          sums[a][kSquares] += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        }
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const float total = sum_values_of_wave(sums[a], lane);
      if (lane < kSums && base + a < count) partial[base + a][wave][lane] = total;
    }
  }
  __syncthreads();
  const auto sum_of = [&](int i, int which) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWaves; ++w) sum += partial[i][w][which];
    return sum;
  };
  const auto scale_of = [&](int i) {
    return 1.0f / sqrtf(sum_of(i, kSquares) / float(job.columns) + job.eps);
  };
  if (thread < count * kRows) {
    const int i = thread / kRows, r = thread % kRows, row = int(blockIdx.x) * kRows + r;
    const float scale = job.norm_weight == nullptr ? 1.0f : scale_of(i);
    if (row <= job.expert_count)
      job.logits[int64_t(first_token + i) * (job.expert_count + 1) + row] = sum_of(i, r) * scale;
  }
  if (job.norm_weight != nullptr) write_norm(job, first_token, count, scale_of);
}

}  // namespace

bool router_logits(Context& context, const ops::Moe& op, const ops::Norm* norm, float* logits,
                   int32_t* counts) {
  using enum quant::Type;
  const quant::Type type = op.router.type;
  if (type != F32 && type != F16 && type != BF16) return false;
  if (op.x.columns % 4 != 0) return false;
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
  job.counts = counts;
  const Work work = {"route", double(op.expert_count) * double(job.row_bytes),
                     double(op.expert_count + 1) * double(op.x.columns) * 2 * double(op.x.tokens)};
  const auto run = [&](auto kernel) {
    prefer_shared_memory(kernel);
    launch(context, "router_logits_kernel", work, kernel,
           dim3(ceil_div(op.expert_count + 1, kRows), ceil_div(op.x.tokens, kRouterTokens)), dim3(kThreads),
           0, job);
  };
  const auto run_type = [&](auto of_type) {
    constexpr quant::Type kType = decltype(of_type)::value;
    if (op.x.tokens <= 2)
      run(router_logits_kernel<kType, 1>);
    else
      run(router_logits_kernel<kType, 4>);
  };
  visit_float_type(type, run_type);
  return true;
}

}  // namespace dw::gpu
