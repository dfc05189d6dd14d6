// Speed of the scalar dequantisers and the quantisers, one thread, on Gaussian rows: a table of M elements/s.
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "base/random.h"
#include "quant/types.h"

namespace {

double best_speed(size_t element_count, const std::function<void()>& body) {
  double best = 1e30;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return double(element_count) / best / 1e6;
}

}  // namespace

int main() {
  dw::Random random(1);
  std::vector<float> values(1 << 18);
  for (float& v : values) v = random.normal();
  const auto count = int64_t(values.size());
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
    std::printf("| %s | %.4g | %.0f | %.0f |\n", info.name.data(), info.bits_per_element(), dequantize,
                quantize);
  }
}
