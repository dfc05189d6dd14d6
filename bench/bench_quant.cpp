// Speed of the scalar dequantisers and the quantisers, one thread, on Gaussian rows: a table of M elements/s.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

#include "base/random.h"
#include "quant/types.h"

namespace {

double best_speed(size_t element_count, const std::function<void()>& body) {
  double best = 1e30;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const std::clock_t start = std::clock();  // processor time: one thread, whatever else runs
    body();
    best = std::min(best, double(std::max<std::clock_t>(std::clock() - start, 1)) / CLOCKS_PER_SEC);
  }
  return double(element_count) / best / 1e6;
}

}  // namespace

int main() {
  dw::Random random(1);
  std::vector<float> values(1 << 18);
  for (float& v : values) v = random.normal();
  const auto count = int64_t(values.size());
  const auto print_speed = [](double speed) {
    if (speed > 0)
      std::printf(" %.0f |", speed);
    else
      std::printf(" - |");
  };
  std::printf("| type | bits | dequantise M/s | quantise M/s |\n|---|---|---|---|\n");
  for (const dw::quant::TypeInfo& info : dw::quant::all_types()) {
    if (!info.dequantize) continue;
    std::vector<std::byte> blocks(dw::quant::row_bytes(info.type, values.size()));
    std::vector<float> out(values.size());
    double quantize = 0;
    if (info.quantize)
      quantize =
          best_speed(values.size(), [&] { info.quantize(values.data(), blocks.data(), count, nullptr); });
    const double dequantize =
        best_speed(values.size(), [&] { info.dequantize(blocks.data(), out.data(), count); });
    std::printf("| %s | %.4g |", info.name.data(), info.bits_per_element());
    print_speed(dequantize);
    print_speed(quantize);
    std::printf("\n");
  }
}
