// How well a model predicts a text: perplexity, bits per byte, top-1 accuracy; and how far its predictions
// are from those another run stored (Kullback-Leibler divergence), which judges quantisation and cache types.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace dw {

struct EvaluateOptions {
  int32_t window = 1024;    // tokens; the text is cut into windows, each scored from an empty state
  int32_t skip = 1;         // tokens at the start of a window that are not scored (they lack context), >= 1
  int64_t max_tokens = -1;  // of the text; -1: all
  std::string save_path;    // writes the log-probabilities of every scored token here
  std::string base_path;    // compares with log-probabilities written before
  std::function<void(int64_t done, int64_t total, double perplexity)> progress;
};

struct Evaluation {
  int64_t tokens = 0;    // scored
  int64_t bytes = 0;     // of the scored tokens
  double nll = 0;        // mean, natural logarithm, per token
  double nll_error = 0;  // standard error of the mean
  double top1 = 0;       // share of tokens that were the most likely one
  double seconds = 0;
  // Against a stored run (base_path).
  bool compared = false;
  double kl_mean = 0, kl_median = 0, kl_p99 = 0, kl_max = 0;
  double same_top1 = 0;  // share of positions with the same most likely token
  double base_nll = 0;

  double perplexity() const;
  double bits_per_byte() const;
};

// The session must be free. Errors: text shorter than two tokens, window larger than the context, a stored
// file of another text or vocabulary, I/O.
Expected<Evaluation> evaluate(Engine& engine, SessionId session, const std::vector<int32_t>& tokens,
                              const EvaluateOptions& options);

}  // namespace dw
