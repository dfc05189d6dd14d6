#include "quant/types.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <set>

#include "quant/iq_tables.h"

namespace dw::quant {
namespace {

TEST(Types, NumbersAndNamesAreUnique) {
  std::set<uint32_t> numbers;
  std::set<std::string_view> names;
  for (const TypeInfo& info : all_types()) {
    EXPECT_TRUE(numbers.insert(uint32_t(info.type)).second) << info.name;
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
  }
  EXPECT_EQ(numbers.size(), 30u);
}

TEST(Types, AreFoundByNumberAndName) {
  for (const TypeInfo& info : all_types()) {
    EXPECT_EQ(find_type(info.type), &info);
    EXPECT_EQ(find_type(info.name), &info);
    EXPECT_EQ(&type_info(info.type), &info);
  }
  EXPECT_EQ(find_type("q4_k"), find_type(Type::Q4_K));
  EXPECT_EQ(find_type("Iq2_xXs"), find_type(Type::IQ2_XXS));
  EXPECT_EQ(find_type("Q4_K_M"), nullptr);  // a recipe of a file, not a type
  EXPECT_EQ(find_type(""), nullptr);
  EXPECT_EQ(find_type(Type(4)), nullptr);
  EXPECT_EQ(find_type(Type(31)), nullptr);
  EXPECT_EQ(find_type(Type(0xffffffffu)), nullptr);
}

TEST(Types, BlockSizesAreThoseOfTheFormat) {
  struct Row {
    std::string_view name;
    uint32_t number, block_size, block_bytes;
  };
  const Row rows[] = {
      {"F32", 0, 1, 4},         {"F16", 1, 1, 2},         {"Q4_0", 2, 32, 18},      {"Q4_1", 3, 32, 20},
      {"Q5_0", 6, 32, 22},      {"Q5_1", 7, 32, 24},      {"Q8_0", 8, 32, 34},      {"Q8_1", 9, 32, 36},
      {"Q2_K", 10, 256, 84},    {"Q3_K", 11, 256, 110},   {"Q4_K", 12, 256, 144},   {"Q5_K", 13, 256, 176},
      {"Q6_K", 14, 256, 210},   {"Q8_K", 15, 256, 292},   {"IQ2_XXS", 16, 256, 66}, {"IQ2_XS", 17, 256, 74},
      {"IQ3_XXS", 18, 256, 98}, {"IQ1_S", 19, 256, 50},   {"IQ4_NL", 20, 32, 18},   {"IQ3_S", 21, 256, 110},
      {"IQ2_S", 22, 256, 82},   {"IQ4_XS", 23, 256, 136}, {"I8", 24, 1, 1},         {"I16", 25, 1, 2},
      {"I32", 26, 1, 4},        {"I64", 27, 1, 8},        {"F64", 28, 1, 8},        {"IQ1_M", 29, 256, 56},
      {"BF16", 30, 1, 2},       {"MXFP4", 39, 32, 17},
  };
  EXPECT_EQ(std::size(rows), all_types().size());
  for (const Row& row : rows) {
    const TypeInfo* info = find_type(row.name);
    ASSERT_NE(info, nullptr) << row.name;
    EXPECT_EQ(uint32_t(info->type), row.number) << row.name;
    EXPECT_EQ(info->block_size, row.block_size) << row.name;
    EXPECT_EQ(info->block_bytes, row.block_bytes) << row.name;
  }
}

TEST(Types, OnlyWeightTypesDequantize) {
  for (Type type : {Type::Q8_1, Type::I8, Type::I16, Type::I32, Type::I64, Type::F64}) {
    EXPECT_EQ(type_info(type).dequantize, nullptr) << type_info(type).name;
    EXPECT_EQ(type_info(type).quantize, nullptr) << type_info(type).name;
  }
}

TEST(Types, RowBytes) {
  EXPECT_EQ(row_bytes(Type::Q4_K, 2048), 8u * 144u);
  EXPECT_EQ(row_bytes(Type::F16, 3), 6u);
  EXPECT_EQ(row_bytes(Type::MXFP4, 0), 0u);
  EXPECT_EQ(row_bytes(Type::Q8_0, 1ull << 40), (1ull << 35) * 34);
  EXPECT_DOUBLE_EQ(type_info(Type::Q4_K).bits_per_element(), 4.5);
}

TEST(TypesDeathTest, MisuseAborts) {
  EXPECT_DEATH(row_bytes(Type::Q4_K, 128), "whole number of blocks");
  EXPECT_DEATH(type_info(Type(5)), "type number");
}

TEST(IqTables, SignBytesHaveEvenParity) {
  for (uint32_t i = 0; i < 128; ++i) {
    EXPECT_EQ(kIqSigns[i] & 127u, i);
    EXPECT_EQ(std::popcount(unsigned(kIqSigns[i])) % 2, 0);
  }
}

TEST(IqTables, GridEntriesAreDistinct) {
  const auto distinct = [](const auto& grid) {
    return std::set(grid.begin(), grid.end()).size() == grid.size();
  };
  EXPECT_TRUE(distinct(kIq2xxsGrid));
  EXPECT_TRUE(distinct(kIq2xsGrid));
  EXPECT_TRUE(distinct(kIq2sGrid));
  EXPECT_TRUE(distinct(kIq3xxsGrid));
  EXPECT_TRUE(distinct(kIq3sGrid));
  EXPECT_TRUE(distinct(kIq1Grid));
}

}  // namespace
}  // namespace dw::quant
