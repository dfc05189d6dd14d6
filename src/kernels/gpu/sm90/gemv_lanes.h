// What a lane of gemv_block_kernel does: its part of the activations into shared memory, and the product of a
// block of 256 weights with them.
#pragma once

#include "kernels/gpu/gemv_stage.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {

// Activations in shared memory. 16-byte words of quants: [tokens][2 halves][chunks]; residual the same (fine
// types); [tokens][chunks]: scale and scale * sum; scale * sum of the first 16. Fine types: scale / 254.
struct LaneRows {
  int4* quants;
  int4* residual;
  float2* scale_sum;
  float* first_sum;
  int chunks;
  bool fine;

  __device__ static LaneRows at(uint8_t* shared, int tokens, int chunks, bool fine) {
    LaneRows s;
    s.quants = reinterpret_cast<int4*>(shared);
    s.residual = s.quants + 2 * tokens * chunks;
    s.scale_sum = reinterpret_cast<float2*>(s.residual + (fine ? 2 * tokens * chunks : 0));
    s.first_sum = reinterpret_cast<float*>(s.scale_sum + tokens * chunks);
    s.chunks = chunks;
    s.fine = fine;
    return s;
  }
};

// x / d rounded to nearest, with inverse = 1 / d rounded to nearest (Markstein), where nothing underflows.
DW_DEVICE float quotient_of(float x, float d, float inverse) {
  const float q = x * inverse;
  return fmaf(fmaf(-q, d, x), inverse, q);
}

// As quantise_octet, with one division; the same bits.
DW_DEVICE QuantisedOctet quantise_octet_fast(const Octet& x, bool fine) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) largest = fmaxf(largest, fabsf(x.v[i]));
  const float d = __fdiv_rn(lanes_max<4>(largest), 127.0f);
  // Below, the quotients' remainders would underflow.
  const bool tiny = d < 1e-30f;
  const float inverse = tiny ? 0.0f : __frcp_rn(d);
  int q[8], r[8];
  QuantisedOctet out;
  out.sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float quotient = quotient_of(x.v[i], d, inverse);
    if (tiny) quotient = d == 0 ? 0.0f : __fdiv_rn(x.v[i], d);
    q[i] = __float2int_rn(quotient);
    r[i] = fine ? __float2int_rn((quotient - float(q[i])) * kResidualSteps) : 0;
    out.sum += q[i];
  }
  out.quants.x = pack_bytes(q[0], q[1], q[2], q[3]), out.quants.y = pack_bytes(q[4], q[5], q[6], q[7]);
  out.residual.x = pack_bytes(r[0], r[1], r[2], r[3]), out.residual.y = pack_bytes(r[4], r[5], r[6], r[7]);
  out.scale = d;
  return out;
}

// Octet `octet` of token `token` into its planes. All lanes of a wave call it, `inside` where there is
// something to store.
DW_DEVICE void stage_lane_octet(const LaneRows& staged, int token, int octet, const QuantisedOctet& x,
                                bool inside) {
  const int half_sum = x.sum + lane_xor(x.sum, 1);
  const int sum = half_sum + lane_xor(half_sum, 2);
  if (!inside) return;
  const int chunk = octet / 4, half = octet / 2 % 2;
  const int word = (2 * token + half) * staged.chunks + chunk;
  reinterpret_cast<int2*>(staged.quants + word)[octet % 2] = x.quants;
  if (staged.fine) reinterpret_cast<int2*>(staged.residual + word)[octet % 2] = x.residual;
  if (octet % 4 == 0) {
    const int at = token * staged.chunks + chunk;
    staged.scale_sum[at] = {staged.fine ? x.scale / kResidualSteps : x.scale, x.scale * float(sum)};
    staged.first_sum[at] = x.scale * float(half_sum);
  }
}

// The norm's own output: a block writes every so many-th group of 32 columns.
DW_DEVICE void write_lane_octet(const ops::Activations& out, int token, int octet, const Octet& x,
                                const QuantisedOctet& q, bool inside) {
  const int half_sum = q.sum + lane_xor(q.sum, 1);
  if (!inside || octet / 4 % int(gridDim.x) != int(blockIdx.x)) return;
  const int at = token * int(out.columns / 8) + octet;
  reinterpret_cast<float4*>(out.values)[2 * at] = {x.v[0], x.v[1], x.v[2], x.v[3]};
  reinterpret_cast<float4*>(out.values)[2 * at + 1] = {x.v[4], x.v[5], x.v[6], x.v[7]};
  reinterpret_cast<int2*>(out.quants)[at] = q.quants;
  if (octet % 2 == 0) out.sums[at / 2] = int16_t(half_sum);
  if (octet % 4 == 0) out.scales[at / 4] = q.scale;
}

