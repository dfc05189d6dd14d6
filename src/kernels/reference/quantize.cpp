#include <algorithm>

#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::reference {

void quantize(const ops::Activations& x) {
  if (x.quants == nullptr) return;
  DW_CHECK(x.columns % 32 == 0, "quantised activations need a multiple of 32 columns");
  for (int64_t group = 0; group < x.tokens * x.columns / 32; ++group) {
    const float* values = x.values + 32 * group;
    int8_t* quants = x.quants + 32 * group;
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(values[i]));
    const float scale = largest / 127.0f;
    x.scales[group] = scale;
    int sums[2] = {0, 0};
    for (int i = 0; i < 32; ++i) {
      // The clamp matters only where the scale is a subnormal number, which is too coarse to divide by.
      const float quotient = scale == 0 ? 0 : std::clamp(values[i] / scale, -127.0f, 127.0f);
      quants[i] = int8_t(std::lrint(quotient));
      sums[i / 16] += quants[i];
    }
    x.sums[2 * group] = int16_t(sums[0]);
    x.sums[2 * group + 1] = int16_t(sums[1]);
  }
}

}  // namespace dw::reference
