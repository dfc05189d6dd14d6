#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>

#include "base/random.h"
#include "base/units.h"
#include "bench.h"
#include "commands.h"
#include "console.h"
#include "flags.h"
#include "json_output.h"
#include "model/work.h"

namespace dw {
namespace {

struct BenchFlags {
  ModelFlags model;
  std::vector<int32_t> prompts{512}, generations{128}, depths{0}, sequences{1};
  int32_t repetitions = 5;
  std::string format = "md";
  bool kernels = false;
};

std::vector<int32_t> random_tokens(int64_t count, int32_t vocabulary, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(int32_t(random.below(vocabulary)));
  return tokens;
}

// Bytes and operations of one repetition.
PassWork test_work(const Engine& engine, const BenchTest& test) {
  const Model& model = engine.model();
  const auto kv = engine.options().kv_type;
  PassWork total;
  auto add = [&](int64_t rows, int64_t sequences, int64_t depth, int64_t logits) {
    const PassWork w =
        pass_work(model.hyper_parameters(), model.weights(), kv, rows, sequences, depth, logits);
    total.weight_bytes += w.weight_bytes;
    total.state_bytes += w.state_bytes;
    total.kv_bytes += w.kv_bytes;
    total.operations += w.operations;
  };
  if (test.prefill) {  // one sequence after another
    const int64_t step = model.options().max_batch_tokens;
    for (int32_t s = 0; s < test.sequences; ++s) {
      for (int64_t done = 0; done < test.tokens; done += step)
        add(std::min(step, test.tokens - done), 1, test.depth + done, done + step >= test.tokens ? 1 : 0);
    }
  } else {
    for (int64_t i = 0; i < test.tokens; ++i)
      add(test.sequences, test.sequences, test.depth + i, test.sequences);
  }
  return total;
}

Expected<BenchRow> run_test(Engine& engine, std::span<const SessionId> sessions, const BenchTest& test,
                            const BenchFlags& flags, double bandwidth) {
  auto run = BenchRun::prepare(engine, sessions, test);
  if (!run) return run.error();
  const PassWork work = test_work(engine, test);
  std::vector<double> rates;
  double seconds_sum = 0;
  for (int i = -1; i < flags.repetitions; ++i) {  // the first is a warm-up
    auto seconds = run->once(uint64_t(100 + i));
    if (!seconds) return seconds.error();
    if (i < 0) continue;
    rates.push_back(double(test.all_tokens()) / *seconds);
    seconds_sum += *seconds;
  }
  BenchRow row;
  row.test = test.name();
  row.repetitions = flags.repetitions;
  for (double rate : rates) row.tokens_per_second += rate / double(rates.size());
  for (double rate : rates) row.deviation += (rate - row.tokens_per_second) * (rate - row.tokens_per_second);
  row.deviation = rates.size() > 1 ? std::sqrt(row.deviation / double(rates.size() - 1)) : 0;
  const double mean_seconds = seconds_sum / double(rates.size());
  row.gigabytes_per_second = work.bytes() / mean_seconds / 1e9;
  row.bandwidth_share = bandwidth > 0 ? work.bytes() / mean_seconds / bandwidth : 0;
  row.gigaflops = work.operations / mean_seconds / 1e9;
  return row;
}

std::string type_summary(const gguf::File& file) {
  std::map<std::string_view, uint64_t> bytes;
  for (const auto& tensor : file.tensors()) bytes[quant::type_info(tensor.type).name] += tensor.size_bytes;
  std::vector<std::pair<uint64_t, std::string_view>> order;
  for (const auto& [name, size] : bytes) order.emplace_back(size, name);
  std::sort(order.rbegin(), order.rend());
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(3, order.size()); ++i)
    text += (i > 0 ? " + " : "") + std::string(order[i].second);
  return text;
}

void print_md(const BenchReport& report) {
  std::printf("%s, %s, %s\n%s; memory reads at %.1f GB/s\n\n", report.model.c_str(), report.types.c_str(),
              format_bytes(uint64_t(report.parameter_bytes)).c_str(), report.device.c_str(),
              report.read_bandwidth / 1e9);
  std::printf(
      "| test | t/s | +- | GB/s | of bandwidth | GFLOP/s |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
  for (const BenchRow& r : report.rows)
    std::printf("| %s | %.2f | %.2f | %.1f | %.0f %% | %.1f |\n", r.test.c_str(), r.tokens_per_second,
                r.deviation, r.gigabytes_per_second, 100 * r.bandwidth_share, r.gigaflops);
  for (const KernelReport& kernels : report.kernels) print_kernels_md(kernels, report.read_bandwidth);
}

void print_csv(const BenchReport& report) {
  std::printf(
      "model,types,device,test,repetitions,tokens_per_second,deviation,gigabytes_per_second,bandwidth_share,"
      "gigaflops\n");
  for (const BenchRow& r : report.rows)
    std::printf("\"%s\",\"%s\",\"%s\",%s,%d,%.4f,%.4f,%.4f,%.4f,%.4f\n", report.model.c_str(),
                report.types.c_str(), report.device.c_str(), r.test.c_str(), r.repetitions,
                r.tokens_per_second, r.deviation, r.gigabytes_per_second, r.bandwidth_share, r.gigaflops);
}

Expected<void> bench(const BenchFlags& flags) {
  std::vector<BenchTest> tests;
  int32_t longest = 0;
  for (int32_t depth : flags.depths) {
    for (int32_t sequences : flags.sequences) {
      for (int32_t n : flags.prompts)
        if (n > 0) tests.push_back({true, n, depth, sequences});
      for (int32_t n : flags.generations)
        if (n > 0) tests.push_back({false, n, depth, sequences});
    }
  }
  for (const BenchTest& test : tests) longest = std::max(longest, test.tokens + test.depth + 3);
  if (tests.empty()) return make_error("there is nothing to measure: give -pp, -tg or both");
  auto options = flags.model.options();
  if (!options) return options.error();
  if (flags.kernels)
    if (auto possible = check_kernel_bench(options->device); !possible) return possible.error();
  options->context_tokens = longest;
  options->checkpoints = 0;
  options->max_sessions =
      std::max(options->max_sessions, *std::max_element(flags.sequences.begin(), flags.sequences.end()));
  auto engine = create_engine(*options);
  if (!engine) return engine.error();
  std::vector<SessionId> sessions;
  for (int32_t i = 0; i < options->max_sessions; ++i) {
    auto session = (*engine)->open_session();
    if (!session) return session.error();
    sessions.push_back(*session);
  }

  BenchReport report;
  auto name = (*engine)->file().get_string("general.name");
  report.model = name && name->has_value() ? **name : flags.model.model;
  report.types = type_summary((*engine)->file());
  report.device = (*engine)->device().description();
  for (const auto& tensor : (*engine)->file().tensors()) report.parameter_bytes += double(tensor.size_bytes);
  report.read_bandwidth = (*engine)->device().measure_bandwidth();
  InterruptGuard guard;
  for (const BenchTest& test : tests) {
    if (!stdout_is_terminal() || flags.format != "md")
      std::fprintf(stderr, "bench: %s\n", test.name().c_str());
    auto row = run_test(**engine, sessions, test, flags, report.read_bandwidth);
    if (!row) return row.error();
    report.rows.push_back(*row);
    if (!flags.kernels) continue;
    auto kernels = run_kernel_test(**engine, sessions, test, *row);
    if (!kernels) return kernels.error();
    report.kernels.push_back(std::move(*kernels));
  }
  if (flags.format == "json")
    std::puts(bench_json(report).c_str());
  else if (flags.format == "csv" && flags.kernels)
    print_kernels_csv(report.kernels, report.read_bandwidth);
  else if (flags.format == "csv")
    print_csv(report);
  else
    print_md(report);
  return {};
}

}  // namespace

std::string BenchTest::name() const {
  std::string text = (prefill ? "pp" : "tg") + std::to_string(tokens);
  if (sequences > 1) text += " x" + std::to_string(sequences);
  return depth > 0 ? text + " @ d" + std::to_string(depth) : text;
}

Expected<BenchRun> BenchRun::prepare(Engine& engine, std::span<const SessionId> sessions,
                                     const BenchTest& test) {
  BenchRun run;
  run.engine_ = &engine;
  run.sessions_.assign(sessions.begin(), sessions.begin() + test.sequences);
  run.test_ = test;
  run.start_ = random_tokens(test.depth, engine.model().hyper_parameters().vocabulary, 1);
  if (test.depth == 0) return run;
  for (SessionId session : run.sessions_) {
    if (auto set = engine.set_prompt(session, run.start_); !set) return set.error();
    if (auto done = engine.run(); !done) return done.error();
    run.at_depth_.push_back(engine.snapshot(session));
  }
  return run;
}

Expected<void> BenchRun::set_prompt(size_t index, uint64_t seed) {
  const int32_t vocabulary = engine_->model().hyper_parameters().vocabulary;
  const SessionId session = sessions_[index];
  if (test_.depth > 0)
    if (auto back = engine_->restore(session, at_depth_[index]); !back) return back.error();
  std::vector<int32_t> tokens = start_;
  if (test_.prefill) {
    const auto more = random_tokens(test_.tokens, vocabulary, seed);
    tokens.insert(tokens.end(), more.begin(), more.end());
  } else if (tokens.empty()) {
    tokens = random_tokens(1, vocabulary, seed);
  }
  return engine_->set_prompt(session, tokens);
}

Expected<void> BenchRun::start_generating() {
  if (auto done = engine_->run(); !done) return done.error();  // the prompts
  GenerateOptions options;
  options.sampling.temperature = 0;
  options.max_tokens = test_.tokens + 1;  // the first token is drawn from the prompt's logits
  options.ignore_end = true;
  for (SessionId session : sessions_) {
    auto started =
        engine_->generate(session, options, [](const Generated&) { return !InterruptGuard::interrupted(); });
    if (!started) return started.error();
  }
  return {};
}

Expected<double> BenchRun::once(uint64_t seed, const std::function<void()>& begin) {
  for (size_t i = 0; i < sessions_.size(); ++i)
    if (auto set = set_prompt(i, seed + 1000 * i); !set) return set.error();
  if (!test_.prefill)
    if (auto started = start_generating(); !started) return started.error();
  if (begin) begin();
  const auto from = std::chrono::steady_clock::now();
  if (auto done = engine_->run(); !done) return done.error();
  if (InterruptGuard::interrupted()) return make_error("interrupted");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
}

void add_bench_command(CLI::App& app, int& exit_status) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command =
      app.add_subcommand("bench", "Measure prefill and decode: t/s, GB/s, share of memory bandwidth");
  command->footer(
      "Examples:\n"
      "  deltawing bench -m model.gguf -pp 512,2048 -tg 128\n"
      "  deltawing bench -m model.gguf -tg 64 -d 0,4096,32768 --format json\n"
      "  deltawing bench -m model.gguf -pp 0 -tg 64 --kernels\n"
      "  deltawing bench -m model.gguf -pp 0 -tg 64 --sequences 1,16,64");
  flags->model.add_to(*command);
  command->add_option("--prompt-lengths,--n-prompt", flags->prompts, "prompt lengths (-pp); 0: none")
      ->delimiter(',');
  command->add_option("-n,--gen-lengths,--n-gen", flags->generations, "tokens to generate (-tg); 0: none")
      ->delimiter(',');
  command->add_option("-d,--depths", flags->depths, "tokens in the context before the test")->delimiter(',');
  command
      ->add_option("--sequences", flags->sequences,
                   "sequences side by side, each with the test's tokens (-npl); t/s are of all together")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  command->add_option("-r,--repetitions", flags->repetitions, "repetitions of each test")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--kernels", flags->kernels,
                    "also trace the GPU's kernels: launches, time, GB/s and TFLOPS of each op and kernel");
  command->add_option("--format,-o", flags->format, "md, csv or json")
      ->check(CLI::IsMember({"md", "csv", "json"}))
      ->capture_default_str();
  command->add_flag("--json{json}", flags->format, "the same as --format json");
  command->callback([flags, &exit_status] {
    if (auto done = bench(*flags); !done) exit_status = report_error(done.error());
  });
}

}  // namespace dw
