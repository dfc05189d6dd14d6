#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace dw {
namespace {

std::vector<float> random_logits(Random& random, int count, float spread) {
  std::vector<float> logits;
  for (int i = 0; i < count; ++i) logits.push_back(spread * random.normal());
  return logits;
}

// The published definitions in double precision, one after another, without any shortcut.
class Oracle {
 public:
  explicit Oracle(const SamplingOptions& options) : o_(options), random_(options.seed) {}

  int32_t sample(const std::vector<float>& logits) {
    std::vector<int32_t> kept(logits.size());
    std::iota(kept.begin(), kept.end(), 0);
    sort_by_logit(kept, logits);
    if (o_.top_k > 0 && size_t(o_.top_k) < kept.size()) kept.resize(size_t(o_.top_k));
    if (o_.typical_p < 1) keep_typical(kept, logits);
    if (o_.top_p < 1) keep_mass(kept, softmax(kept, logits, 1), o_.top_p);
    if (o_.min_p > 0) {
      const auto p = softmax(kept, logits, 1);
      size_t keep = 0;
      while (keep < kept.size() && p[keep] >= double(o_.min_p) * p[0]) ++keep;
      kept.resize(std::max<size_t>(keep, 1));
    }
    const auto p = softmax(kept, logits, o_.temperature);
    double point = random_.uniform();
    for (size_t i = 0; i < kept.size(); ++i)
      if ((point -= p[i]) < 0) return kept[i];
    return kept.back();
  }

 private:
  static void sort_by_logit(std::vector<int32_t>& kept, const std::vector<float>& logits) {
    std::sort(kept.begin(), kept.end(), [&](int32_t a, int32_t b) {
      return logits[size_t(a)] != logits[size_t(b)] ? logits[size_t(a)] > logits[size_t(b)] : a < b;
    });
  }
  static std::vector<double> softmax(const std::vector<int32_t>& kept, const std::vector<float>& logits,
                                     double temperature) {
    std::vector<double> p;
    for (int32_t token : kept)
      p.push_back(std::exp((double(logits[size_t(token)]) - logits[size_t(kept[0])]) / temperature));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& value : p) value /= sum;
    return p;
  }
  static void keep_mass(std::vector<int32_t>& kept, const std::vector<double>& p, double mass) {
    double sum = 0;
    size_t keep = 0;
    while (keep < kept.size() && sum < mass) sum += p[keep++];
    kept.resize(std::max<size_t>(keep, 1));
  }
  void keep_typical(std::vector<int32_t>& kept, const std::vector<float>& logits) const {
    const auto p = softmax(kept, logits, 1);
    double entropy = 0;
    for (double value : p) entropy -= value * std::log(value);
    std::vector<size_t> order(kept.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::abs(-std::log(p[a]) - entropy) < std::abs(-std::log(p[b]) - entropy);
    });
    std::vector<int32_t> sorted;
    std::vector<double> masses;
    for (size_t i : order) {
      sorted.push_back(kept[i]);
      masses.push_back(p[i]);
    }
    keep_mass(sorted, masses, o_.typical_p);
    sort_by_logit(sorted, logits);
    kept = sorted;
  }

  SamplingOptions o_;
  Random random_;
};

SamplingOptions plain(uint64_t seed) {
  SamplingOptions o;
  o.temperature = 1;
  o.top_k = 0;
  o.top_p = 1;
  o.seed = seed;
  return o;
}

void expect_like_oracle(const SamplingOptions& options, const char* what) {
  Random random(options.seed + 17);
  Sampler sampler(options);
  Oracle oracle(options);
  for (int i = 0; i < 300; ++i) {
    const auto logits = random_logits(random, 400, 3);
    std::vector<float> scratch = logits;
    ASSERT_EQ(sampler.sample(scratch).token, oracle.sample(logits))
        << what << ", seed " << options.seed << ", draw " << i;
  }
}

TEST(Sampler, EachFilterMatchesItsDefinition) {
  for (uint64_t seed : {1, 2, 3}) {
    expect_like_oracle(plain(seed), "no filter");
    for (int32_t k : {1, 2, 40, 256, 300, 399, 400, 1000}) {
      auto o = plain(seed);
      o.top_k = k;
      expect_like_oracle(o, "top_k");
    }
    for (float p : {0.0f, 0.1f, 0.5f, 0.95f}) {
      auto o = plain(seed);
      o.top_p = p;
      expect_like_oracle(o, "top_p");
      o = plain(seed);
      o.typical_p = p;
      expect_like_oracle(o, "typical_p");
      o = plain(seed);
      o.min_p = p;
      expect_like_oracle(o, "min_p");
    }
    for (float temperature : {0.1f, 0.7f, 1.5f, 20.0f}) {
      auto o = plain(seed);
      o.temperature = temperature;
      expect_like_oracle(o, "temperature");
    }
  }
}

TEST(Sampler, AllFiltersTogetherMatchTheirDefinitionsInOrder) {
  for (uint64_t seed : {4, 5, 6}) {
    SamplingOptions o;
    o.temperature = 0.8f;
    o.top_k = 50;
    o.typical_p = 0.9f;
    o.top_p = 0.9f;
    o.min_p = 0.02f;
    o.seed = seed;
    expect_like_oracle(o, "all");
  }
}

