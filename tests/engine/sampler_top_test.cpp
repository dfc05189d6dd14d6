// Sampling from the likeliest tokens alone: the same tokens as from all logits, or a plain "not enough".
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "engine/sampler.h"

namespace dw {
namespace {

struct Row {
  std::vector<float> logits;
  std::vector<int32_t> ids;  // likeliest first
  std::vector<float> top;

  TopLogits view(size_t count) const {
    const float largest = top[0];
    float sum = 0;
    for (float x : logits) sum += std::exp(x - largest);
    return {std::span(ids).first(count), std::span(top).first(count), int32_t(logits.size()), largest, sum};
  }
};

Row make_row(std::mt19937& random, size_t vocabulary, bool ties) {
  Row row;
  std::normal_distribution<float> normal(0, 4);
  for (size_t i = 0; i < vocabulary; ++i)
    row.logits.push_back(ties ? std::round(normal(random)) : normal(random));
  row.ids.resize(vocabulary);
  std::iota(row.ids.begin(), row.ids.end(), 0);
  std::stable_sort(row.ids.begin(), row.ids.end(),
                   [&](int32_t a, int32_t b) { return row.logits[size_t(a)] > row.logits[size_t(b)]; });
  for (int32_t id : row.ids) row.top.push_back(row.logits[size_t(id)]);
  return row;
}

SamplingOptions random_options(std::mt19937& random) {
  const auto one_in = [&](unsigned n) { return random() % n == 0; };
  SamplingOptions o;
  o.temperature = one_in(4) ? 0.0f : 0.2f + 0.1f * float(random() % 20);
  o.top_k = one_in(4) ? 0 : int32_t(1 + random() % 70);
  o.top_p = one_in(2) ? 1.0f : 0.5f + 0.01f * float(random() % 50);
  o.min_p = one_in(2) ? 0.0f : 0.05f;
  o.typical_p = one_in(3) ? 0.9f : 1.0f;
  o.repetition_penalty = one_in(2) ? 1.0f : one_in(4) ? 0.8f : 1.3f;
  o.presence_penalty = one_in(2) ? 0.0f : one_in(4) ? -1.0f : 1.5f;
  o.frequency_penalty = one_in(2) ? 0.0f : 0.5f;
  o.seed = random();
  o.logprobs = one_in(3) ? 3 : 0;
  if (one_in(3)) o.logit_bias = {{int32_t(random() % 300), one_in(4) ? 3.0f : -5.0f}};
  return o;
}

TEST(SamplerTop, DrawsTheSameTokensAsAllLogits) {
  std::mt19937 random(20261123);
  int enough = 0, not_enough = 0;
  for (int round = 0; round < 3000; ++round) {
    const SamplingOptions options = random_options(random);
    Sampler all(options), top(options);
    for (int step = 0; step < 6; ++step) {
      const Row row = make_row(random, 300, round % 3 == 0);
      std::vector<float> logits = row.logits;
      const TopLogits view = row.view(step % 3 == 0 ? 300 : step % 3 == 1 ? 64 : 8);
      const std::optional<Sampled> got = top.sample_top(view);
      const Sampled want = all.sample(logits);
      if (got) {
        ++enough;
        ASSERT_EQ(got->token, want.token) << "round " << round << ", step " << step;
        ASSERT_NEAR(got->logprob, want.logprob, 1e-4);
        ASSERT_EQ(got->alternatives.size(), want.alternatives.size());
        for (size_t i = 0; i < want.alternatives.size(); ++i)
          ASSERT_EQ(got->alternatives[i].token, want.alternatives[i].token);
      } else {
        ++not_enough;
        logits = row.logits;
        ASSERT_EQ(top.sample(logits).token, want.token) << "a refusal must draw nothing";
      }
      all.accept(want.token);
      top.accept(want.token);
    }
  }
  EXPECT_GT(enough, 6000);
  EXPECT_GT(not_enough, 1000);
}

TEST(SamplerTop, TakesTheUsualSettingsFromSixtyFourTokens) {
  std::mt19937 random(7);
  Sampler sampler((SamplingOptions()));
  for (int step = 0; step < 50; ++step) {
    const std::optional<Sampled> got = sampler.sample_top(make_row(random, 5000, false).view(64));
    ASSERT_TRUE(got);
    sampler.accept(got->token);
  }
}

TEST(SamplerTop, AsksForAllLogitsWhenTheTopMayMissTheBest) {
  std::mt19937 random(8);
  const Row row = make_row(random, 1000, false);
  SamplingOptions options;
  options.temperature = 0;
  EXPECT_TRUE(Sampler(options).sample_top(row.view(1)));
  options.logit_bias = {{row.ids[900], 5.0f}};
  EXPECT_FALSE(Sampler(options).sample_top(row.view(64)));
  options.logit_bias = {{row.ids[0], -100.0f}};
  EXPECT_FALSE(Sampler(options).sample_top(row.view(1)));
  EXPECT_EQ(Sampler(options).sample_top(row.view(2))->token, row.ids[1]);
  options = {};
  options.top_k = 65;
  EXPECT_FALSE(Sampler(options).sample_top(row.view(64)));
  options.top_k = 0;
  EXPECT_FALSE(Sampler(options).sample_top(row.view(64)));
}

}  // namespace
}  // namespace dw
