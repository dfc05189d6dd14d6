// A few tokens' activations in shared memory, as the matrix-vector kernels read them: int8 planes in which
// the lanes of a wave read consecutive 16-byte words, and what belongs to a chunk of 32 columns.
#pragma once

#include "kernels/gpu/activations.h"
#include "kernels/gpu/gemv_arguments.h"

namespace dw::gpu {

// The planes of `rows` rows (tokens) in shared memory. 16-byte words of quants: [rows][2 halves][chunks];
// residual the same (types with kFine); then floats [rows][chunks]: scale, scale * sum of all 32, scale * sum
// of the first 16.
struct StagedRows {
  int4* quants;
  int4* residual;
  float* scale;
  float* sum;
  float* first_sum;
  int chunks;

  __device__ static StagedRows at(uint8_t* shared, int rows, int chunks, bool fine) {
    StagedRows s;
    s.quants = reinterpret_cast<int4*>(shared);
    s.residual = s.quants + 2 * rows * chunks;
    s.scale = reinterpret_cast<float*>(s.residual + (fine ? 2 * rows * chunks : 0));
    s.sum = s.scale + rows * chunks;
    s.first_sum = s.sum + rows * chunks;
    s.chunks = chunks;
    return s;
  }
};
// The residual of activations quantised with scale d is quantised again, with scale d / 254: a rounding error
// is at most d / 2 = 127 (d / 254).
inline constexpr float kResidualSteps = 254.0f;

// Eight consecutive columns of a row; the four octets of a chunk are quantised by four neighbouring lanes.
struct Octet {
  float v[8];
};
struct QuantisedOctet {
  int2 quants, residual;
  float scale;
  int sum;  // of the octet's 8 quants
};

DW_DEVICE int pack_bytes(int a, int b, int c, int d) {
  return (a & 255) | (b & 255) << 8 | (c & 255) << 16 | d << 24;
}

// As quantise_group. All lanes of a wave call it.
DW_DEVICE QuantisedOctet quantise_octet(const Octet& x, bool fine) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(x.v[i]));
  const float d = lanes_max<4>(largest) / 127.0f;
  int q[8], r[8];
  QuantisedOctet out;
  out.sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float quotient = d == 0 ? 0.0f : fminf(fmaxf(__fdiv_rn(x.v[i], d), -127.0f), 127.0f);
    q[i] = __float2int_rn(quotient);
    r[i] = fine ? __float2int_rn((quotient - float(q[i])) * kResidualSteps) : 0;
    out.sum += q[i];
  }
  out.quants.x = pack_bytes(q[0], q[1], q[2], q[3]), out.quants.y = pack_bytes(q[4], q[5], q[6], q[7]);
  out.residual.x = pack_bytes(r[0], r[1], r[2], r[3]), out.residual.y = pack_bytes(r[4], r[5], r[6], r[7]);
  out.scale = d;
  return out;
}

// Octet `octet` of row `row` into its planes; `weight` scales the row's contribution to products. All lanes
// of a wave call it, `inside` where there is something to store.
DW_DEVICE void stage_octet(const StagedRows& staged, int row, int octet, const QuantisedOctet& x, bool fine,
                           float weight, bool inside) {
  const int half_sum = x.sum + lane_xor(x.sum, 1);
  const int sum = half_sum + lane_xor(half_sum, 2);
  if (!inside) return;
  const int chunk = octet / 4, half = octet / 2 % 2;
  const int word = (2 * row + half) * staged.chunks + chunk;
  reinterpret_cast<int2*>(staged.quants + word)[octet % 2] = x.quants;
  if (fine) reinterpret_cast<int2*>(staged.residual + word)[octet % 2] = x.residual;
  if (octet % 4 == 0) {
    const float scale = weight * x.scale;
    const int at = row * staged.chunks + chunk;
    staged.scale[at] = scale;
    staged.sum[at] = scale * float(sum);
    staged.first_sum[at] = scale * float(half_sum);
  }
}

