// The portable level: plain loops over the definition in matmul_panel.h.
#include <cmath>

#include "base/half.h"
#include "kernels/cpu/matmul_panel.h"
#include "kernels/cpu/residual_kernels.h"
#include "kernels/cpu/simd_portable.h"

namespace dw::cpu {
namespace {

int32_t dot_quants(const Panel& panel, const TokenUnit& token, int row, int begin, int end) {
  int32_t dot = 0;
  for (int i = begin / 4; i < end / 4; ++i)
    for (int j = 0; j < 4; ++j) dot += int32_t(panel.quants[i][row][j]) * token.quants[4 * i + j];
  return dot;
}

void dot_block(const Format& format, const Panel& panel, const TokenUnit& token, int blocks, float* sums) {
  for (int row = 0; row < kRowTile; ++row) {
    float sum = sums[row];
    for (int b = 0; b < blocks; ++b) {
      const int32_t dot = token.bias[b] + dot_quants(panel, token, row, 32 * b, 32 * b + 32);
      sum += panel.d[b][row] * token.scales[b] * float(dot);
      if (format.min_group != 0) sum += panel.mins[b][row] * token.sums[b];
    }
    sums[row] = sum;
  }
}

// The integer part of block b: dots times integer scales.
int32_t scaled_dot(const Format& format, const Panel& panel, const TokenUnit& token, int row, int b) {
  int32_t total = 0;
  for (int column = 32 * b; column < 32 * b + 32; column += format.group) {
    const int group = column / format.group;
    const int32_t dot = token.bias[group] + dot_quants(panel, token, row, column, column + format.group);
    total += format.scaled ? dot * panel.scales[group][row] : dot;
  }
  return total;
}

void dot_super(const Format& format, const Panel& panel, const TokenUnit& token, int blocks, float* sums) {
  for (int row = 0; row < kRowTile; ++row) {
    float s = 0, m = 0;
    for (int b = 0; b < blocks; ++b) s += token.scales[b] * float(scaled_dot(format, panel, token, row, b));
    if (format.min_group != 0)
      for (int g = 0; g < 32 * blocks / format.min_group; ++g) m += panel.mins[g][row] * token.sums[g];
    sums[row] += panel.d[0][row] * s;
    if (format.min_group != 0) sums[row] -= panel.dmin[row] * m;
  }
}

template <quant::Type kType>
void dot_one(const Panel& panel, const TokenUnit* token, int blocks, float* sums) {
  constexpr Format kFormat = format_of(kType);
  if constexpr (kFormat.scaling == Scaling::kBlock)
    dot_block(kFormat, panel, *token, blocks, sums);
  else
    dot_super(kFormat, panel, *token, blocks, sums);
}

template <quant::Type... kTypes>
DotFn find_dot(quant::Type type) {
  DotFn found = nullptr;
  ((type == kTypes ? void(found = dot_one<kTypes>) : void()), ...);
  return found;
}

float weight_at(quant::Type type, const std::byte* row, int64_t column) {
  if (type == quant::Type::F32) return load_unaligned<float>(row + 4 * column);
  const uint16_t bits = load_unaligned<uint16_t>(row + 2 * column);
  return type == quant::Type::F16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

}  // namespace

TypeKernels portable_kernels(quant::Type type) {
  using enum quant::Type;
  TypeKernels kernels;
  kernels.unpack = portable_unpacker(type);
  kernels.dot[1] = find_dot<Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, MXFP4, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q8_K,
                            IQ4_XS, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, IQ1_M>(type);
  return kernels;
}

void float_rows_portable(const MatmulCall& call, int64_t row_begin, int64_t row_end) {
  const int64_t columns = call.weight.columns;
  const int64_t row_bytes = int64_t(quant::row_bytes(call.weight.type, uint64_t(columns)));
  for (int64_t row = row_begin; row < row_end; ++row) {
    const std::byte* weights = call.weight.data + row * row_bytes;
    for (int64_t i = 0; i < call.token_count; ++i) {
      const float* x = call.x.values + (call.token_rows ? call.token_rows[i] : i) * columns;
      float lanes[16] = {};
      for (int64_t k = 0; k < columns; ++k) lanes[k % 16] += weight_at(call.weight.type, weights, k) * x[k];
      for (int width = 8; width > 0; width /= 2)
        for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
      float& out = call.out[i * call.out_stride + row];
      out = call.add ? out + lanes[0] : lanes[0];
    }
  }
}

ResidualFn portable_residual() {
  return residual_unit<VecPortable>;
}

void quantize_portable(const float* values, int64_t columns, int8_t* quants, float* scales, int16_t* sums) {
  for (int64_t block = 0; block < columns / 32; ++block) {
    const float* x = values + 32 * block;
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::fmax(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f;
    scales[block] = scale;
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (int i = 16 * half; i < 16 * half + 16; ++i) {
        const int q =
            scale > 0 ? int(std::fmin(std::fmax(std::nearbyint(x[i] / scale), -127.0f), 127.0f)) : 0;
        quants[32 * block + i] = int8_t(q);
        sum += q;
      }
      sums[2 * block + half] = int16_t(sum);
    }
  }
}

}  // namespace dw::cpu
