// Fits of super-blocks: 256 values in groups of N, each group with an integer scale (and min) that a binary16
// scale (and min) of the super-block multiplies. First every group is fitted alone (group_fit.h); then, for a
// few scales of the super-block, integers are rounded and searched around by the true error, and the scale of
// the super-block takes regression steps while the error falls.
#pragma once

#include "quant/group_fit.h"

namespace dw::quant {

inline constexpr int kSuperRounds = 4;  // regression steps at most

template <int N>
struct SuperTile {
  static constexpr int kTiles = 256 / N / kLanes;
  Tile<N> tiles[kTiles];  // group 4t + lane
  float unit;
};

template <int N>
void load_super_tile(SuperTile<N>& super, const float* values, const float* importance) {
  super.unit = power_of_two_below(largest_magnitude(values, 256));
  // One divisor for the weights of all groups: the regression weighs groups against each other.
  const float heaviest = importance ? *std::max_element(importance, importance + 256) : 0.0f;
  for (int group = 0; group < 256 / N; ++group) {
    Tile<N>& tile = super.tiles[group / kLanes];
    load_lane(tile, group % kLanes, values + N * group, heaviest > 0 ? importance + N * group : nullptr,
              super.unit, heaviest);
  }
}

inline F4 clamp_round(F4 v, float low, float high) {
  return round_lanes(max(min(v, splat(high)), splat(low)));
}

// ---- scale only: Q3_K, Q6_K, IQ4_XS ----

template <int N>
struct SuperScale {
  float d = 0;  // in units of the super-block
  F4 scale[SuperTile<N>::kTiles] = {};
  float error = FLT_MAX;
};

// Moves each integer scale to a neighbour when that lowers the error; returns the error of all.
template <class Codes, int kLow, int kHigh, int N>
float search_scales(const SuperTile<N>& super, SuperScale<N>& state) {
  F4 total = splat(0);
  const F4 d = splat(state.d);
  for (int t = 0; t < SuperTile<N>::kTiles; ++t) {
    const F4 start = state.scale[t];
    F4 error = scale_error<Codes>(super.tiles[t], d * start);
    for (float step : {-1.0f, 1.0f}) {
      const F4 next = clamp_round(start + splat(step), kLow, kHigh);
      const F4 next_error = scale_error<Codes>(super.tiles[t], d * next);
      const M4 better = next_error < error;
      state.scale[t] = select(better, next, state.scale[t]);
      error = select(better, next_error, error);
    }
    total += error;
  }
  return sum(total);
}

template <class Codes, int N>
float regression_step(const SuperTile<N>& super, const SuperScale<N>& state) {
  F4 residual = splat(0), square = splat(0);
  for (int t = 0; t < SuperTile<N>::kTiles; ++t) {
    const F4 scale = state.scale[t];
    const ScaleMoments m = scale_moments<Codes>(super.tiles[t], splat(state.d) * scale);
    residual += scale * m.rq;
    square += scale * scale * m.qq;
  }
  return sum(square) > 0 ? sum(residual) / sum(square) : 0.0f;
}

// group_codes: see fit_scale; largest_codes: the (fractional) integers the largest group scale is mapped to.
template <class Codes, int kLow, int kHigh, int N>
SuperScale<N> fit_super_scale(const SuperTile<N>& super, std::span<const float> group_codes,
                              std::span<const float> largest_codes) {
  constexpr int kTiles = SuperTile<N>::kTiles;
  F4 ideal[kTiles];
  F4 low = splat(0), high = splat(0);
  for (int t = 0; t < kTiles; ++t) {
    ideal[t] = fit_scale<Codes>(super.tiles[t], group_codes, 1).scale;
    low = min(ideal[t], low);
    high = max(ideal[t], high);
  }
  const float lowest = std::min(std::min(low[0], low[1]), std::min(low[2], low[3]));
  const float highest = std::max(std::max(high[0], high[1]), std::max(high[2], high[3]));
  const float extreme = -lowest > highest ? lowest : highest;

  SuperScale<N> best;
  for (float code : largest_codes) {
    SuperScale<N> state;
    state.d = stored_scale(extreme / code, super.unit);
    const F4 inv = inverse(splat(state.d));
    for (int t = 0; t < kTiles; ++t) state.scale[t] = clamp_round(ideal[t] * inv, kLow, kHigh);
    state.error = search_scales<Codes, kLow, kHigh>(super, state);
    if (state.error < best.error) best = state;
  }
  SuperScale<N> state = best;
  for (int round = 0; round < kSuperRounds; ++round) {
    state.d = stored_scale(state.d + regression_step<Codes>(super, state), super.unit);
    state.error = search_scales<Codes, kLow, kHigh>(super, state);
    if (!(state.error < best.error)) break;
    best = state;
  }
  return best;
}

// The codes of all 256 values, bias added, in the order of the values.
template <class Encode, int N>
void super_codes(const SuperTile<N>& super, uint8_t codes[256], const Encode& encode) {
  for (int t = 0; t < SuperTile<N>::kTiles; ++t)
    for (int i = 0; i < N; ++i) {
      const M4 code = encode(t, super.tiles[t].x[i]);
      for (int lane = 0; lane < kLanes; ++lane) codes[(4 * t + lane) * N + i] = uint8_t(code[lane]);
    }
}

// ---- scale and min: Q2_K, Q4_K, Q5_K ----

template <int N>
struct SuperOffset {
  float d = 0, dmin = 0;  // in units of the super-block
  F4 scale[SuperTile<N>::kTiles] = {};
  F4 min[SuperTile<N>::kTiles] = {};
  float error = FLT_MAX;
};

template <int kHigh, int N>
F4 offset_error(const Tile<N>& tile, F4 scale, F4 min_value) {
  const F4 inv = inverse(scale);
  F4 rr = splat(0);
  for (int i = 0; i < N; ++i) {
    const F4 lifted = tile.x[i] + min_value;
    const F4 r = lifted - scale * LinearCodes<0, kHigh>::nearest(lifted * inv);
    rr += tile.w[i] * r * r;
  }
  return rr;
}

// Moves each pair of integers to one of its neighbours when that lowers the error; returns the error of all.
template <int kHigh, int kScaleHigh, int N>
float search_offsets(const SuperTile<N>& super, SuperOffset<N>& state) {
  F4 total = splat(0);
  const F4 d = splat(state.d), dmin = splat(state.dmin);
  for (int t = 0; t < SuperTile<N>::kTiles; ++t) {
    const Tile<N>& tile = super.tiles[t];
    const F4 scale = state.scale[t], least = state.min[t];
    F4 error = offset_error<kHigh>(tile, d * scale, dmin * least);
    for (int direction = 0; direction < 9; ++direction) {
      if (direction == 4) continue;
      const F4 next_scale = clamp_round(scale + splat(float(direction / 3 - 1)), 0, kScaleHigh);
      const F4 next_min = clamp_round(least + splat(float(direction % 3 - 1)), 0, kScaleHigh);
      const F4 next_error = offset_error<kHigh>(tile, d * next_scale, dmin * next_min);
      const M4 better = next_error < error;
      state.scale[t] = select(better, next_scale, state.scale[t]);
      state.min[t] = select(better, next_min, state.min[t]);
      error = select(better, next_error, error);
    }
    total += error;
  }
  return sum(total);
}

// The regression of the values on d and dmin with all integers and codes as they are.
template <int kHigh, int N>
void regression_step(const SuperTile<N>& super, const SuperOffset<N>& state, double& d_step,
                     double& dmin_step) {
  F4 ss = splat(0), sm = splat(0), mm = splat(0), rs = splat(0), rm = splat(0);
  for (int t = 0; t < SuperTile<N>::kTiles; ++t) {
    const Tile<N>& tile = super.tiles[t];
    const F4 scale = splat(state.d) * state.scale[t], min_value = splat(state.dmin) * state.min[t];
    const F4 inv = inverse(scale);
    F4 w1 = splat(0), q1 = splat(0), qq = splat(0), r1 = splat(0), rq = splat(0);
    for (int i = 0; i < N; ++i) {
      const F4 lifted = tile.x[i] + min_value;
      const F4 q = LinearCodes<0, kHigh>::nearest(lifted * inv);
      const F4 wr = tile.w[i] * (lifted - scale * q), wq = tile.w[i] * q;
      w1 += tile.w[i];
      q1 += wq;
      qq += wq * q;
      r1 += wr;
      rq += wr * q;
    }
    ss += state.scale[t] * state.scale[t] * qq;
    sm += state.scale[t] * state.min[t] * q1;
    mm += state.min[t] * state.min[t] * w1;
    rs += state.scale[t] * rq;
    rm += state.min[t] * r1;
  }
  const double a = sum(ss), b = sum(sm), c = sum(mm), p = sum(rs), m = sum(rm);
  const double determinant = a * c - b * b;
  const bool regular = determinant > 1e-6 * a * c;
  d_step = regular ? (p * c - m * b) / determinant : a > 0 ? p / a : 0;
  dmin_step = regular ? (b * p - a * m) / determinant : 0;
}

inline float largest(F4 v) {
  return std::max(std::max(v[0], v[1]), std::max(v[2], v[3]));
}

// trials: see fit_offset; largest_codes: the (fractional) integers the largest group scale and min are mapped
// to.
template <int kHigh, int kScaleHigh, int N>
SuperOffset<N> fit_super_offset(const SuperTile<N>& super, std::span<const Overhang> trials, int refinements,
                                std::span<const float> largest_codes) {
  constexpr int kTiles = SuperTile<N>::kTiles;
  OffsetFit ideal[kTiles];
  F4 scales = splat(0), mins = splat(0);
  for (int t = 0; t < kTiles; ++t) {
    ideal[t] = fit_offset<kHigh, true>(super.tiles[t], trials, refinements);
    scales = max(ideal[t].scale, scales);
    mins = max(-ideal[t].offset, mins);
  }
  SuperOffset<N> best;
  for (float code : largest_codes) {
    SuperOffset<N> state;
    state.d = stored_scale(largest(scales) / code, super.unit);
    state.dmin = stored_scale(largest(mins) / code, super.unit);
    const F4 inv = inverse(splat(state.d)), inv_min = inverse(splat(state.dmin));
    for (int t = 0; t < kTiles; ++t) {
      state.scale[t] = clamp_round(ideal[t].scale * inv, 0, kScaleHigh);
      state.min[t] = clamp_round(-ideal[t].offset * inv_min, 0, kScaleHigh);
    }
    state.error = search_offsets<kHigh, kScaleHigh>(super, state);
    if (state.error < best.error) best = state;
  }
  SuperOffset<N> state = best;
  for (int round = 0; round < kSuperRounds; ++round) {
    double d_step, dmin_step;
    regression_step<kHigh>(super, state, d_step, dmin_step);
    state.d = stored_scale(float(state.d + d_step), super.unit);
    state.dmin = std::max(stored_scale(float(state.dmin + dmin_step), super.unit), 0.0f);
    state.error = search_offsets<kHigh, kScaleHigh>(super, state);
    if (!(state.error < best.error)) break;
    best = state;
  }
  return best;
}

}  // namespace dw::quant
