#include "engine/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

namespace dw {
namespace {

// File of stored predictions: header, then per scored token its id and `vocabulary` fp32 log-probabilities.
struct Header {
  char magic[8] = {'D', 'W', 'L', 'O', 'G', 'P', '1', '\0'};
  int32_t vocabulary = 0, window = 0, skip = 0, reserved = 0;
};

struct Stream {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file{nullptr, &std::fclose};
  std::string path;

  Expected<void> open(const std::string& name, const char* mode) {
    path = name;
    file.reset(std::fopen(name.c_str(), mode));
    if (file == nullptr) return make_error("cannot open ", name, ": ", std::strerror(errno));
    return {};
  }
  Expected<void> write(const void* data, size_t bytes) {
    if (std::fwrite(data, 1, bytes, file.get()) == bytes) return {};
    return make_error("cannot write ", path, ": ", std::strerror(errno));
  }
  Expected<void> read(void* data, size_t bytes) {
    if (std::fread(data, 1, bytes, file.get()) == bytes) return {};
    return make_error(path, " ends early: it holds the predictions for a shorter text");
  }
};

class Scorer {
 public:
  Scorer(Engine& engine, const EvaluateOptions& options, Evaluation& result)
      : engine_(engine),
        options_(options),
        result_(result),
        vocabulary_(engine.model().hyper_parameters().vocabulary),
        log_p_(size_t(vocabulary_)),
        base_(size_t(vocabulary_)) {}

  Expected<void> open_files() {
    Header header;
    header.vocabulary = vocabulary_;
    header.window = options_.window;
    header.skip = options_.skip;
    if (!options_.save_path.empty()) {
      if (auto opened = save_.open(options_.save_path, "wb"); !opened) return opened;
      if (auto written = save_.write(&header, sizeof header); !written) return written;
    }
    if (options_.base_path.empty()) return {};
    if (auto opened = base_file_.open(options_.base_path, "rb"); !opened) return opened;
    Header stored;
    if (auto got = base_file_.read(&stored, sizeof stored); !got) return got;
    if (std::memcmp(stored.magic, header.magic, sizeof header.magic) != 0)
      return make_error(options_.base_path, " is not a file of stored predictions");
    if (stored.vocabulary != header.vocabulary || stored.window != header.window ||
        stored.skip != header.skip)
      return make_error(options_.base_path, " was made with a vocabulary of ", stored.vocabulary, ", window ",
                        stored.window, ", skip ", stored.skip, "; this run has ", header.vocabulary, ", ",
                        header.window, ", ", header.skip);
    result_.compared = true;
    return {};
  }

  // logits predict `target`.
  void score(std::span<const float> logits, int32_t target) {
    if (error_) return;
    const float top = logits[size_t(argmax(logits))];
    double sum = 0;
    for (float logit : logits) sum += std::exp(logit - top);
    const float log_sum = top + float(std::log(sum));
    for (size_t i = 0; i < logits.size(); ++i) log_p_[i] = logits[i] - log_sum;
    const double nll = -double(log_p_[size_t(target)]);
    sum_ += nll;
    sum_of_squares_ += nll * nll;
    ++result_.tokens;
    result_.bytes += int64_t(engine_.tokenizer().token_bytes(target).size());
    const int32_t best = argmax(logits);
    hits_ += best == target;
    if (save_.file != nullptr) keep(write_row(target));
    if (base_file_.file != nullptr) keep(compare_row(target, best));
  }

  const std::optional<Error>& error() const { return error_; }
  double mean() const { return result_.tokens > 0 ? sum_ / double(result_.tokens) : 0; }

