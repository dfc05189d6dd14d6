// The heart of the matrix-vector kernels: lanes of a wave share a row (or a few short rows), each decodes
// every so many-th unit (a chunk of 32 quantised weights, or 16 bytes of floats) and multiplies it with the
// staged activations of kTokens tokens. kRows rows go together, so that activations are read from shared
// memory once for all of them; kDepth sets of loads are in flight.
#pragma once

#include "kernels/gpu/gemv_stage.h"
#include "kernels/gpu/weights_visit.h"

namespace dw::gpu {

// How a type's units are fetched, prepared and multiplied.
template <quant::Type kType>
struct QuantisedUnits {
  using W = Weights<kType>;
  using Raw = typename W::Raw;
  using Unit = Chunk;
  static constexpr bool kFloat = false, kFine = W::kFine;

  DW_DEVICE int count(int columns) { return columns / 32; }
  DW_DEVICE Raw fetch(const uint8_t* row, int columns, int unit) { return W::fetch(row, columns, unit); }
  // Only the low three bits of `unit` matter: blocks have eight chunks.
  DW_DEVICE Unit decode(const Raw& raw, int unit, const IqTables& tables) {
    return W::decode(raw, unit, tables);
  }

  struct Dots {
    int first, second;
  };
  DW_DEVICE Dots dots(const Unit& c, const int4& low, const int4& high) {
    Dots d;
    d.first = dot4(c.q[3], low.w, dot4(c.q[2], low.z, dot4(c.q[1], low.y, dot4(c.q[0], low.x, 0))));
    const int start = W::kTwoScales ? 0 : d.first;
    d.second = dot4(c.q[7], high.w, dot4(c.q[6], high.z, dot4(c.q[5], high.y, dot4(c.q[4], high.x, start))));
    return d;
  }
  DW_DEVICE float scaled(const Unit& c, const Dots& d) {
    if constexpr (W::kTwoScales) return fmaf(c.scale[0], float(d.first), c.scale[1] * float(d.second));
    return c.scale[0] * float(d.second);
  }

  // sums[r * kTokens + t] += units[r] . row first_row + t of the staged activations, chunk `at`.
  template <int kRows, int kTokens>
  DW_DEVICE void multiply(const Unit (&units)[kRows], const StagedRows& x, int first_row, int at,
                          float (&sums)[kRows * kTokens]) {
    const int chunks = x.chunks;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const int row = first_row + t, place = row * chunks + at;
      const int4 low = x.quants[2 * row * chunks + at], high = x.quants[(2 * row + 1) * chunks + at];
      const float scale = x.scale[place];
      float sum = 0, first_sum = 0;
      if constexpr (W::kOffset) sum = x.sum[place];
      if constexpr (W::kOffset && W::kTwoScales) first_sum = x.first_sum[place];
      float products[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) products[r] = scaled(units[r], dots(units[r], low, high));
      if constexpr (kFine) {
        const int4 fine_low = x.residual[2 * row * chunks + at];
        const int4 fine_high = x.residual[(2 * row + 1) * chunks + at];
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          products[r] =
              fmaf(scaled(units[r], dots(units[r], fine_low, fine_high)), 1.0f / kResidualSteps, products[r]);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float& s = sums[r * kTokens + t];
        s = fmaf(scale, products[r], s);
        if constexpr (W::kOffset && W::kTwoScales)
          s = fmaf(units[r].offset[0], first_sum, fmaf(units[r].offset[1], sum - first_sum, s));
        else if constexpr (W::kOffset)
          s = fmaf(units[r].offset[0], sum, s);
      }
    }
  }
};

template <quant::Type kType>
struct FloatUnits {
  using F = FloatWeights<kType>;
  using Raw = uint4;
  struct Unit {
    float w[F::kPerLoad];
  };
  static constexpr bool kFloat = true, kFine = false;