// visit(token, octet, inside) for all octets of `tokens` tokens, whole waves together.
template <int kThreads, class Visit>
DW_DEVICE void for_octets(int tokens, int octets, const Visit& visit) {
  const int total = tokens * octets;
  for (int base = 0; base < total; base += kThreads) {
    const int at = base + int(threadIdx.x);
    const bool inside = at < total;
    visit(inside ? at / octets : 0, inside ? at % octets : 0, inside);
  }
}

DW_DEVICE float sum_of_squares(const Octet& x) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) sum = fmaf(x.v[i], x.v[i], sum);
  return sum;
}
DW_DEVICE Octet scaled_octet(const Octet& x, float scale, const Octet& weight) {
  Octet y;
#pragma unroll
  for (int i = 0; i < 8; ++i) y.v[i] = x.v[i] * scale * weight.v[i];
  return y;
}

// One token: what belongs to the norm stays in registers. false: too many columns for that.
template <int kThreads, class AfterWait>
DW_DEVICE bool stage_one_normed(const ops::Norm& norm, const LaneRows& staged, const AfterWait& after_wait) {
  constexpr int kHeld = 1, kWaves = kThreads / kWave;
  __shared__ float partial[kWaves];
  const int octets = staged.chunks * 4;
  if (octets > kHeld * kThreads) return false;
  Octet x[kHeld], weight[kHeld];
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int octet = h * kThreads + int(threadIdx.x);
    weight[h] = octet < octets ? load_octet(norm.weight, octet) : Octet{};
  }
  wait_for_previous();
  allow_next();
  float sum = 0;
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int octet = h * kThreads + int(threadIdx.x);
    x[h] = octet < octets ? load_octet(norm.x, octet) : Octet{};
  }
  after_wait();
#pragma unroll
  for (int h = 0; h < kHeld; ++h) sum += sum_of_squares(x[h]);
  sum = lanes_sum(sum);
  if (threadIdx.x % kWave == 0) partial[threadIdx.x / kWave] = sum;
  __syncthreads();
  sum = 0;
#pragma unroll
  for (int i = 0; i < kWaves; ++i) sum += partial[i];
  const float scale = 1.0f / sqrtf(sum / float(staged.chunks * 32) + norm.eps);
#pragma unroll
  for (int h = 0; h < kHeld; ++h) {
    const int octet = h * kThreads + int(threadIdx.x);
    if (h * kThreads >= octets) break;
    const Octet y = scaled_octet(x[h], scale, weight[h]);
    const QuantisedOctet q = quantise_octet_fast(y, staged.fine);
    stage_lane_octet(staged, 0, octet, q, octet < octets);
    write_lane_octet(norm.out, 0, octet, y, q, octet < octets);
  }
  return true;
}

template <int kThreads, int kTokens>
DW_DEVICE void stage_all_normed(const ops::Norm& norm, const LaneRows& staged) {
  constexpr int kWaves = kThreads / kWave;
  __shared__ float partial[kTokens][kWaves];
  const int octets = staged.chunks * 4, tokens = int(norm.out.tokens);
  const int64_t columns = staged.chunks * 32;
  for (int t = 0; t < tokens; ++t) {
    float sum = 0;
    for (int i = int(threadIdx.x); i < octets; i += kThreads)
      sum += sum_of_squares(load_octet(norm.x + t * columns, i));
    sum = lanes_sum(sum);
    if (threadIdx.x % kWave == 0) partial[t][threadIdx.x / kWave] = sum;
  }
  __syncthreads();
  for_octets<kThreads>(kTokens, octets, [&](int token, int octet, bool inside) {
    Octet y = {};
    if (token < tokens) {
      float sum = 0;
      for (int i = 0; i < kWaves; ++i) sum += partial[token][i];
      const float scale = 1.0f / sqrtf(sum / float(columns) + norm.eps);
      y = scaled_octet(load_octet(norm.x + token * columns, octet), scale, load_octet(norm.weight, octet));
    }
    const QuantisedOctet q = quantise_octet_fast(y, staged.fine);
    stage_lane_octet(staged, token, octet, q, inside);
    write_lane_octet(norm.out, token, octet, y, q, inside && token < tokens);
  });
}

// Copies rows that are quantised already; tokens beyond x.tokens become zero.
template <int kThreads>
DW_DEVICE void stage_lane_quants(const ops::Activations& x, const LaneRows& staged, int rows) {
  const int chunks = staged.chunks;
  for (int at = int(threadIdx.x); at < rows * chunks; at += kThreads) {
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
    staged.scale_sum[at] = {scale, scale * float(int16_t(sums) + (sums >> 16))};
    staged.first_sum[at] = scale * float(int16_t(sums));
  }
}

