// Dequantise against the floats that the `gguf` Python package makes of the same blocks, bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/types.h"

namespace dw::quant {
namespace {

struct Fixture {
  uint32_t block_count = 0, block_bytes = 0, block_size = 0;
  std::vector<std::byte> blocks;
  std::vector<float> values;
};

Fixture load_fixture(std::string_view type_name) {
  const std::string path = std::string(DW_TEST_DATA) + "/quant/" + std::string(type_name) + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  Fixture fixture;
  if (bytes.size() < 12) return fixture;
  std::memcpy(&fixture.block_count, bytes.data(), 4);
  std::memcpy(&fixture.block_bytes, bytes.data() + 4, 4);
  std::memcpy(&fixture.block_size, bytes.data() + 8, 4);
  const size_t blocks_bytes = size_t(fixture.block_count) * fixture.block_bytes;
  const size_t value_count = size_t(fixture.block_count) * fixture.block_size;
  if (bytes.size() != 12 + blocks_bytes + 4 * value_count) return Fixture{};
  fixture.blocks.resize(blocks_bytes);
  fixture.values.resize(value_count);
  std::memcpy(fixture.blocks.data(), bytes.data() + 12, blocks_bytes);
  std::memcpy(fixture.values.data(), bytes.data() + 12 + blocks_bytes, 4 * value_count);
  return fixture;
}

class Dequantize : public testing::TestWithParam<Type> {};

TEST_P(Dequantize, EqualsTheGgufPackageBitForBit) {
  const TypeInfo& info = type_info(GetParam());
  const Fixture fixture = load_fixture(info.name);
  ASSERT_GE(fixture.block_count, 8u);
  ASSERT_EQ(fixture.block_bytes, info.block_bytes);
  ASSERT_EQ(fixture.block_size, info.block_size);
  // An odd address: rows of 17- and 210-byte blocks have no alignment.
  std::vector<std::byte> shifted(fixture.blocks.size() + 1);
  std::memcpy(shifted.data() + 1, fixture.blocks.data(), fixture.blocks.size());
  std::vector<float> values(fixture.values.size(), NAN);
  info.dequantize(shifted.data() + 1, values.data(), int64_t(values.size()));
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(float_to_bits(values[i]), float_to_bits(fixture.values[i]))
        << info.name << " element " << i << ": " << values[i] << " for " << fixture.values[i];
}

TEST_P(Dequantize, WritesNothingPastTheRow) {
  const TypeInfo& info = type_info(GetParam());
  const Fixture fixture = load_fixture(info.name);
  ASSERT_GE(fixture.block_count, 3u);
  const size_t count = 2 * info.block_size;
  std::vector<float> values(count + 1, 12345.0f);
  info.dequantize(fixture.blocks.data(), values.data(), 0);
  EXPECT_EQ(values[0], 12345.0f);
  info.dequantize(fixture.blocks.data(), values.data(), int64_t(count));
  EXPECT_EQ(values[count], 12345.0f);
}

std::vector<Type> usable_types() {
  std::vector<Type> types;
  for (const TypeInfo& info : all_types())
    if (info.dequantize) types.push_back(info.type);
  return types;
}

std::string type_label(const testing::TestParamInfo<Type>& param) {
  return std::string(type_info(param.param).name);
}

INSTANTIATE_TEST_SUITE_P(Types, Dequantize, testing::ValuesIn(usable_types()), type_label);

TEST(DequantizeF16, EveryHalf) {
  std::vector<uint16_t> halves(0x10000);
  for (uint32_t i = 0; i < halves.size(); ++i) halves[i] = uint16_t(i);
  std::vector<float> values(halves.size());
  type_info(Type::F16).dequantize(reinterpret_cast<const std::byte*>(halves.data()), values.data(),
                                  int64_t(values.size()));
  for (uint32_t i = 0; i < halves.size(); ++i)
    ASSERT_EQ(float_to_bits(values[i]), float_to_bits(half_to_float(halves[i]))) << i;
}

TEST(DequantizeDeathTest, RefusesAPartialBlock) {
  const std::byte block[144] = {};
  float values[256];
  EXPECT_DEATH(type_info(Type::Q4_K).dequantize(block, values, 128), "whole number of blocks");
}

}  // namespace
}  // namespace dw::quant