  DW_DEVICE int count(int columns) { return (columns + F::kPerLoad - 1) / F::kPerLoad; }
  DW_DEVICE Raw fetch(const uint8_t* row, int, int unit) { return load_plane<uint4>(row, unit); }
  DW_DEVICE Unit decode(const Raw& raw, int, const IqTables&) {
    Unit u;
    F::unpack(raw, u.w);
    return u;
  }
  // x: [tokens, padded] floats.
  template <int kRows, int kTokens>
  DW_DEVICE void multiply(const Unit (&units)[kRows], const float* x, int padded, int at,
                          float (&sums)[kRows * kTokens]) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      const float4* from = reinterpret_cast<const float4*>(x + t * padded) + at * (F::kPerLoad / 4);
#pragma unroll
      for (int i = 0; i < F::kPerLoad / 4; ++i) {
        const float4 v = from[i];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const float* w = units[r].w + 4 * i;
          float& s = sums[r * kTokens + t];
          s = fmaf(w[0], v.x, fmaf(w[1], v.y, fmaf(w[2], v.z, fmaf(w[3], v.w, s))));
        }
      }
    }
  }
};

// Lanes of a wave that share a row of `units` units: a power of two.
DW_DEVICE int lanes_of_row(int units) {
  int lanes = kWave;
  while (lanes > 1 && lanes / 2 >= units) lanes /= 2;
  return lanes;
}

// Sums each of kCount (a power of two <= 32) values over all lanes of a wave; lane l gets the total of value
// l % kCount. A recursion, not a loop: compilers leave the loop as it is and put the values in memory.
template <int kCount>
DW_DEVICE float sum_values(const float (&v)[kCount], int lane) {
  if constexpr (kCount > 1) {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane & kHalf) != 0;
    float half[kHalf];
    unrolled<kHalf>([&](auto i) {
      const float low = v[i.value], high = v[i.value + kHalf];
      const float sent = upper ? low : high, kept = upper ? high : low;
      half[i.value] = kept + lane_xor(sent, kHalf);
    });
    return sum_values<kHalf>(half, lane);
  } else {
    return v[0];
  }
}
template <int kCount>
DW_DEVICE float sum_values_of_wave(const float (&v)[kCount], int lane) {
  float sum = sum_values<kCount>(v, lane);
#pragma unroll
  for (int mask = kCount; mask < kWave; mask *= 2) sum += lane_xor(sum, mask);
  return sum;
}

// The rows [0, row_count) at `rows`, in the waves of a block: multiply(units, at, sums) for every unit of a
// row, then store(row, token, total) once a row and token. With kPair (one token, kRows == 2) a row goes with
// the same row at `second`, and store(row, total, total of second) is called.
template <class Units, int kRows, int kTokens, int kDepth, bool kPair = false>
struct RowLoop {
  using Raw = typename Units::Raw;
  static constexpr int kOwnRows = kPair ? 1 : kRows;
  const uint8_t* rows;
  const uint8_t* second;
  uint64_t row_bytes;
  int row_count, columns, units, lanes, slots, lane, slot, steps, groups, wave;

