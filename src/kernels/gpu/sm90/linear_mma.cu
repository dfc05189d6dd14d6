// Dense products on tensor cores: x is packed to f16 once, then one launch a matrix.
#include "base/check.h"
#include "kernels/gpu/internal.h"
#include "kernels/gpu/launch.h"
#include "kernels/gpu/scratch.h"
#include "kernels/gpu/sm90/mma_job.h"

namespace dw::gpu {
namespace {

constexpr int kPackThreads = 256;

DW_DEVICE uint32_t two_halves(float a, float b) {
  const __half2 both = __floats2half2_rn(a, b);
  return reinterpret_cast<const uint32_t&>(both);
}

// A block a row: the largest value goes to [2^12, 2^13).
__global__ void __launch_bounds__(kPackThreads)
    pack_halves_kernel(const float* x, int columns, PackedRows rows, const float* shared_router,
                       float* shared_weight, int32_t* zeroed, int zeroed_count) {
  constexpr int kWaves = kPackThreads / kWave;
  __shared__ float largest[kWaves], dots[kWaves];
  wait_for_previous();
  allow_next();
  const int thread = int(threadIdx.x);
  const int64_t row = blockIdx.x;
  const float4* from = reinterpret_cast<const float4*>(x + row * columns);
  float peak = 0, dot = 0;
  for (int i = thread; i < columns / 4; i += kPackThreads) {
    const float4 v = from[i];
    peak = fmaxf(fmaxf(peak, fmaxf(fabsf(v.x), fabsf(v.y))), fmaxf(fabsf(v.z), fabsf(v.w)));
    if (shared_router != nullptr) {
      const float4 w = reinterpret_cast<const float4*>(shared_router)[i];
      dot += v.x * w.x + v.y * w.y + v.z * w.z + v.w * w.w;
    }
  }
  peak = lanes_max(peak), dot = lanes_sum(dot);
  if (thread % kWave == 0) largest[thread / kWave] = peak, dots[thread / kWave] = dot;
  __syncthreads();
  dot = 0;
  for (int i = 0; i < kWaves; ++i) peak = fmaxf(peak, largest[i]), dot += dots[i];
  const int exponent = peak == 0 ? 12 : max(int(__float_as_uint(peak) >> 23) - 127, -110);
  const float factor = __uint_as_float(uint32_t(12 - exponent + 127) << 23);
  if (thread == 0) {
    rows.scale[row] = __uint_as_float(uint32_t(exponent - 12 + 127) << 23);
    if (shared_weight != nullptr) shared_weight[row] = shared_router != nullptr ? sigmoid(dot) : 1.0f;
  }
  for (int i = thread; i < rows.padded / 4; i += kPackThreads) {
    const float4 v = i < columns / 4 ? from[i] : make_float4(0, 0, 0, 0);
    const float a = v.x * factor, b = v.y * factor, c = v.z * factor, d = v.w * factor;
    const int64_t at = row * rows.padded + packed_position(4 * i);
    const uint32_t first = two_halves(a, b), second = two_halves(c, d);
    *reinterpret_cast<uint32_t*>(rows.high + at) = first;
    *reinterpret_cast<uint32_t*>(rows.high + at + 8) = second;
    if (rows.low == nullptr) continue;
    const float2 ab = __half22float2(reinterpret_cast<const __half2&>(first));
    const float2 cd = __half22float2(reinterpret_cast<const __half2&>(second));
    *reinterpret_cast<uint32_t*>(rows.low + at) = two_halves(a - ab.x, b - ab.y);
    *reinterpret_cast<uint32_t*>(rows.low + at + 8) = two_halves(c - cd.x, d - cd.y);
  }
  for (int i = int(blockIdx.x) * kPackThreads + thread; i < zeroed_count; i += int(gridDim.x) * kPackThreads)
    zeroed[i] = 0;
}

// The widest tile that still gives every multiprocessor a block or two.
int tile_tokens_for(quant::Type type, int64_t row_tiles, int64_t tokens, const Limits& limits) {
  if (tokens <= 32) return mma_tile_tokens(type, 16);
  int64_t wanted = 64;
  if (row_tiles * ceil_div(tokens, 192) >= 2 * limits.multiprocessors)
    wanted = 192;
  else if (row_tiles * ceil_div(tokens, 128) >= limits.multiprocessors)
    wanted = 128;
  return mma_tile_tokens(type, wanted);
}

}  // namespace

void pack_halves(Context& context, const ops::Activations& x, const PackedRows& rows,
                 const float* shared_router, float* shared_weight, int32_t* zeroed, int32_t zeroed_count) {
  DW_CHECK(x.columns % 32 == 0, "rows for the tensor cores are whole groups of 32");
  const double count = double(x.tokens) * double(x.columns);
  launch(context, "pack_halves_kernel", {"pack", count * (rows.low != nullptr ? 8 : 6), count},
         pack_halves_kernel, dim3(uint32_t(x.tokens)), dim3(kPackThreads), 0, x.values, int(x.columns), rows,
         shared_router, shared_weight, zeroed, int(zeroed_count));
}

bool launch_mma(Context& context, quant::Type type, int tile_tokens, const MmaJob& job, uint32_t grid_tiles,
                const char* name, const Work& work) {
  return launch_mma_simple(context, type, tile_tokens, job, grid_tiles, name, work) ||
         launch_mma_k(context, type, tile_tokens, job, grid_tiles, name, work) ||
         launch_mma_iq(context, type, tile_tokens, job, grid_tiles, name, work) ||
         launch_mma_float(context, type, tile_tokens, job, grid_tiles, name, work);
}

bool mma_supports(const ops::Matrix& matrix) {
  const quant::TypeInfo* info = quant::find_type(matrix.type);
  return info != nullptr && info->dequantize != nullptr && matrix.type != quant::Type::Q8_K &&
         matrix.columns % 32 == 0;
}

uint64_t linear_scratch_bytes(int64_t tokens, int64_t columns) {
  Scratch scratch(nullptr, UINT64_MAX);
  scratch.take<uint16_t>(tokens * padded_columns(columns) * 2);
  scratch.take<float>(tokens);
  return scratch.used();
}

bool linear_mma(Context& context, const ops::Activations& x, std::span<const ops::Linear> outputs) {
  if (context.limits.architecture < 900 || x.tokens < kLinearMmaTokens) return false;
  bool split = false;
  for (const ops::Linear& output : outputs) {
    if (!mma_supports(output.weight) || output.weight.columns != x.columns) return false;
    split = split || output.weight.type == quant::Type::F32;
  }
  Scratch scratch(context.scratch, context.scratch_bytes);
  PackedRows rows;
  rows.padded = padded_columns(x.columns);
  rows.high = scratch.take<uint16_t>(x.tokens * rows.padded);
  if (split) rows.low = scratch.take<uint16_t>(x.tokens * rows.padded);
  rows.scale = scratch.take<float>(x.tokens);
  if (scratch.exhausted()) return false;
  pack_halves(context, x, rows, nullptr, nullptr, nullptr, 0);
  for (const ops::Linear& output : outputs) {
    MmaJob job;
    job.weights[0] = reinterpret_cast<const uint8_t*>(output.weight.data);
    job.row_bytes = output.weight.row_stride();
    job.rows = int32_t(output.weight.rows), job.columns = int32_t(output.weight.columns);
    job.padded = rows.padded;
    job.row_tiles = int32_t(ceil_div(output.weight.rows, 128));
    job.x = rows.high, job.x_low = rows.low, job.x_scale = rows.scale;
    job.tokens = int32_t(x.tokens);
    job.out = output.out;
    job.out_stride = output.out_stride != 0 ? output.out_stride : output.weight.rows;
    job.add = output.add;
    job.aligned = job.out_stride % 2 == 0 && reinterpret_cast<uintptr_t>(output.out) % 8 == 0;
    const int tile_tokens = tile_tokens_for(output.weight.type, job.row_tiles, x.tokens, context.limits);
    const double n = double(output.weight.rows), k = double(x.columns), m = double(x.tokens);
    const Work work = {"linear", n * double(job.row_bytes) + m * k * 2 + m * n * (output.add ? 8 : 4),
                       2 * m * n * k};
    DW_CHECK(launch_mma(context, output.weight.type, tile_tokens, job, ceil_div(x.tokens, tile_tokens),
                        "mma_gemm_kernel", work),
             "no tensor-core product for this type");
  }
  return true;
}

}  // namespace dw::gpu