DW_DEVICE Octet load_octet(const float* row, int octet) {
  const float4 a = reinterpret_cast<const float4*>(row)[2 * octet];
  const float4 b = reinterpret_cast<const float4*>(row)[2 * octet + 1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

// Quantises `tokens` rows of fp32 values (x: [tokens, columns]) into shared memory, up to `rows` rows with
// zeros; row weights as for stage_octet.
DW_DEVICE void stage_values(const StagedRows& staged, const float* x, int rows, int tokens, int columns,
                            bool fine, const float* row_weights) {
  const int octets = columns / 8, total = rows * octets;
  for (int base = 0; base < total; base += kGemvThreads) {
    const int at = base + int(threadIdx.x);
    const bool inside = at < total;
    const int row = inside ? at / octets : 0, octet = inside ? at % octets : 0;
    Octet values = {};
    if (row < tokens) values = load_octet(x + int64_t(row) * columns, octet);
    const float weight = row_weights != nullptr ? row_weights[row] : 1.0f;
    stage_octet(staged, row, octet, quantise_octet(values, fine), fine, weight, inside);
  }
}

// Copies rows that are quantised already; rows >= x.tokens become zero.
DW_DEVICE void stage_quantised(const StagedRows& staged, const ops::Activations& x, int rows) {
  const int chunks = staged.chunks;
  for (int at = threadIdx.x; at < rows * chunks; at += kGemvThreads) {
    const int row = at / chunks, chunk = at % chunks;
    int4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
    float scale = 0;
    int sums = 0;
    if (row < x.tokens) {
      low = reinterpret_cast<const int4*>(x.quants)[2 * at];
      high = reinterpret_cast<const int4*>(x.quants)[2 * at + 1];
      scale = x.scales[at];
      sums = reinterpret_cast<const int*>(x.sums)[at];
    }
    staged.quants[2 * row * chunks + chunk] = low;
    staged.quants[(2 * row + 1) * chunks + chunk] = high;
    staged.scale[at] = scale;
    staged.sum[at] = scale * float(int16_t(sums) + (sums >> 16));
    staged.first_sum[at] = scale * float(int16_t(sums));
  }
}

// 1 / rms of each of `tokens` rows, into `scales` (shared memory, one a row).
DW_DEVICE void row_norms(const ops::Norm& norm, float* scales) {
  const int columns = int(norm.out.columns), wave = int(threadIdx.x) / kWave;
  __shared__ float partial[kGemvTokens][kGemvThreads / kWave];
  const int tokens = int(norm.out.tokens);
  for (int t = 0; t < tokens; ++t) {
    float sum = 0;
    const float4* x = reinterpret_cast<const float4*>(norm.x + int64_t(t) * columns);
    for (int i = threadIdx.x; i < columns / 4; i += kGemvThreads) {
      const float4 v = x[i];
      sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    sum = lanes_sum(sum);
    if (threadIdx.x % kWave == 0) partial[t][wave] = sum;
  }
  __syncthreads();
  if (int(threadIdx.x) < tokens) {
    float sum = 0;
    for (int i = 0; i < kGemvThreads / kWave; ++i) sum += partial[threadIdx.x][i];
    scales[threadIdx.x] = 1.0f / sqrtf(sum / float(columns) + norm.eps);
  }
  __syncthreads();
}

// Octet of the normed row `row`.
DW_DEVICE Octet normed_octet(const ops::Norm& norm, const float* scales, int row, int octet) {
  Octet x = load_octet(norm.x + int64_t(row) * norm.out.columns, octet);
  const Octet w = load_octet(norm.weight, octet);
#pragma unroll
  for (int i = 0; i < 8; ++i) x.v[i] = x.v[i] * scales[row] * w.v[i];
  return x;
}

// Norms and quantises; rows >= norm.out.tokens become zero.
DW_DEVICE void stage_normed(const StagedRows& staged, const ops::Norm& norm, int rows, bool fine,
                            const float* scales) {
  const int octets = int(norm.out.columns) / 8, total = rows * octets;
  for (int base = 0; base < total; base += kGemvThreads) {
    const int at = base + int(threadIdx.x);
    const bool inside = at < total;
    const int row = inside ? at / octets : 0, octet = inside ? at % octets : 0;
    Octet x = {};
    if (row < norm.out.tokens) x = normed_octet(norm, scales, row, octet);
    stage_octet(staged, row, octet, quantise_octet(x, fine), fine, 1.0f, inside);
  }
}

// The norm's own output: one block does it for all.
DW_DEVICE void write_normed(const ops::Norm& norm, const float* scales) {
  const ops::Activations& out = norm.out;
  const int octets = int(out.columns) / 8, total = int(out.tokens) * octets;
  for (int base = 0; base < total; base += kGemvThreads) {
    const int at = base + int(threadIdx.x);
    const bool inside = at < total;
    const int octet = inside ? at % octets : 0;
    const Octet x = normed_octet(norm, scales, inside ? at / octets : 0, octet);
    const QuantisedOctet q = quantise_octet(x, false);
    const int half_sum = q.sum + lane_xor(q.sum, 1);
    if (!inside) continue;
    reinterpret_cast<float4*>(out.values)[2 * at] = {x.v[0], x.v[1], x.v[2], x.v[3]};
    reinterpret_cast<float4*>(out.values)[2 * at + 1] = {x.v[4], x.v[5], x.v[6], x.v[7]};
    reinterpret_cast<int2*>(out.quants)[at] = q.quants;
    if (octet % 2 == 0) out.sums[at / 2] = int16_t(half_sum);
    if (octet % 4 == 0) out.scales[at / 4] = q.scale;
  }
}

// fp32 rows, padded with zeros, for unquantised weights: of x, or of the norm where norm.x is set.
DW_DEVICE void stage_floats(float* shared, const ops::Activations& x, const ops::Norm& norm, int rows,
                            const float* scales) {
  const int columns = int(x.columns), padded = padded_columns(columns);
  for (int row = 0; row < rows; ++row)
    for (int i = threadIdx.x; i < padded; i += kGemvThreads) {
      float value = 0;
      if (row < x.tokens && i < columns)
        value = norm.x != nullptr ? norm.x[int64_t(row) * columns + i] * scales[row] * norm.weight[i]
                                  : x.values[int64_t(row) * columns + i];
      shared[row * padded + i] = value;
    }
}

}  // namespace dw::gpu