  __device__ RowLoop(const uint8_t* first_row, const uint8_t* pair_row, uint64_t bytes, int count, int width)
      : rows(first_row), second(pair_row), row_bytes(bytes), row_count(count), columns(width) {
    units = Units::count(columns);
    lanes = lanes_of_row(units);
    slots = kWave / lanes;
    lane = int(threadIdx.x) % kWave;
    slot = lane / lanes;
    steps = (units + lanes - 1) / lanes;
    wave = int(threadIdx.x) / kWave;
    groups = (row_count + kOwnRows * slots - 1) / (kOwnRows * slots);
  }
  __device__ __forceinline__ int row_of(int group, int r) const {
    return (group * kOwnRows + (kPair ? 0 : r)) * slots + slot;
  }
  __device__ __forceinline__ int unit_of(int step) const { return step * lanes + lane % lanes; }
  // What stands for a unit's number in decode(): its place in a block of eight, the same in every step.
  __device__ __forceinline__ int phase() const { return lane % lanes; }
  __device__ __forceinline__ void fetch(int group, int step, Raw (&raw)[kRows]) const {
    const int unit = min(unit_of(step), units - 1);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* base = kPair && r == 1 ? second : rows;
      raw[r] = Units::fetch(base + uint64_t(min(row_of(group, r), row_count - 1)) * row_bytes, columns, unit);
    }
  }

  template <class Store>
  __device__ __forceinline__ void finish(int group, float (&sums)[kRows * kTokens],
                                         const Store& store) const {
    if (!kPair && lanes == kWave) {
      const float total = sum_values_of_wave(sums, lane);
      const int row = row_of(group, lane / kTokens);
      if constexpr (!kPair)
        if (lane < kRows * kTokens && row < row_count) store(row, lane % kTokens, total);
      return;
    }
    // The masks outside: sums are indexed by constants only, so that they stay in registers.
    for (int mask = 1; mask < lanes; mask *= 2) {
      unrolled<kRows * kTokens>([&](auto i) { sums[i.value] += lane_xor(sums[i.value], mask); });
    }
    const int own = lane % lanes;
    if constexpr (kPair) {
      const int row = row_of(group, 0);
      if (own == 0 && row < row_count) store(row, sums[0], sums[1]);
    } else {
      // Lane `own` of a row stores the values own, own + lanes, ..., again without indexing sums.
      for (int first = 0; first < kRows * kTokens; first += lanes) {
        const int which = first + own;
        float total = 0;
        unrolled<kRows * kTokens>([&](auto i) { total = i.value == which ? sums[i.value] : total; });
        const int row = row_of(group, which / kTokens);
        if (which < kRows * kTokens && row < row_count) store(row, which % kTokens, total);
      }
    }
  }

  template <class Multiply, class Store>
  __device__ __forceinline__ void run(const IqTables& tables, const Multiply& multiply,
                                      const Store& store) const {
    constexpr int kWaves = kGemvThreads / kWave;
    if (wave >= groups) return;
    Raw raw[kDepth][kRows];
    int next_group = wave, next_step = 0;
    const auto advance = [&] {
      if (++next_step == steps) next_step = 0, next_group += kWaves;
    };
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      if (next_group < groups) fetch(next_group, next_step, raw[i]);
      advance();
    }
    float sums[kRows * kTokens] = {};
    int group = wave, step = 0;
    while (true) {
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int at = unit_of(step);
        typename Units::Unit decoded[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) decoded[r] = Units::decode(raw[i][r], phase(), tables);
        if (next_group < groups) fetch(next_group, next_step, raw[i]);
        advance();
        if (at < units) multiply(decoded, at, sums);
        if (++step < steps) continue;
        finish(group, sums, store);
#pragma unroll
        for (int j = 0; j < kRows * kTokens; ++j) sums[j] = 0;
        step = 0;
        group += kWaves;
        if (group >= groups) return;
      }
    }
  }
};

// Activations of any kind in shared memory, for units of any kind.
struct StagedAny {
  StagedRows rows;      // for quantised weights
  const float* floats;  // [tokens, padded] for others
  int padded;
};
template <class Units, int kRows, int kTokens>
DW_DEVICE void multiply_units(const typename Units::Unit (&units)[kRows], const StagedAny& x, int first_row,
                              int at, float (&sums)[kRows * kTokens]) {
  if constexpr (Units::kFloat)
    Units::template multiply<kRows, kTokens>(units, x.floats + first_row * x.padded, x.padded, at, sums);
  else
    Units::template multiply<kRows, kTokens>(units, x.rows, first_row, at, sums);
}

// visit(Units of the type).
template <class Visit>
DW_DEVICE void visit_units(quant::Type type, const Visit& visit) {
  visit_float_type(type, [&](auto t) { visit(FloatUnits<t.value>{}); });
  visit_quantised_type(type, [&](auto t) { visit(QuantisedUnits<t.value>{}); });
}

}  // namespace dw::gpu
