#include "model/random_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/half.h"

namespace dw {
namespace {

constexpr int64_t kUnitElements = 256;
constexpr int kUnitBits = 11;
constexpr int64_t kUnitCount = 1 << kUnitBits;

// The scale of a block whose type has no quantiser. All hold a binary16 at the front, but IQ1_M, which
// spreads it over the top nibbles of its last four words.
void set_scale(quant::Type type, std::byte* block, size_t block_bytes, uint16_t half) {
  if (type != quant::Type::IQ1_M) {
    std::memcpy(block, &half, sizeof half);
    return;
  }
  for (int i = 0; i < 4; ++i) {
    std::byte& high = block[block_bytes - 8 + size_t(2 * i + 1)];
    high = (high & std::byte{0x0f}) | std::byte(((half >> (4 * i)) & 15) << 4);
  }
}

double deviation_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += double(value) * value;
  return std::sqrt(sum / double(values.size()));
}

}  // namespace

RandomBlocks::RandomBlocks(quant::Type type, float deviation, uint64_t seed) {
  const quant::TypeInfo& info = quant::type_info(type);
  DW_CHECK(info.dequantize != nullptr && kUnitElements % info.block_size == 0, "a type of weights");
  unit_bytes_ = size_t(quant::row_bytes(type, kUnitElements));
  units_.resize(unit_bytes_ * kUnitCount);
  Random random(seed);
  if (info.quantize != nullptr)
    quantise_normal(info, deviation, random);
  else
    scale_random_codes(info, deviation, random);
}

void RandomBlocks::quantise_normal(const quant::TypeInfo& info, float deviation, Random& random) {
  std::vector<float> values(kUnitElements);
  for (int64_t unit = 0; unit < kUnitCount; ++unit) {
    for (float& value : values) value = deviation * random.normal();
    info.quantize(values.data(), units_.data() + size_t(unit) * unit_bytes_, kUnitElements, nullptr);
  }
}

void RandomBlocks::scale_random_codes(const quant::TypeInfo& info, float deviation, Random& random) {
  for (std::byte& byte : units_) byte = std::byte(random.next() & 0xff);
  const auto set_scales = [&](float scale) {
    const uint16_t half = float_to_half(scale);
    for (size_t at = 0; at < units_.size(); at += info.block_bytes)
      set_scale(info.type, units_.data() + at, info.block_bytes, half);
  };
  set_scales(1);
  std::vector<float> values(size_t(kUnitElements * kUnitCount));
  info.dequantize(units_.data(), values.data(), int64_t(values.size()));
  set_scales(deviation / float(deviation_of(values)));
}

void RandomBlocks::fill(std::span<std::byte> out, uint64_t seed) const {
  Random random(seed);
  uint64_t bits = 0;
  int left = 0;
  while (!out.empty()) {
    if (left < kUnitBits) {
      bits = random.next();
      left = 64;
    }
    const size_t unit = size_t(bits & uint64_t(kUnitCount - 1));
    bits >>= kUnitBits;
    left -= kUnitBits;
    const size_t count = std::min(unit_bytes_, out.size());
    std::memcpy(out.data(), units_.data() + unit * unit_bytes_, count);
    out = out.subspan(count);
  }
}

}  // namespace dw
