// The quantisers: errors not above those of the reference quantisers, and every awkward row.
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/random.h"
#include "distributions.h"
#include "quant/blocks.h"
#include "quant/types.h"

namespace dw::quant {
namespace {

using Values = std::vector<float>;
using Bytes = std::vector<std::byte>;

Bytes quantized(const TypeInfo& info, const Values& values, const float* importance = nullptr) {
  Bytes bytes(row_bytes(info.type, values.size()));
  info.quantize(values.data(), bytes.data(), int64_t(values.size()), importance);
  return bytes;
}

Values dequantized(const TypeInfo& info, const Bytes& bytes) {
  Values values(bytes.size() / info.block_bytes * info.block_size);
  info.dequantize(bytes.data(), values.data(), int64_t(values.size()));
  return values;
}

Values round_trip(const TypeInfo& info, const Values& values, const float* importance = nullptr) {
  return dequantized(info, quantized(info, values, importance));
}

std::vector<const TypeInfo*> writable_types() {
  std::vector<const TypeInfo*> types;
  for (const TypeInfo& info : all_types())
    if (info.quantize) types.push_back(&info);
  return types;
}

bool has_half_scale(const TypeInfo& info) {
  return info.block_size > 1 && info.type != Type::Q8_K && info.type != Type::MXFP4;
}

TEST(Quantize, TypesThatCanBeWritten) {
  std::string names;
  for (const TypeInfo* info : writable_types()) names += std::string(info->name) + " ";
  EXPECT_EQ(names,
            "F32 F16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ4_NL IQ4_XS BF16 MXFP4 ");
}

TEST(Quantize, ErrorIsNotAboveTheReference) {
  std::ifstream file(std::string(DW_TEST_DATA) + "/quant/reference_errors.txt");
  const Values importance = draw_importance();
  std::string line;
  int measured = 0;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::string type, distribution;
    int weighted = 0;
    double reference = 0;
    ASSERT_TRUE(fields >> type >> distribution >> weighted >> reference) << line;
    const TypeInfo* info = find_type(type);
    ASSERT_NE(info, nullptr) << line;
    const Values values = draw_values(distribution);
    const float* weights = weighted ? importance.data() : nullptr;
    EXPECT_LE(relative_error(values, round_trip(*info, values, weights), weights), reference) << line;
    ++measured;
  }
  EXPECT_EQ(measured, 14 * 6 * 2);
}

TEST(Quantize, ImportanceLowersTheErrorItWeighs) {
  const Values importance = draw_importance();
  const Values values = draw_values("gaussian");
  for (const TypeInfo* info : writable_types()) {
    if (info->block_size == 1) continue;
    const double with =
        relative_error(values, round_trip(*info, values, importance.data()), importance.data());
    const double without = relative_error(values, round_trip(*info, values), importance.data());
    EXPECT_LT(with, without) << info->name;
  }
}

TEST(Quantize, OnlyRatiosOfImportanceMatter) {
  Values values = draw_values("gaussian"), importance = draw_importance();
  values.resize(2048);
  importance.resize(2048);
  Values larger = importance;
  for (float& w : larger) w *= 0x1p90f;
  const Values zeros(2048, 0.0f), ones(2048, 1.0f);
  for (const TypeInfo* info : writable_types()) {
    EXPECT_EQ(quantized(*info, values, importance.data()), quantized(*info, values, larger.data()))
        << info->name;
    EXPECT_EQ(quantized(*info, values), quantized(*info, values, ones.data())) << info->name;
    EXPECT_EQ(quantized(*info, values), quantized(*info, values, zeros.data())) << info->name;
  }
}

TEST(Quantize, ZerosStayZeros) {
  for (const TypeInfo* info : writable_types())
    for (float zero : {0.0f, -0.0f})
      for (float value : round_trip(*info, Values(1024, zero))) ASSERT_EQ(value, 0.0f) << info->name;
}

TEST(Quantize, ConstantRowsAreKept) {
  for (const TypeInfo* info : writable_types())
    for (float constant : {1.0f, -1.0f, 0.013f, -700.0f}) {
      const Values values(512, constant);
      const double bound = info->type == Type::MXFP4 ? 0.2 : 0.004;  // MXFP4: powers of two, 2 mantissa bits
      EXPECT_LE(relative_error(values, round_trip(*info, values), nullptr), bound) << info->name << constant;
    }
}

// Rows of any number of blocks; bytes of a block do not depend on the blocks beside it; nothing past the end.
TEST(Quantize, BlocksAreIndependent) {
  const Values all = draw_values("student");
  for (const TypeInfo* info : writable_types()) {
    const size_t size = std::max(info->block_size, 16u);
    for (size_t count = 0; count <= 9; ++count) {
      const Values row(all.begin(), all.begin() + int64_t(count * size));
      const size_t row_size = row_bytes(info->type, row.size()), block_size = row_bytes(info->type, size);
      Bytes bytes(row_size + 1, std::byte{0xa5});  // an odd address for odd block sizes
      info->quantize(row.data(), bytes.data(), int64_t(row.size()), nullptr);
      EXPECT_EQ(bytes.back(), std::byte{0xa5}) << info->name;
      for (size_t i = 0; i < count; ++i) {
        const Values block(row.begin() + int64_t(i * size), row.begin() + int64_t((i + 1) * size));
        const Bytes alone = quantized(*info, block);
        ASSERT_EQ(std::memcmp(alone.data(), bytes.data() + i * block_size, block_size), 0) << info->name << i;
      }
    }
  }
}

// Rows whose magnitude no block scale holds, and the largest floats, stay finite and keep their signs.
TEST(Quantize, HugeValuesSaturate) {
  for (const TypeInfo* info : writable_types())
    for (float magnitude : {1e9f, 1e30f, FLT_MAX}) {
      Random random(5);
      Values values(1024);
      for (float& v : values) v = random.uniform(-1.0f, 1.0f) * magnitude;
      const Values back = round_trip(*info, values);
      for (size_t i = 0; i < values.size(); ++i) {
        ASSERT_TRUE(std::isfinite(back[i])) << info->name << " " << values[i];
        ASSERT_LE(std::fabs(back[i]), 2 * double(magnitude)) << info->name;
        if (std::fabs(values[i]) > 0.9f * magnitude) {
          ASSERT_EQ(std::signbit(back[i]), std::signbit(values[i])) << info->name << " " << values[i];
        }
      }
      if (has_half_scale(*info)) {
        ASSERT_GE(*std::max_element(back.begin(), back.end()), 65504.0f) << info->name;
      }
    }
}

TEST(Quantize, OneHugeValueAmongSmallOnes) {
  for (const TypeInfo* info : writable_types())
    for (float huge : {1e4f, -1e30f}) {
      Values values(512, 0.5f);
      values[77] = huge;
      for (float value : round_trip(*info, values)) ASSERT_TRUE(std::isfinite(value)) << info->name;
    }
}

TEST(Quantize, TinyValuesDoNotGrow) {
  for (const TypeInfo* info : writable_types())
    for (float magnitude : {1e-6f, 1e-9f, 1e-30f, 1e-42f}) {
      Random random(6);
      Values values(1024);
      for (float& v : values) v = random.uniform(-1.0f, 1.0f) * magnitude;
      const Values back = round_trip(*info, values);
      for (float value : back) ASSERT_LE(std::fabs(value), std::max(2 * magnitude, 0x1p-24f)) << info->name;
      EXPECT_LE(relative_error(values, back, nullptr), 1.001) << info->name << " " << magnitude;
    }
}

// The error of any row is bounded by the distance of the codes of its worst group.
TEST(Quantize, RandomScalesNeverLoseARow) {
  Random random(9);
  for (const TypeInfo* info : writable_types())
    for (int trial = 0; trial < 50; ++trial) {
      Values values(512);
      const float scale = std::exp(random.uniform(-6.0f, 8.0f));
      for (float& v : values) v = scale * (random.below(3) == 0 ? 0.0f : random.normal());
      EXPECT_LE(relative_error(values, round_trip(*info, values), nullptr), 0.45) << info->name << scale;
    }
}

TEST(Quantize, RepresentableRowsComeBack) {
  Random random(10);
  for (Type type : {Type::Q4_0, Type::Q5_0, Type::Q8_0, Type::Q4_1, Type::Q5_1, Type::IQ4_NL, Type::MXFP4}) {
    const TypeInfo& info = type_info(type);
    for (int trial = 0; trial < 50; ++trial) {
      Bytes bytes(info.block_bytes);
      for (std::byte& b : bytes) b = std::byte(random.below(256));
      const uint16_t d = float_to_half(random.uniform(0.01f, 2.0f)),
                     m = float_to_half(random.uniform(-2.0f, 2.0f));
      bytes.back() = std::byte{0x00};  // the lowest code is there, and the highest:
      bytes[bytes.size() - 2] = std::byte{0xff};
      if (type == Type::Q5_0 || type == Type::Q5_1) {
        const uint32_t high = 0x40004000;  // fifth bits: of the highest code only
        std::memcpy(bytes.data() + info.block_bytes - 20, &high, 4);
      }
      if (type == Type::MXFP4)
        bytes[0] = std::byte(100 + random.below(50));
      else
        std::memcpy(bytes.data(), &d, 2);
      if (type == Type::Q4_1 || type == Type::Q5_1) std::memcpy(bytes.data() + 2, &m, 2);
      if (type == Type::Q8_0) {  // -128 is never written
        std::replace(bytes.begin(), bytes.end(), std::byte{0x80}, std::byte{0x81});
        std::memcpy(bytes.data(), &d, 2);
        bytes.back() = std::byte{0x7f};
      }
      const Values values = dequantized(info, bytes);
      EXPECT_LE(relative_error(values, round_trip(info, values), nullptr), 1e-3) << info.name;
    }
  }
}

TEST(Quantize, HalvesRoundToNearestEvenAndSaturate) {
  Random random(11);
  Values values = {0.0f, -0.0f, 65504.0f, 65519.0f, 65520.0f, -1e30f, 0x1p-25f, 0x1.8p-25f, FLT_MAX, 6e-5f};
  while (values.size() < 20000) values.push_back(bits_to_float(uint32_t(random.next()) & 0xc7ffffffu));
  const Bytes half = quantized(type_info(Type::F16), values),
              brain = quantized(type_info(Type::BF16), values);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t sign = std::signbit(values[i]) ? 0x8000 : 0;
    const uint16_t expected = float_to_half(values[i]);
    ASSERT_EQ(load_unaligned<uint16_t>(half.data() + 2 * i),
              (expected & 0x7fff) == 0x7c00 ? sign | 0x7bff : expected);
    const uint16_t expected_brain = float_to_bfloat16(values[i]);
    ASSERT_EQ(load_unaligned<uint16_t>(brain.data() + 2 * i),
              (expected_brain & 0x7fff) == 0x7f80 ? sign | 0x7f7f : expected_brain);
  }
  EXPECT_EQ(round_trip(type_info(Type::F32), values), values);
}

TEST(QuantizeQ8K, SumsAreThoseOfTheQuants) {
  Values values = draw_values("laplace");
  values.resize(1024);
  const Bytes bytes = quantized(type_info(Type::Q8_K), values);
  const auto* blocks = reinterpret_cast<const BlockQ8_K*>(bytes.data());
  for (int b = 0; b < 4; ++b)
    for (int group = 0; group < 16; ++group) {
      int total = 0;
      for (int i = 0; i < 16; ++i) total += blocks[b].qs[16 * group + i];
      EXPECT_EQ(total, blocks[b].bsums[group]);
    }
}

TEST(QuantizeDeathTest, RefusesAPartialBlock) {
  const float values[256] = {};
  std::byte blocks[512];
  EXPECT_DEATH(type_info(Type::Q6_K).quantize(values, blocks, 200, nullptr), "whole number of blocks");
  EXPECT_DEATH(type_info(Type::Q4_0).quantize(values, blocks, 16, nullptr), "whole number of blocks");
}

}  // namespace
}  // namespace dw::quant
