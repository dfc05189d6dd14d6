#include <gtest/gtest.h>

#include "base/half.h"
#include "kernels/reference/reference.h"
#include "kernels/reference_support.h"

namespace dw {
namespace {

using test::f32_matrix;
using test::normals;
using test::OwnedActivations;

TEST(ReferenceQuantize, FollowsTheContract) {
  Random random(1);
  OwnedActivations x(3, 64);
  for (float& v : x.values) v = random.normal() * std::exp(random.uniform(-10.0f, 10.0f));
  std::fill_n(x.values.begin() + 32, 32, 0.0f);
  reference::quantize(x.view);
  for (size_t group = 0; group < 6; ++group) {
    float largest = 0;
    int sums[2] = {0, 0};
    for (size_t i = 0; i < 32; ++i) largest = std::fmax(largest, std::fabs(x.values[32 * group + i]));
    EXPECT_EQ(x.scales[group], largest / 127.0f);
    for (size_t i = 0; i < 32; ++i) {
      const int quant = x.quants[32 * group + i];
      EXPECT_LE(std::fabs(x.values[32 * group + i] - float(quant) * x.scales[group]),
                0.50001f * x.scales[group]);
      sums[i / 16] += quant;
    }
    EXPECT_EQ(x.sums[2 * group], sums[0]);
    EXPECT_EQ(x.sums[2 * group + 1], sums[1]);
  }
}

TEST(ReferenceQuantize, TiesGoToEvenAndZerosAndSubnormalsAreSafe) {
  OwnedActivations x(1, 96);
  x.values[0] = 127;  // scale 1
  const float ties[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f};
  std::copy(std::begin(ties), std::end(ties), x.values.begin() + 1);
  x.values[64] = 190 * 0x1p-149f;  // scale rounds to one subnormal unit
  reference::quantize(x.view);
  const int expected[] = {127, 0, 2, 2, 0, -2};
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(x.quants[i], expected[i]) << i;
  EXPECT_EQ(x.scales[1], 0.0f);
  EXPECT_EQ(x.quants[32], 0);
  EXPECT_EQ(x.quants[64], 127);
}

TEST(ReferenceEmbed, TakesRows) {
  Random random(2);
  const std::vector<float> table = normals(random, 7 * 40);
  std::vector<uint16_t> halves;
  for (float v : table) halves.push_back(float_to_half(v));
  const int32_t ids[] = {6, 0, 6, 3};
  std::vector<float> out(4 * 40), from_half(4 * 40);
  reference::embed({f32_matrix(table, 7, 40), ids, 4, out.data()});
  const ops::Matrix half_table{quant::Type::F16, reinterpret_cast<const std::byte*>(halves.data()), 7, 40, 1};
  reference::embed({half_table, ids, 4, from_half.data()});
  for (size_t i = 0; i < out.size(); ++i) {
    const float expected = table[size_t(ids[i / 40]) * 40 + i % 40];
    EXPECT_EQ(out[i], expected);
    EXPECT_EQ(from_half[i], half_to_float(float_to_half(expected)));
  }
}

TEST(ReferenceNorm, RowsAndWeights) {
  Random random(3);
  const std::vector<float> x = normals(random, 5 * 64, 3.0f), weight = normals(random, 64, 0.3f, 1.0f);
  const int32_t rows[] = {4, 1};
  OwnedActivations out(2, 64), all(5, 64);
  reference::norm({x.data(), rows, weight.data(), 1e-3f, out.view});
  reference::norm({x.data(), nullptr, weight.data(), 1e-3f, all.view});
  for (size_t t = 0; t < 2; ++t) {
    const float* row = &x[size_t(rows[t]) * 64];
    long double power = 0;
    for (size_t i = 0; i < 64; ++i) power += (long double)row[i] * row[i] / 64;
    for (size_t i = 0; i < 64; ++i) {
      const double expected = double(row[i] / std::sqrt(power + 1e-3L)) * weight[i];
      EXPECT_NEAR(out.values[t * 64 + i], expected, 1e-6 * std::fabs(expected));
      EXPECT_EQ(out.values[t * 64 + i], all.values[size_t(rows[t]) * 64 + i]);
    }
  }
  EXPECT_EQ(out.scales[0], all.scales[8]);  // the quantised part follows
  EXPECT_NE(out.scales[0], 0.0f);
}

TEST(ReferenceLinear, SeveralMatricesAndAccumulation) {
  Random random(4);
  OwnedActivations x(3, 50);
  x.values = normals(random, 3 * 50);
  x.view.values = x.values.data();
  const std::vector<float> a = normals(random, 7 * 50), b = normals(random, 2 * 50);
  const std::vector<float> start = normals(random, 3 * 2);
  std::vector<float> out_a(3 * 9, 5.0f), out_b = start;  // rows of a are 9 apart
  const ops::Linear outputs[] = {{f32_matrix(a, 7, 50), out_a.data(), 9, false},
                                 {f32_matrix(b, 2, 50), out_b.data(), 0, true}};
  reference::linear(x.view, outputs);
  const auto column_sum = [&](const std::vector<float>& w, size_t n, size_t t) {
    long double sum = 0;
    for (size_t i = 50; i-- > 0;) sum += (long double)w[n * 50 + i] * x.values[t * 50 + i];
    return double(sum);
  };
  for (size_t t = 0; t < 3; ++t) {
    for (size_t n = 0; n < 7; ++n) EXPECT_NEAR(out_a[t * 9 + n], column_sum(a, n, t), 1e-5);
    EXPECT_EQ(out_a[t * 9 + 7], 5.0f);
    for (size_t n = 0; n < 2; ++n)
      EXPECT_NEAR(out_b[t * 2 + n], start[t * 2 + n] + column_sum(b, n, t), 1e-5);
  }
}

}  // namespace
}  // namespace dw
