#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dw {
namespace {

bool more_likely(float logit_a, int32_t token_a, float logit_b, int32_t token_b) {
  return logit_a != logit_b ? logit_a > logit_b : token_a < token_b;
}

Expected<void> in_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return make_error(name, " is ", value, "; it must lie between ", low, " and ", high);
}

void report_logprobs(std::span<const float> logits, int32_t count, Sampled& result) {
  const float top = logits[size_t(argmax(logits))];
  double sum = 0;
  for (float logit : logits) sum += std::exp(double(logit) - top);
  const double log_sum = top + std::log(sum);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = int32_t(i);
  const size_t keep = std::min(order.size(), size_t(count));
  std::partial_sort(order.begin(), order.begin() + int64_t(keep), order.end(), [&](int32_t a, int32_t b) {
    return more_likely(logits[size_t(a)], a, logits[size_t(b)], b);
  });
  for (size_t i = 0; i < keep; ++i)
    result.alternatives.push_back({order[i], float(logits[size_t(order[i])] - log_sum)});
  result.logprob = float(-log_sum);  // the caller adds the chosen token's logit
}

}  // namespace

int32_t argmax(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i)
    if (logits[i] > logits[best]) best = i;
  return int32_t(best);
}

Expected<void> check_sampling(const SamplingOptions& o, int32_t vocabulary) {
  struct Range {
    const char* name;
    double value, low, high;
  };
  const Range ranges[] = {
      {"temperature", o.temperature, 0, 100},
      {"top_k", double(o.top_k), 0, 1e9},
      {"top_p", o.top_p, 0, 1},
      {"min_p", o.min_p, 0, 1},
      {"typical_p", o.typical_p, 0, 1},
      {"repetition_penalty", o.repetition_penalty, 0.01, 100},
      {"presence_penalty", o.presence_penalty, -100, 100},
      {"frequency_penalty", o.frequency_penalty, -100, 100},
      {"penalty_window", double(o.penalty_window), -1, 1e9},
      {"logprobs", double(o.logprobs), 0, double(vocabulary)},
  };
  for (const Range& r : ranges)
    if (auto ok = in_range(r.name, r.value, r.low, r.high); !ok) return ok.error();
  for (const auto& [token, bias] : o.logit_bias) {
    if (token < 0 || token >= vocabulary)
      return make_error("logit_bias names the token ", token, "; the vocabulary has ", vocabulary, " tokens");
    if (std::isnan(bias) || bias == std::numeric_limits<float>::infinity())
      return make_error("logit_bias of the token ", token, " is ", bias,
                        "; it must be a number or minus infinity");
  }
  return {};
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

void Sampler::accept(int32_t token) {
  if (options_.penalty_window == 0) return;
  window_.push_back(token);
  ++counts_[token];
  if (options_.penalty_window > 0 && int64_t(window_.size()) > options_.penalty_window) {
    const auto oldest = counts_.find(window_.front());
    if (--oldest->second == 0) counts_.erase(oldest);
    window_.pop_front();
  }
}

void Sampler::apply_bias_and_penalties(std::span<float> logits) {
  for (const auto& [token, bias] : options_.logit_bias) logits[size_t(token)] += bias;
  if (!penalises()) return;
  for (const auto& [token, count] : counts_) {
    if (token < 0 || size_t(token) >= logits.size()) continue;
    logits[size_t(token)] = penalised(logits[size_t(token)], count);
  }
}

bool Sampler::penalises() const {
  return options_.repetition_penalty != 1 || options_.presence_penalty != 0 ||
         options_.frequency_penalty != 0;
}

float Sampler::penalised(float logit, int32_t count) const {
  logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  logit -= options_.presence_penalty + options_.frequency_penalty * float(count);
  return logit;
}

// The top_k most likely tokens, in order. Without top_k, all tokens within reach of the best (e^-40 of its
// probability changes no draw of 53 bits).
void Sampler::collect(std::span<const float> logits) {
  candidates_.clear();
  const auto order = [](const Candidate& a, const Candidate& b) {
    return more_likely(a.logit, a.token, b.logit, b.token);
  };
  const size_t limit = options_.top_k > 0 ? std::min(size_t(options_.top_k), logits.size()) : logits.size();
  if (limit <= 256 && limit < logits.size()) {  // a heap with the least likely candidate in front
    for (size_t i = 0; i < logits.size(); ++i) {
      const Candidate c{int32_t(i), logits[i], 0};
      if (candidates_.size() < limit) {
        candidates_.push_back(c);
        std::push_heap(candidates_.begin(), candidates_.end(), order);
      } else if (order(c, candidates_.front())) {
        std::pop_heap(candidates_.begin(), candidates_.end(), order);
        candidates_.back() = c;
        std::push_heap(candidates_.begin(), candidates_.end(), order);
      }
    }
    std::sort(candidates_.begin(), candidates_.end(), order);
    return;
  }
  const float floor = logits[size_t(argmax(logits))] - 40 * std::max(1.0f, options_.temperature);
  for (size_t i = 0; i < logits.size(); ++i)
    if (logits[i] >= floor) candidates_.push_back({int32_t(i), logits[i], 0});
  std::sort(candidates_.begin(), candidates_.end(), order);
  if (candidates_.size() > limit) candidates_.resize(limit);
}

void Sampler::softmax(float temperature) {
  double sum = 0;
  const float top = candidates_.front().logit;
  for (Candidate& c : candidates_) {
    c.probability = float(std::exp(double(c.logit - top) / temperature));
    sum += c.probability;
  }
  for (Candidate& c : candidates_) c.probability = float(c.probability / sum);
}

// Keeps the tokens whose surprise is nearest the entropy, up to a mass of typical_p.
void Sampler::keep_typical() {
  softmax(1);
  double entropy = 0;
  for (const Candidate& c : candidates_)
    if (c.probability > 0) entropy -= c.probability * std::log(double(c.probability));
  auto distance = [&](const Candidate& c) {
    return std::abs(-std::log(std::max(double(c.probability), 1e-300)) - entropy);
  };
  std::stable_sort(candidates_.begin(), candidates_.end(),
                   [&](const Candidate& a, const Candidate& b) { return distance(a) < distance(b); });
  double mass = 0;
  size_t keep = 0;
  while (keep < candidates_.size() && mass < options_.typical_p) mass += candidates_[keep++].probability;
  candidates_.resize(std::max<size_t>(1, keep));
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return more_likely(a.logit, a.token, b.logit, b.token);
  });
}