  Expected<void> finish() {
    if (error_) return *error_;
    const double n = double(result_.tokens);
    result_.nll = sum_ / n;
    const double variance = n > 1 ? (sum_of_squares_ - n * result_.nll * result_.nll) / (n - 1) : 0;
    result_.nll_error = std::sqrt(std::max(0.0, variance) / n);
    result_.top1 = double(hits_) / n;
    if (save_.file != nullptr && std::fflush(save_.file.get()) != 0)
      return make_error("cannot write ", save_.path, ": ", std::strerror(errno));
    if (result_.compared && !kl_.empty()) {
      std::sort(kl_.begin(), kl_.end());
      for (double kl : kl_) result_.kl_mean += kl / n;
      result_.kl_median = kl_[kl_.size() / 2];
      result_.kl_p99 = kl_[kl_.size() * 99 / 100];
      result_.kl_max = kl_.back();
      result_.same_top1 = double(agreements_) / n;
      result_.base_nll = base_sum_ / n;
    }
    return {};
  }

 private:
  void keep(Expected<void> outcome) {
    if (!outcome && !error_) error_ = outcome.error();
  }
  Expected<void> write_row(int32_t target) {
    if (auto written = save_.write(&target, sizeof target); !written) return written;
    return save_.write(log_p_.data(), log_p_.size() * sizeof(float));
  }
  Expected<void> compare_row(int32_t target, int32_t best) {
    int32_t stored_target = -1;
    if (auto got = base_file_.read(&stored_target, sizeof stored_target); !got) return got;
    if (stored_target != target)
      return make_error(base_file_.path, " holds the predictions for another text");
    if (auto got = base_file_.read(base_.data(), base_.size() * sizeof(float)); !got) return got;
    double kl = 0;
    for (size_t i = 0; i < base_.size(); ++i)
      kl += std::exp(double(base_[i])) * (double(base_[i]) - log_p_[i]);
    kl_.push_back(std::max(0.0, kl));
    agreements_ += argmax(base_) == best;
    base_sum_ -= base_[size_t(target)];
    return {};
  }

  Engine& engine_;
  const EvaluateOptions& options_;
  Evaluation& result_;
  int32_t vocabulary_;
  std::vector<float> log_p_, base_;
  std::vector<double> kl_;
  Stream save_, base_file_;
  std::optional<Error> error_;
  double sum_ = 0, sum_of_squares_ = 0, base_sum_ = 0;
  int64_t hits_ = 0, agreements_ = 0;
};

}  // namespace

double Evaluation::perplexity() const {
  return std::exp(nll);
}
double Evaluation::bits_per_byte() const {
  return bytes > 0 ? nll * double(tokens) / double(bytes) / std::log(2.0) : 0;
}

Expected<Evaluation> evaluate(Engine& engine, SessionId session, const std::vector<int32_t>& tokens,
                              const EvaluateOptions& options) {
  if (options.window < 2 || options.window > engine.context_tokens())
    return make_error("the window is ", options.window, " tokens; it must lie between 2 and the context, ",
                      engine.context_tokens());
  if (options.skip < 1 || options.skip >= options.window)
    return make_error("skip is ", options.skip, "; it must lie between 1 and ", options.window - 1);
  const int64_t total = options.max_tokens >= 0
                            ? std::min<int64_t>(options.max_tokens, int64_t(tokens.size()))
                            : int64_t(tokens.size());
  if (total < options.skip + 1)
    return make_error("the text has ", total, " tokens; at least ", options.skip + 1, " are needed");

  Evaluation result;
  Scorer scorer(engine, options, result);
  if (auto opened = scorer.open_files(); !opened) return opened.error();
  const auto start = std::chrono::steady_clock::now();
  for (int64_t first = 0; first + options.skip < total; first += options.window) {
    const int64_t count = std::min<int64_t>(options.window, total - first);
    const std::vector<int32_t> window(tokens.begin() + first, tokens.begin() + first + count);
    engine.clear(session);
    if (auto set = engine.set_prompt(session, window); !set) return set.error();
    auto scoring = engine.score(session, [&](int32_t index, std::span<const float> logits) {
      if (index + 1 < count && index + 1 >= options.skip) scorer.score(logits, window[size_t(index) + 1]);
    });
    if (!scoring) return scoring.error();
    if (auto done = engine.run(); !done) return done.error();
    if (scorer.error()) return *scorer.error();
    if (options.progress) options.progress(first + count, total, std::exp(scorer.mean()));
  }
  if (auto finished = scorer.finish(); !finished) return finished.error();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace dw