// Waits for the kernel in front, calls after_wait() once its results may be read, and stages.
template <int kThreads, int kTokens, class AfterWait>
DW_DEVICE void stage_lanes(const GemvArguments& a, const LaneRows& staged, const AfterWait& after_wait) {
  bool done = false;
  if constexpr (kTokens == 1) {
    if (a.norm.x != nullptr) done = stage_one_normed<kThreads>(a.norm, staged, after_wait);
  }
  if (!done) {
    wait_for_previous();
    allow_next();
    after_wait();
    const int tokens = int(a.x.tokens);
    if (a.norm.x != nullptr) {
      stage_all_normed<kThreads, kTokens>(a.norm, staged);
    } else if (staged.fine) {
      for_octets<kThreads>(kTokens, staged.chunks * 4, [&](int token, int octet, bool inside) {
        Octet x = {};
        if (token < tokens) x = load_octet(a.x.values + token * a.x.columns, octet);
        stage_lane_octet(staged, token, octet, quantise_octet_fast(x, true), inside);
      });
    } else {
      stage_lane_quants<kThreads>(a.x, staged, kTokens);
    }
  }
  __syncthreads();
}

// The dot products of a chunk's two halves with a token's: summed where a type has one scale (then `second`
// counts).
struct HalfDots {
  int first, second;
};
template <bool kTwoScales, bool kFine>
DW_DEVICE HalfDots half_dots(const int (&q)[8], const LaneRows& x, int token, int chunk) {
  const int at = 2 * token * x.chunks + chunk;
  const auto dots = [&](const int4& low, const int4& high) {
    HalfDots d;
    d.first = dot4(q[3], low.w, dot4(q[2], low.z, dot4(q[1], low.y, dot4(q[0], low.x, 0))));
    const int start = kTwoScales ? 0 : d.first;
    d.second = dot4(q[7], high.w, dot4(q[6], high.z, dot4(q[5], high.y, dot4(q[4], high.x, start))));
    return d;
  };
  HalfDots sum = dots(x.quants[at], x.quants[at + x.chunks]);
  if constexpr (kFine) {
    const HalfDots fine = dots(x.residual[at], x.residual[at + x.chunks]);
    sum.first = sum.first * int(kResidualSteps) + fine.first;
    sum.second = sum.second * int(kResidualSteps) + fine.second;
  }
  return sum;
}

// The chunk of its block that a lane reads in step i.
DW_DEVICE int turned(int i) {
  return (i + int(threadIdx.x)) & 7;
}

// sums[t] += the block's part of the row's product with token t.
template <quant::Type kType>
struct LaneBlock {
  using W = Weights<kType>;
  template <int kTokens>
  static __device__ __forceinline__ void multiply(const uint8_t* row, int columns, int block,
                                                  const LaneRows& x, const IqTables& tables,
                                                  float (&sums)[kTokens]) {
#pragma unroll 1
    for (int i = 0; i < 8; ++i) {
      const int g = turned(i), chunk = 8 * block + g;
      const Chunk c = W::decode(W::fetch(row, columns, chunk), g, tables);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const HalfDots d = half_dots<W::kTwoScales, W::kFine>(c.q, x, t, chunk);
        const float2 scale_sum = x.scale_sum[t * x.chunks + chunk];
        float dot = c.scale[0] * float(d.second);
        if constexpr (W::kTwoScales) dot = fmaf(c.scale[0], float(d.first), c.scale[1] * float(d.second));
        sums[t] = fmaf(scale_sum.x, dot, sums[t]);
        if constexpr (W::kOffset && W::kTwoScales) {
          const float first = x.first_sum[t * x.chunks + chunk];
          sums[t] = fmaf(c.offset[0], first, fmaf(c.offset[1], scale_sum.y - first, sums[t]));
        } else if constexpr (W::kOffset) {
          sums[t] = fmaf(c.offset[0], scale_sum.y, sums[t]);
        }
      }
    }
  }
};

// Eight bytes, of which byte i belongs to step i of this lane.
struct TurnedBytes {
  uint32_t words[2];
  __device__ __forceinline__ TurnedBytes(uint32_t low, uint32_t high) {
    const int by = int(threadIdx.x) & 7, shift = 8 * (by & 3);
    const uint32_t a = by < 4 ? low : high, b = by < 4 ? high : low;
    words[0] = __funnelshift_r(a, b, shift), words[1] = __funnelshift_r(b, a, shift);
  }
  template <int kStep>
  __device__ __forceinline__ float at() const {
    return float((words[kStep / 4] >> (8 * (kStep % 4))) & 255u);
  }
};