TEST(Sampler, DrawsInProportionToTheProbabilities) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  Sampler sampler(plain(9));
  std::vector<int> counts(4);
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) {
    auto scratch = logits;
    ++counts[size_t(sampler.sample(scratch).token)];
  }
  for (size_t i = 0; i < 4; ++i) {
    const double p = std::exp(double(logits[i]));
    EXPECT_NEAR(counts[i], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << i;
  }
}

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
  SamplingOptions o = plain(0);
  o.temperature = 0;
  std::vector<float> logits = {1, 3, 2, 3};
  EXPECT_EQ(Sampler(o).sample(logits).token, 1);
  EXPECT_EQ(argmax(std::vector<float>{-2, -1, -1}), 1);
}

TEST(Sampler, TiesAtTheEdgeOfTopKGoToTheLowerId) {
  SamplingOptions o = plain(3);
  o.top_k = 2;
  Sampler sampler(o);
  std::map<int32_t, int> seen;
  for (int i = 0; i < 500; ++i) {
    std::vector<float> logits = {0, 5, 1, 5, 5};
    ++seen[sampler.sample(logits).token];
  }
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_TRUE(seen.contains(1) && seen.contains(3));
}

TEST(Sampler, TheSeedDecidesTheDraws) {
  Random random(8);
  Sampler a(plain(42)), b(plain(42)), c(plain(43));
  bool differs = false;
  for (int i = 0; i < 50; ++i) {
    auto logits = random_logits(random, 100, 1);
    auto second = logits, third = logits;
    const int32_t token = a.sample(logits).token;
    EXPECT_EQ(token, b.sample(second).token);
    differs |= token != c.sample(third).token;
  }
  EXPECT_TRUE(differs);
}

// The logits after bias and penalties, seen through the span that sample() changes.
std::vector<float> after(const SamplingOptions& options, const std::vector<int32_t>& said,
                         std::vector<float> logits) {
  Sampler sampler(options);
  for (int32_t token : said) sampler.accept(token);
  sampler.sample(logits);
  return logits;
}

TEST(Sampler, RepetitionPenaltyMovesLogitsTowardsLessLikely) {
  SamplingOptions o = plain(0);
  o.repetition_penalty = 2;
  const auto logits = after(o, {0, 1, 1}, {4, -4, 4, 0});
  EXPECT_EQ(logits, (std::vector<float>{2, -8, 4, 0}));
}

TEST(Sampler, PresenceCountsOnceAndFrequencyEachTime) {
  SamplingOptions o = plain(0);
  o.presence_penalty = 1;
  o.frequency_penalty = 0.5f;
  const auto logits = after(o, {0, 1, 1, 1}, {4, 4, 4});
  EXPECT_EQ(logits, (std::vector<float>{2.5f, 1.5f, 4}));
}

TEST(Sampler, PenaltiesLookAtTheirWindowOnly) {
  SamplingOptions o = plain(0);
  o.presence_penalty = 1;
  o.penalty_window = 2;
  EXPECT_EQ(after(o, {0, 1, 2}, {4, 4, 4}), (std::vector<float>{4, 3, 3}));
  o.penalty_window = -1;
  EXPECT_EQ(after(o, {0, 1, 2}, {4, 4, 4}), (std::vector<float>{3, 3, 3}));
  o.penalty_window = 0;
  EXPECT_EQ(after(o, {0, 1, 2}, {4, 4, 4}), (std::vector<float>{4, 4, 4}));
}

TEST(Sampler, BiasForbidsAndForcesTokens) {
  SamplingOptions o = plain(1);
  o.top_k = 2;
  o.logit_bias = {{1, -std::numeric_limits<float>::infinity()}, {2, 100}};
  Sampler sampler(o);
  for (int i = 0; i < 100; ++i) {
    std::vector<float> logits = {1, 50, 0, 2};
    EXPECT_EQ(sampler.sample(logits).token, 2);
  }
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  Random random(5);
  const auto logits = random_logits(random, 300, 2);
  double sum = 0;
  for (float logit : logits) sum += std::exp(double(logit));
  SamplingOptions o = plain(5);
  o.temperature = 0.3f;
  o.top_k = 5;
  o.logit_bias = {{7, 3}};
  o.logprobs = 4;
  auto scratch = logits;
  const Sampled s = Sampler(o).sample(scratch);
  EXPECT_NEAR(s.logprob, logits[size_t(s.token)] - std::log(sum), 1e-5);
  ASSERT_EQ(s.alternatives.size(), 4u);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(logits[size_t(s.alternatives[i].token)], sorted[i]);
    EXPECT_NEAR(s.alternatives[i].logprob, sorted[i] - std::log(sum), 1e-5);
  }
}

TEST(Sampler, ExtremeLogitsStillGiveTheLikelyToken) {
  for (float temperature : {0.001f, 1.0f}) {
    SamplingOptions o = plain(2);
    o.temperature = temperature;
    std::vector<float> logits = {-3e38f, 3e38f, 0, -std::numeric_limits<float>::infinity()};
    EXPECT_EQ(Sampler(o).sample(logits).token, 1);
  }
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  const auto message = [](auto change) {
    SamplingOptions o;
    change(o);
    const auto result = check_sampling(o, 100);
    return result ? std::string() : result.error().message;
  };
  EXPECT_EQ(message([](auto&) {}), "");
  EXPECT_NE(message([](auto& o) { o.temperature = -1; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.temperature = NAN; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.top_k = -1; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.top_p = 1.5f; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.min_p = -0.1f; }).find("min_p"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.repetition_penalty = 0; }).find("repetition_penalty"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.logprobs = 101; }).find("logprobs"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.logit_bias = {{100, 1.0f}}; }).find("100"), std::string::npos);
  EXPECT_NE(message([](auto& o) {
              o.logit_bias = {{1, INFINITY}};
            }).find("minus infinity"),
            std::string::npos);
}

}  // namespace
}  // namespace dw