void Sampler::keep_top_p() {
  softmax(1);
  double mass = 0;
  size_t keep = 0;
  while (keep < candidates_.size() && mass < options_.top_p) mass += candidates_[keep++].probability;
  candidates_.resize(std::max<size_t>(1, keep));
}

void Sampler::keep_min_p() {
  softmax(1);
  const float floor = candidates_.front().probability * options_.min_p;
  size_t keep = 1;
  while (keep < candidates_.size() && candidates_[keep].probability >= floor) ++keep;
  candidates_.resize(keep);
}

int32_t Sampler::draw() {
  softmax(options_.temperature);
  double point = random_.uniform();
  for (const Candidate& c : candidates_) {
    point -= c.probability;
    if (point < 0) return c.token;
  }
  return candidates_.back().token;
}

int32_t Sampler::narrow_and_draw() {
  if (options_.typical_p < 1) keep_typical();
  if (options_.top_p < 1) keep_top_p();
  if (options_.min_p > 0) keep_min_p();
  return draw();
}

// Whether a token that `top` does not name could overtake those it names.
bool Sampler::may_raise_others(const TopLogits& top) const {
  const auto named = [&](int32_t token) { return std::ranges::find(top.ids, token) != top.ids.end(); };
  for (const auto& [token, bias] : options_.logit_bias)
    if (bias > 0 && !named(token)) return true;
  if (!penalises()) return false;
  for (const auto& [token, count] : counts_) {
    if (token < 0 || token >= top.vocabulary) continue;
    const bool raises = options_.repetition_penalty < 1 ||
                        options_.presence_penalty + options_.frequency_penalty * float(count) < 0;
    if (raises && !named(token)) return true;
  }
  return false;
}

