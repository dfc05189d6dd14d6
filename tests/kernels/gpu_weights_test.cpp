// The GPU's weight traits, compiled for the host: what repack() and decode() make of a row equals what the
// scalar dequantiser makes of the file's row, bit for bit.
#define DW_GPU_HOST
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "kernels/gpu/weights.h"
#include "kernels/random_blocks.h"
#include "quant/iq_tables.h"

namespace dw {
namespace {

using quant::Type;

gpu::IqTables host_tables() {
  return {quant::kIq2xxsGrid.data(), quant::kIq2xsGrid.data(), quant::kIq2sGrid.data(),
          quant::kIq3xxsGrid.data(), quant::kIq3sGrid.data(),  quant::kIq1Grid.data()};
}

template <class Trait>
class GpuWeights : public testing::Test {};

template <Type kTypeValue>
struct Trait : gpu::Weights<kTypeValue> {
  static constexpr Type kType = kTypeValue;
};
using Traits = testing::Types<Trait<Type::Q8_0>, Trait<Type::Q4_0>, Trait<Type::Q4_1>, Trait<Type::Q5_0>,
                              Trait<Type::Q5_1>, Trait<Type::Q2_K>, Trait<Type::Q3_K>, Trait<Type::Q4_K>,
                              Trait<Type::Q5_K>, Trait<Type::Q6_K>, Trait<Type::Q8_K>, Trait<Type::IQ1_S>,
                              Trait<Type::IQ1_M>, Trait<Type::IQ2_XXS>, Trait<Type::IQ2_XS>,
                              Trait<Type::IQ2_S>, Trait<Type::IQ3_XXS>, Trait<Type::IQ3_S>,
                              Trait<Type::IQ4_NL>, Trait<Type::IQ4_XS>, Trait<Type::MXFP4>>;

struct TraitNames {
  template <class T>
  static std::string GetName(int) {
    return std::string(quant::type_info(T::kType).name);
  }
};
TYPED_TEST_SUITE(GpuWeights, Traits, TraitNames);

int quant_of(const gpu::Chunk& chunk, int i) {
  return int8_t(uint32_t(chunk.q[i / 4]) >> (8 * (i % 4)));
}

constexpr uint8_t kPoison = 0xa5;

TYPED_TEST(GpuWeights, RepackAndDecodeEqualTheDequantiser) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const auto& info = quant::type_info(TypeParam::kType);
  const int step = info.block_size == 32 ? 32 : 256;
  for (int blocks : {1, 2, 3, 5, 8, 16}) {
    const int columns = step * blocks;
    const auto file = test::random_weights(TypeParam::kType, 1, columns, random);
    std::vector<float> expected(static_cast<size_t>(columns));
    info.dequantize(file.data(), expected.data(), columns);
    // Two units beside the row: repack must not write there.
    const size_t bytes = TypeParam::row_bytes(columns);
    ASSERT_EQ(bytes % 16, 0u);
    ASSERT_LE(bytes, file.size() + 15);
    std::vector<gpu::uint4> room(bytes / 16 + 2);
    uint8_t* row = reinterpret_cast<uint8_t*>(room.data() + 1);
    std::memset(room.data(), kPoison, room.size() * 16);
    for (int chunk = 0; chunk < columns / 32; ++chunk)
      TypeParam::repack(reinterpret_cast<const uint8_t*>(file.data()), row, columns, chunk);
    for (int i = 0; i < 16; ++i) {
      ASSERT_EQ(row[i - 16], kPoison);
      ASSERT_EQ(row[int(bytes) + i], kPoison);
    }
    for (int chunk = 0; chunk < columns / 32; ++chunk) {
      const gpu::Chunk c = TypeParam::decode(TypeParam::fetch(row, columns, chunk), chunk, host_tables());
      for (int i = 0; i < 32; ++i) {
        const float value = c.scale[i / 16] * float(quant_of(c, i)) + c.offset[i / 16];
        ASSERT_EQ(value, expected[size_t(32 * chunk + i)])
            << "columns " << columns << " chunk " << chunk << " weight " << i;
      }
      if (!TypeParam::kTwoScales) {
        ASSERT_EQ(c.scale[0], c.scale[1]);
        ASSERT_EQ(c.offset[0], c.offset[1]);
      }
      if (!TypeParam::kOffset) {
        ASSERT_EQ(c.offset[0], 0);
        ASSERT_EQ(c.offset[1], 0);
      }
    }
  }
}

}  // namespace
}  // namespace dw
