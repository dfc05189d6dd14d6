// From logits to the next token: logit bias, penalties, top-k, typical, top-p, min-p, temperature, draw.
// The order is the one users know from llama.cpp. The same seed gives the same tokens whatever the thread
// count. Sources: top-p, Holtzman et al. 2020 (arXiv 1904.09751); typical, Meister et al. 2022 (arXiv
// 2202.00666); min-p, Nguyen et al. 2024 (arXiv 2407.01082); repetition penalty, Keskar et al. 2019 (arXiv
// 1909.05858).
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/expected.h"
#include "base/random.h"
#include "model/top_logits.h"

namespace dw {

struct SamplingOptions {
  float temperature = 0.7f;         // 0: greedy
  int32_t top_k = 20;               // 0: all
  float top_p = 0.8f;               // 1: off
  float min_p = 0.0f;               // 0: off
  float typical_p = 1.0f;           // 1: off
  float repetition_penalty = 1.0f;  // 1: off; over the last penalty_window tokens, prompt included
  float presence_penalty = 0.0f;    // over the same window
  float frequency_penalty = 0.0f;
  int32_t penalty_window = 64;  // tokens; -1: all
  uint64_t seed = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to the logit of a token id
  int32_t logprobs = 0;                               // how many alternatives to report
};

// Errors name the option and its range.
Expected<void> check_sampling(const SamplingOptions& options, int32_t vocabulary);

struct TokenProbability {
  int32_t token = -1;
  float logprob =
      0;  // natural logarithm, of the model's own distribution (before bias, penalties, temperature)
};

struct Sampled {
  int32_t token = -1;
  float logprob = 0;                           // filled when logprobs > 0
  std::vector<TokenProbability> alternatives;  // `logprobs` of them, most likely first
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // Tells the penalties of a token that is now part of the text (prompt or generated).
  void accept(int32_t token);
  // Picks a token; does not accept() it. logits: [vocabulary], changed by the call.
  Sampled sample(std::span<float> logits);
  // The same token from the likeliest tokens alone, or nothing (and nothing drawn) when they do not suffice:
  // then sample() all logits. They suffice when no option raises a token that is not among them, and when
  // they hold, after bias and penalties, the top_k best, or without top_k all within reach of the best.
  std::optional<Sampled> sample_top(const TopLogits& top);
  // Whether `count` likeliest tokens have a chance to suffice.
  bool takes_top(int32_t count) const;

 private:
  struct Candidate {
    int32_t token;
    float logit;
    float probability;
  };
  void apply_bias_and_penalties(std::span<float> logits);
  bool penalises() const;
  float penalised(float logit, int32_t count) const;
  bool may_raise_others(const TopLogits& top) const;
  void collect_top(const TopLogits& top);
  bool suffices(const TopLogits& top, size_t count) const;
  int32_t narrow_and_draw();
  void collect(std::span<const float> logits);
  void keep_typical();
  void keep_top_p();
  void keep_min_p();
  void softmax(float temperature);
  int32_t draw();

  SamplingOptions options_;
  Random random_;
  std::deque<int32_t> window_;
  std::unordered_map<int32_t, int32_t> counts_;  // of the tokens in the window
  std::vector<Candidate> candidates_;            // most likely first
};

// Index of the largest logit; ties go to the lower index.
int32_t argmax(std::span<const float> logits);

}  // namespace dw