// The named tokens after bias and penalties, most likely first.
void Sampler::collect_top(const TopLogits& top) {
  candidates_.clear();
  for (size_t i = 0; i < top.ids.size(); ++i) {
    Candidate c{top.ids[i], top.logits[i], 0};
    for (const auto& [token, bias] : options_.logit_bias)
      if (token == c.token) c.logit += bias;
    if (penalises())
      if (const auto found = counts_.find(c.token); found != counts_.end())
        c.logit = penalised(c.logit, found->second);
    candidates_.push_back(c);
  }
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return more_likely(a.logit, a.token, b.logit, b.token);
  });
}

// Whether the first `count` candidates are those of all tokens. The others come after the last of `top`, as
// it was before bias and penalties.
bool Sampler::suffices(const TopLogits& top, size_t count) const {
  if (top.ids.size() == size_t(top.vocabulary)) return true;
  if (count > candidates_.size()) return false;
  const Candidate& last = candidates_[count - 1];
  return !more_likely(top.logits.back(), top.ids.back(), last.logit, last.token);
}

bool Sampler::takes_top(int32_t count) const {
  const bool raises =
      options_.repetition_penalty < 1 || options_.presence_penalty < 0 || options_.frequency_penalty < 0;
  const bool ranked = options_.temperature <= 0 || (options_.top_k > 0 && options_.top_k <= count);
  return options_.logit_bias.empty() && options_.logprobs <= count && !raises && ranked;
}

std::optional<Sampled> Sampler::sample_top(const TopLogits& top) {
  if (top.ids.empty() || may_raise_others(top)) return std::nullopt;
  if (size_t(options_.logprobs) > top.ids.size()) return std::nullopt;
  collect_top(top);
  Sampled result;
  if (options_.temperature <= 0) {
    if (!suffices(top, 1)) return std::nullopt;
    result.token = candidates_.front().token;
  } else {
    const size_t all = size_t(top.vocabulary);
    const size_t limit = options_.top_k > 0 ? std::min(size_t(options_.top_k), all) : all;
    const bool few = limit <= 256 && limit < all;  // collect() then takes them whatever their distance
    const float floor = candidates_.front().logit - 40 * std::max(1.0f, options_.temperature);
    const bool reached = suffices(top, 1) && (top.logits.back() < floor || top.ids.size() == all);
    if (!suffices(top, limit) && (few || !reached)) return std::nullopt;
    if (!few) std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < floor; });
    if (candidates_.size() > limit) candidates_.resize(limit);
    result.token = narrow_and_draw();
  }
  if (options_.logprobs > 0) {
    const double log_sum = top.largest + std::log(double(top.sum));
    for (size_t i = 0; i < size_t(options_.logprobs); ++i)
      result.alternatives.push_back({top.ids[i], float(top.logits[i] - log_sum)});
    const auto chosen = std::ranges::find(top.ids, result.token) - top.ids.begin();
    result.logprob = float(top.logits[size_t(chosen)] - log_sum);
  }
  return result;
}

Sampled Sampler::sample(std::span<float> logits) {
  Sampled result;
  std::vector<float> raw;
  if (options_.logprobs > 0) {
    raw.assign(logits.begin(), logits.end());
    report_logprobs(raw, options_.logprobs, result);
  }
  apply_bias_and_penalties(logits);
  if (options_.temperature <= 0) {
    result.token = argmax(logits);
  } else {
    collect(logits);
    result.token = narrow_and_draw();
  }
  if (options_.logprobs > 0) result.logprob += raw[size_t(result.token)];
  return result;
}

}  // namespace dw
