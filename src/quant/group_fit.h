// The least-squares fits that every quantiser here is made of. A group of N values x with weights w is to be
// written with a scale s (and an offset b) and integer codes q: minimise sum w (x - s q - b)^2. For given s
// and b the codes are the nearest ones; for given codes s and b are a weighted regression. A fit tries a list
// of first scales around the one that maps the largest value to the last code, takes the step of the
// regression from each, and keeps the best. All sums are of the residual, so that they stay exact where the
// error is small.
//
// A Tile holds four groups, one a lane, their values divided by a power of two (unit) so that squares neither
// overflow nor vanish.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/half.h"
#include "quant/lanes.h"

namespace dw::quant {

template <int N>
struct Tile {
  F4 x[N];
  F4 w[N];
  F4 unit;
};

// Scales are stored as binary16: larger ones than it holds become the largest, never infinity.
inline uint16_t half_scale(float value) {
  return float_to_half(std::clamp(value, -65504.0f, 65504.0f));
}
// A scale of a tile as the block will hold it.
inline float stored_scale(float value, float unit) {
  return half_to_float(half_scale(value * unit)) / unit;
}
inline F4 stored_scale(F4 value, F4 unit) {
  F4 stored;
  for (int lane = 0; lane < kLanes; ++lane) stored[lane] = stored_scale(value[lane], unit[lane]);
  return stored;
}

// The power of two at or below amax, kept where it and its inverse are normal numbers.
inline float power_of_two_below(float amax) {
  const uint32_t exponent = float_to_bits(amax) >> 23;
  return bits_to_float(std::clamp(exponent, 2u, 253u) << 23);
}

inline float largest_magnitude(const float* values, int count) {
  F4 amax = splat(0);
  for (int i = 0; i < count; i += kLanes) {
    F4 v;
    std::memcpy(&v, values + i, sizeof v);
    amax = max(absolute(v), amax);
  }
  return std::max(std::max(amax[0], amax[1]), std::max(amax[2], amax[3]));
}

// Fills one lane: the N values of a group, divided by unit, and their weights: importance / heaviest, or all
// 1 without importance. Importance below 0 counts as 0; where a whole group has none its elements get a
// little, so that its own fit still follows them.
template <int N>
void load_lane(Tile<N>& tile, int lane, const float* values, const float* importance, float unit,
               float heaviest) {
  const float over = 1 / unit;
  tile.unit[lane] = unit;
  for (int i = 0; i < N; ++i) tile.x[i][lane] = values[i] * over;
  bool any = false;
  for (int i = 0; i < N; ++i) {
    const float weight = importance ? std::max(importance[i] / heaviest, 0.0f) : 1.0f;
    tile.w[i][lane] = weight;
    any |= weight > 1e-12f;
  }
  if (any) return;
  for (int i = 0; i < N; ++i) tile.w[i][lane] = 1e-12f;
}

// Codes kLow .. kHigh.
template <int kLow, int kHigh>
struct LinearCodes {
  static F4 nearest(F4 v) { return round_lanes(max(min(v, splat(kHigh)), splat(kLow))); }
};

// The residual and its moments with the codes of one scale.
struct ScaleMoments {
  F4 rr, rq, qq;
};

template <class Codes, int N>
ScaleMoments scale_moments(const Tile<N>& tile, F4 scale) {
  const F4 inv = inverse(scale);
  ScaleMoments m{splat(0), splat(0), splat(0)};
  for (int i = 0; i < N; ++i) {
    const F4 q = Codes::nearest(tile.x[i] * inv);
    const F4 r = tile.x[i] - scale * q;
    const F4 wr = tile.w[i] * r;
    m.rr += wr * r;
    m.rq += wr * q;
    m.qq += tile.w[i] * q * q;
  }
  return m;
}

template <class Codes, int N>
F4 scale_error(const Tile<N>& tile, F4 scale) {
  const F4 inv = inverse(scale);
  F4 rr = splat(0);
  for (int i = 0; i < N; ++i) {
    const F4 r = tile.x[i] - scale * Codes::nearest(tile.x[i] * inv);
    rr += tile.w[i] * r * r;
  }
  return rr;
}

struct ScaleFit {
  F4 scale = splat(0);
  F4 error = splat(FLT_MAX);
};

// Tries one scale, followed by its regression step.
template <class Codes, int N>
void try_scale(const Tile<N>& tile, F4 scale, ScaleFit& best) {
  const ScaleMoments m = scale_moments<Codes>(tile, scale);
  const F4 step = m.rq * inverse(m.qq);
  const F4 error = m.rr - m.rq * step;
  const M4 better = error < best.error;
  best.scale = select(better, scale + step, best.scale);
  best.error = select(better, error, best.error);
}

// The value of largest magnitude of each lane, with its sign.
template <int N>
F4 signed_extreme(const Tile<N>& tile) {
  F4 high = tile.x[0], low = tile.x[0];
  for (int i = 1; i < N; ++i) {
    high = max(tile.x[i], high);
    low = min(tile.x[i], low);
  }
  return select(-low > high, low, high);
}

// codes: the (possibly fractional) codes that the extreme value is mapped to, one trial each.
template <class Codes, int N>
ScaleFit fit_scale(const Tile<N>& tile, std::span<const float> codes, int refinements) {
  const F4 extreme = signed_extreme(tile);
  ScaleFit best;
  for (float code : codes) try_scale<Codes>(tile, extreme * splat(1 / code), best);
  for (int i = 0; i < refinements; ++i) try_scale<Codes>(tile, best.scale, best);
  return best;
}

// The stored scale nearest to the fit, or the one its codes ask for when that is better.
template <class Codes, int N>
F4 settle_scale(const Tile<N>& tile, F4 scale) {
  const F4 first = stored_scale(scale, tile.unit);
  const ScaleMoments m = scale_moments<Codes>(tile, first);
  const F4 second = stored_scale(first + m.rq * inverse(m.qq), tile.unit);
  return select(scale_error<Codes>(tile, second) < m.rr, second, first);
}

// ---- scale and offset: codes 0 .. kHigh ----

struct OffsetFit {
  F4 scale = splat(0);
  F4 offset = splat(0);
  F4 error = splat(FLT_MAX);
};

// Tries one scale and offset, followed by the regression step; with kNegative offsets above 0 are not
// allowed.
template <int kHigh, bool kNegative, int N>
void try_offset(const Tile<N>& tile, F4 scale, F4 offset, OffsetFit& best) {
  const F4 inv = inverse(scale);
  F4 rr = splat(0), r1 = splat(0), rq = splat(0), w1 = splat(0), q1 = splat(0), qq = splat(0);
  for (int i = 0; i < N; ++i) {
    const F4 centred = tile.x[i] - offset;
    const F4 q = LinearCodes<0, kHigh>::nearest(centred * inv);
    const F4 r = centred - scale * q;
    const F4 wr = tile.w[i] * r, wq = tile.w[i] * q;
    rr += wr * r;
    r1 += wr;
    rq += wr * q;
    w1 += tile.w[i];
    q1 += wq;
    qq += wq * q;
  }
  const F4 determinant = w1 * qq - q1 * q1;
  const M4 regular = determinant > splat(1e-6f) * w1 * qq;
  const F4 over = select(regular, inverse(determinant), splat(0));
  F4 scale_step = (w1 * rq - q1 * r1) * over;
  F4 offset_step = select(regular, (qq * r1 - q1 * rq) * over, r1 * inverse(w1));
  if constexpr (kNegative) {
    const M4 above = offset + offset_step > splat(0);
    offset_step = select(above, -offset, offset_step);
    scale_step = select(above, (rq - offset_step * q1) * inverse(qq), scale_step);
  }
  const F4 two = splat(2);
  const F4 error = rr - two * (scale_step * rq + offset_step * r1) + scale_step * scale_step * qq +
                   two * scale_step * offset_step * q1 + offset_step * offset_step * w1;
  const M4 better = error < best.error;
  best.scale = select(better, scale + scale_step, best.scale);
  best.offset = select(better, offset + offset_step, best.offset);
  best.error = select(better, error, best.error);
}

// How far the least and the largest value of a group stand outside the codes, in steps; negative: inside.
struct Overhang {
  float low, high;
};

// One trial for each overhang.
template <int kHigh, bool kNegative, int N>
OffsetFit fit_offset(const Tile<N>& tile, std::span<const Overhang> trials, int refinements) {
  F4 low = tile.x[0], high = tile.x[0];
  for (int i = 1; i < N; ++i) {
    low = min(tile.x[i], low);
    high = max(tile.x[i], high);
  }
  if constexpr (kNegative) low = min(low, splat(0));
  const F4 range = max(high - low, splat(0));
  OffsetFit best;
  for (const Overhang& trial : trials) {
    const F4 scale = range * splat(1 / (float(kHigh) + trial.low + trial.high));
    const F4 offset = low + scale * splat(trial.low);
    try_offset<kHigh, kNegative>(tile, scale, kNegative ? min(offset, splat(0)) : offset, best);
  }
  for (int i = 0; i < refinements; ++i) try_offset<kHigh, kNegative>(tile, best.scale, best.offset, best);
  return best;
}

}  // namespace dw::quant
