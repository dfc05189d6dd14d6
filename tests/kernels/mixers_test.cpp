// The row ops of the CPU mixers against the reference and against closed forms.
#include "kernels/mixers_support.h"

#include <cmath>
#include <numeric>

#include "kernels/cpu/mixer_kernels.h"
#include "kernels/reference/reference.h"
#include "quant/types.h"

namespace dw {
namespace {

using test::Guarded;
using test::GuardedActivations;
using test::name_of;
using test::nmse;
using test::normals;
using test::same_bits;

TEST(CpuNorm, MatchesReferenceAndThreadsAgree) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int64_t columns = seed % 2 == 0 ? 32 * (1 + random.below(70)) : 1 + random.below(300);
    const int64_t rows = 1 + random.below(9), taken = 1 + random.below(12);
    const std::vector<float> x = normals(random, rows * columns, random.uniform(1e-3f, 100.0f));
    const std::vector<float> weight = normals(random, columns, 0.3f, 1.0f);
    std::vector<int32_t> selection(static_cast<size_t>(taken));
    for (int32_t& row : selection) row = int32_t(random.below(rows));
    const bool gather = random.below(2) == 0;
    const int64_t tokens = gather ? taken : rows;
    const auto make = [&](ops::Activations out) {
      return ops::Norm{x.data(), gather ? selection.data() : nullptr, weight.data(), 1e-6f, out};
    };
    GuardedActivations want(tokens, columns);
    reference::norm(make(want.view));
    for (CpuLevel level : test::available_levels()) {
      std::vector<float> first;
      for (int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        GuardedActivations got(tokens, columns);
        cpu::norm({level, &pool}, make(got.view));
        got.check(name_of(level, threads));
        EXPECT_LE(nmse(got.values.values(), want.values.values()), 1e-12) << name_of(level, threads);
        if (threads == 1) first = got.values.values();
        EXPECT_TRUE(same_bits(first, got.values.values())) << name_of(level, threads);
      }
    }
  }
}

TEST(CpuNorm, ZeroRowGivesZeros) {
  const std::vector<float> x(64), weight(64, 1.0f);
  for (CpuLevel level : test::available_levels()) {
    ThreadPool pool(1);
    GuardedActivations out(1, 64);
    cpu::norm({level, &pool}, {x.data(), nullptr, weight.data(), 1e-6f, out.view});
    out.check(name_of(level, 1));
    EXPECT_EQ(out.values.values(), x);
  }
}

TEST(CpuEmbed, TakesRowsOfEveryTypeThatCanBeDequantised) {
  for (const quant::TypeInfo& type : quant::all_types()) {
    if (type.dequantize == nullptr) continue;
    SCOPED_TRACE(std::string(type.name));
    Random random(7);
    const int64_t columns = 512, rows = 9, tokens = 11;
    std::vector<std::byte> table(size_t(rows) * quant::row_bytes(type.type, uint64_t(columns)));
    for (std::byte& byte : table) byte = std::byte(random.below(256));  // every pattern of bits is a block
    std::vector<int32_t> ids(size_t(tokens), 0);
    for (int32_t& id : ids) id = int32_t(random.below(rows));
    Guarded<float> got(size_t(tokens * columns)), want(size_t(tokens * columns));
    ops::Embed op{{type.type, table.data(), rows, columns, 1}, ids.data(), tokens, want.data()};
    reference::embed(op);
    ThreadPool pool(2);
    op.out = got.data();
    cpu::embed({detect_cpu_level(), &pool}, op);
    EXPECT_TRUE(got.guards_intact());
    EXPECT_TRUE(same_bits(got.values(), want.values()));
  }
}

TEST(CpuSiluMultiply, MatchesDoubles) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int64_t width = seed % 2 == 0 ? 32 * (1 + random.below(40)) : 1 + random.below(200), row = 1;
    const std::vector<float> gate = normals(random, width, random.uniform(0.1f, 60.0f));
    const std::vector<float> up = normals(random, width);
    std::vector<double> want;
    for (size_t i = 0; i < gate.size(); ++i)
      want.push_back(gate[i] / (1 + std::exp(-double(gate[i]))) * up[i]);
    for (CpuLevel level : test::available_levels()) {
      GuardedActivations out(3, width);
      std::fill_n(out.view.values, 3 * width, 0.0f);
      if (out.view.quants != nullptr) {
        std::fill_n(out.view.quants, 3 * width, int8_t(0));
        std::fill_n(out.view.scales, 3 * width / 32, 0.0f);
        std::fill_n(out.view.sums, 3 * width / 16, int16_t(0));
      }
      cpu::silu_multiply(level, gate.data(), up.data(), width, out.view, row);
      out.check(name_of(level, 1));
      const std::vector<float> got(out.view.values + width, out.view.values + 2 * width);
      EXPECT_LE(nmse(got, want), 1e-12) << name_of(level, 1);
      EXPECT_EQ(out.view.values[0], 0.0f);
      EXPECT_EQ(out.view.values[2 * width], 0.0f);
    }
  }
}