// Q4_K and Q5_K: eight 6-bit scales and minima in 12 bytes (set_k_scales), unpacked together.
template <bool kFifthBits>
struct LaneBlockK {
  template <int kTokens>
  static __device__ __forceinline__ void multiply(const uint8_t* row, int columns, int block,
                                                  const LaneRows& x, const IqTables&,
                                                  float (&sums)[kTokens]) {
    const uint4 header = load_plane<uint4>(row + columns / 2, block);
    const TurnedBytes scales(header.y & 0x3f3f3f3fu,
                             (header.w & 0x0f0f0f0fu) | ((header.y >> 2) & 0x30303030u));
    const TurnedBytes minima(header.z & 0x3f3f3f3fu,
                             ((header.w >> 4) & 0x0f0f0f0fu) | ((header.z >> 2) & 0x30303030u));
    float first[kTokens] = {}, second[kTokens] = {};
    unrolled<8>([&](auto i) {
      const int chunk = 8 * block + turned(i.value);
      const NibbleWords words = as_words(load_plane<uint4>(row, chunk));
      [[maybe_unused]] uint32_t high = 0;
      if constexpr (kFifthBits) high = load_plane<uint32_t>(row + columns / 2 + columns / 16, chunk);
      int q[8];
      unrolled<8>([&](auto j) {
        uint32_t word = shift_left<(j.value < 4 ? 0 : -4)>(words.word[j.value % 4]) & 0x0f0f0f0fu;
        if constexpr (kFifthBits) word |= shift_left<4 - j.value>(high) & 0x10101010u;
        q[j.value] = int(word);
      });
      const float scale = scales.template at<i.value>(), minimum = minima.template at<i.value>();
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const HalfDots d = half_dots<false, false>(q, x, t, chunk);
        const float2 scale_sum = x.scale_sum[t * x.chunks + chunk];
        first[t] = fmaf(scale * scale_sum.x, float(d.second), first[t]);
        second[t] = fmaf(minimum, scale_sum.y, second[t]);
      }
    });
    const float d = half_bits_to_float(uint16_t(header.x)), m = half_bits_to_float(uint16_t(header.x >> 16));
#pragma unroll
    for (int t = 0; t < kTokens; ++t) sums[t] = fmaf(d, first[t], fmaf(-m, second[t], sums[t]));
  }
};
// visit(TypeConstant) for the types whose decoding leaves registers for overlapping launches.
template <class Visit>
DW_DEVICE void visit_lane_type(quant::Type type, const Visit& visit) {
  visit_quantised_type(type, [&](auto t) {
    if constexpr (is_block_type(t.value)) visit(t);
  });
}

template <>
struct LaneBlock<quant::Type::Q4_K> : LaneBlockK<false> {};
template <>
struct LaneBlock<quant::Type::Q5_K> : LaneBlockK<true> {};

template <>
struct LaneBlock<quant::Type::Q6_K> {
  using W = Weights<quant::Type::Q6_K>;
  template <int kTokens>
  static __device__ __forceinline__ void multiply(const uint8_t* row, int columns, int block,
                                                  const LaneRows& x, const IqTables&,
                                                  float (&sums)[kTokens]) {
    float products[kTokens] = {};
    unrolled<8>([&](auto i) {
      const int chunk = 8 * block + turned(i.value);
      const NibbleWords words = as_words(load_plane<uint4>(row, chunk));
      const uint2 high = load_plane<uint2>(row + columns / 2, chunk);
      const uint32_t scales = load_plane<uint16_t>(row + columns / 4 * 3, chunk);
      int q[8];
      unrolled<8>([&](auto j) {
        const uint32_t low = shift_left<(j.value < 4 ? 2 : -2)>(words.word[j.value % 4]) & 0x3c3c3c3cu;
        const uint32_t pairs = shift_left<6 - 2 * (j.value % 4)>(j.value < 4 ? high.x : high.y) & 0xc0c0c0c0u;
        q[j.value] = int(low | (pairs ^ kSignBits));
      });
      const float scale0 = float(int8_t(scales)), scale1 = float(int8_t(scales >> 8));
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const HalfDots d = half_dots<true, true>(q, x, t, chunk);
        const float dot = fmaf(scale0, float(d.first), scale1 * float(d.second));
        products[t] = fmaf(x.scale_sum[t * x.chunks + chunk].x, dot, products[t]);
      }
    });
    const float d =
        half_bits_to_float(load_plane<uint16_t>(row + columns / 4 * 3 + columns / 16, block)) * 0.25f;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) sums[t] = fmaf(d, products[t], sums[t]);
  }
};

}  // namespace dw::gpu
