// What the parts of `deltawing bench` share.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "json_output.h"

namespace dw {

struct BenchTest {
  bool prefill;
  int32_t tokens, depth;     // of each sequence
  int32_t sequences = 1;     // side by side
  std::string name() const;  // "pp512", "tg128 @ d4096", "tg128 x16"
  int64_t all_tokens() const { return int64_t(tokens) * sequences; }
};

// Sessions at the depth of a test, to run the test on again and again.
class BenchRun {
 public:
  // sessions: at least test.sequences
  static Expected<BenchRun> prepare(Engine& engine, std::span<const SessionId> sessions,
                                    const BenchTest& test);
  // Seconds of one repetition; `begin` is called in front of what is measured.
  Expected<double> once(uint64_t seed, const std::function<void()>& begin = {});

 private:
  Expected<void> set_prompt(size_t index, uint64_t seed);
  Expected<void> start_generating();

  Engine* engine_ = nullptr;
  std::vector<SessionId> sessions_;
  BenchTest test_ = {};
  std::vector<int32_t> start_;  // the first tokens of every sequence
  std::vector<Engine::Snapshot> at_depth_;
};

// Runs the test under a trace of the GPU's kernels (bench_kernels.cpp); row: the same test without a trace.
// Errors: no GPU, no library to trace with, records lost.
Expected<KernelReport> run_kernel_test(Engine& engine, std::span<const SessionId> sessions,
                                       const BenchTest& test, const BenchRow& row);
// Whether run_kernel_test can work here at all: an error in one sentence if not.
Expected<void> check_kernel_bench(const std::string& device);

void print_kernels_md(const KernelReport& report, double bandwidth);
void print_kernels_csv(const std::vector<KernelReport>& reports, double bandwidth);

}  // namespace dw
