// Nearest-code functions of the types whose codes are not evenly spaced; see LinearCodes in group_fit.h.
#pragma once

#include "quant/iq_tables.h"
#include "quant/lanes.h"

namespace dw::quant {

// The values of IQ4_NL and IQ4_XS. A value is the sum of the steps below it: no table look-up by lane.
struct Iq4Codes {
  static constexpr float kThresholds[15] = {-115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f,
                                            7.0f,    19.0f,  31.5f,  45.5f,  61.0f,  79.0f,  101.0f};
  static constexpr float kSteps[15] = {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24};

  static F4 nearest(F4 v) {
    F4 value = splat(-127);
    for (int i = 0; i < 15; ++i) value += F4(M4(v > splat(kThresholds[i])) & M4(splat(kSteps[i])));
    return value;
  }
  static M4 index(F4 v) {
    M4 index{};
    for (int i = 0; i < 15; ++i) index -= M4(v > splat(kThresholds[i]));
    return index;
  }
};

// The doubled E2M1 values of MXFP4.
struct E2M1Codes {
  static constexpr float kThresholds[7] = {0.5f, 1.5f, 2.5f, 3.5f, 5.0f, 7.0f, 10.0f};
  static constexpr float kSteps[7] = {1, 1, 1, 1, 2, 2, 4};

  static F4 nearest(F4 v) {
    const F4 magnitude = absolute(v);
    F4 value = splat(0);
    for (int i = 0; i < 7; ++i) value += F4(M4(magnitude > splat(kThresholds[i])) & M4(splat(kSteps[i])));
    return F4(M4(value) | (M4(v) & M4(splat(-0.0f))));
  }
  static M4 index(F4 v) {
    const F4 magnitude = absolute(v);
    M4 index{};
    for (int i = 0; i < 7; ++i) index -= M4(magnitude > splat(kThresholds[i]));
    return index | (M4(v < splat(0)) & M4(index != 0) & 8);
  }
};

}  // namespace dw::quant