// silu(x) * 1 over the whole range shows exp's error: silu = x / (1 + e^-x).
TEST(CpuSiluMultiply, RelativeErrorIsOfFp32) {
  std::vector<float> x;
  for (double v = -80; v < 120; v += 0.00731) x.push_back(float(v));
  const std::vector<float> ones(x.size(), 1.0f);
  for (CpuLevel level : test::available_levels()) {
    std::vector<float> values(x.size());
    const ops::Activations out{1, int64_t(x.size()), values.data(), nullptr, nullptr, nullptr};
    cpu::silu_multiply(level, x.data(), ones.data(), out.columns, out, 0);
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = x[i] / (1 + std::exp(-double(x[i])));
      worst = std::max(worst, std::fabs(values[i] - want) / std::fabs(want));
    }
    EXPECT_LE(worst, 6e-7) << name_of(level, 1);
  }
}

TEST(CpuSiluMultiply, ExtremesAndNaN) {
  const std::vector<float> gate{-1e30f, -200, -100, -90, 0, 90, 200, 1e30f, NAN}, up(9, 1.0f);
  for (CpuLevel level : test::available_levels()) {
    std::vector<float> values(9);
    const ops::Activations out{1, 9, values.data(), nullptr, nullptr, nullptr};
    cpu::silu_multiply(level, gate.data(), up.data(), 9, out, 0);
    for (int i = 1; i < 5; ++i) EXPECT_NEAR(values[size_t(i)], 0.0f, 1e-35f) << gate[size_t(i)];
    EXPECT_EQ(values[5], 90);
    EXPECT_EQ(values[6], 200);
    EXPECT_EQ(values[7], 1e30f);
    EXPECT_TRUE(std::isnan(values[8]));
  }
}

struct Routing {
  std::vector<int32_t> experts;
  std::vector<double> weights;
};

Routing route_in_doubles(const float* logits, int32_t count, int32_t top_k, bool normalise) {
  std::vector<int32_t> order(size_t(count), 0);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double total = 0, chosen = 0;
  for (int32_t e = 0; e < count; ++e) total += std::exp(double(logits[e]) - logits[order[0]]);
  Routing r{{order.begin(), order.begin() + top_k}, {}};
  for (int32_t e : r.experts) r.weights.push_back(std::exp(double(logits[e]) - logits[order[0]]) / total);
  for (double w : r.weights) chosen += w;
  for (double& w : r.weights) w = normalise ? w / std::max(chosen, 6.1e-5) : w;
  return r;
}

TEST(CpuRoute, PicksTheLargestWithTiesToTheLowerIndex) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const int32_t count = seed % 3 == 0 ? 512 : 1 + int32_t(random.below(700));
    const int32_t top_k = 1 + int32_t(random.below(std::min(count, 12)));
    const bool normalise = random.below(2) == 0;
    const int64_t tokens = 1 + random.below(9);
    std::vector<float> logits = normals(random, tokens * count, random.uniform(0.1f, 30.0f));
    if (seed % 2 == 0) {
      for (float& x : logits) x = std::round(x);  // many ties
    }
    for (CpuLevel level : test::available_levels()) {
      for (int threads : {1, 3}) {
        ThreadPool pool(threads);
        Guarded<int32_t> experts(size_t(tokens * top_k));
        Guarded<float> weights(size_t(tokens * top_k));
        cpu::route({level, &pool}, logits.data(), tokens, count, top_k, normalise, experts.data(),
                   weights.data());
        EXPECT_TRUE(experts.guards_intact() && weights.guards_intact());
        for (int64_t t = 0; t < tokens; ++t) {
          const Routing want = route_in_doubles(&logits[size_t(t * count)], count, top_k, normalise);
          for (int32_t i = 0; i < top_k; ++i) {
            ASSERT_EQ(experts.data()[t * top_k + i], want.experts[size_t(i)]) << name_of(level, threads);
            ASSERT_NEAR(weights.data()[t * top_k + i], want.weights[size_t(i)],
                        2e-6 * want.weights[size_t(i)] + 1e-12);
          }
        }
      }
    }
  }
}

// The floor of the sum of the chosen probabilities, reached when many experts are alike.
TEST(CpuRoute, FloorsTheSumOfTheChosen) {
  const int32_t count = 32768;
  const std::vector<float> logits(size_t(count), 0.25f);
  for (CpuLevel level : test::available_levels()) {
    ThreadPool pool(1);
    int32_t expert = -1;
    float weight = 0;
    cpu::route({level, &pool}, logits.data(), 1, count, 1, true, &expert, &weight);
    EXPECT_EQ(expert, 0);
    EXPECT_NEAR(weight, 1.0 / count / 6.1e-5, 1e-6);
  }
}

TEST(CpuRoute, NaNAndInfinityStayInRange) {
  std::vector<float> logits(40, -INFINITY);
  logits[3] = NAN;
  logits[5] = 1;
  for (CpuLevel level : test::available_levels()) {
    ThreadPool pool(1);
    std::vector<int32_t> experts(4, -1);
    std::vector<float> weights(4);
    cpu::route({level, &pool}, logits.data(), 1, 40, 4, true, experts.data(), weights.data());
    EXPECT_EQ(experts, (std::vector<int32_t>{5, 0, 1, 2}));
    EXPECT_TRUE(std::isnan(weights[0])) << "a NaN logit must not go unseen";
  }
}

}  // namespace
}  // namespace dw
