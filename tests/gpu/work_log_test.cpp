// The device's log of work, and its pairing with what CUPTI records: launches of their own and replayed
// passes.
#include "gpu/support.h"
#include "profile/analysis/kernel_table.h"
#include "profile/capture/cupti.h"

namespace dw {
namespace {

using test::gpu;

constexpr int64_t kColumns = 2048;

// A pass of one token: per layer a norm, then rows packed.
class Pass {
 public:
  explicit Pass(int32_t layers) : layers_(layers) {
    const ops::Span span{0, 0, 1, 0, nullptr};
    spans_.push_back(span);
  }
  void run(uint64_t key) {
    gpu()->begin_batch({{}, spans_, {}, 1});
    gpu()->run_pass(key, [&] {
      ++issued;
      for (int32_t layer = 0; layer < layers_; ++layer) {
        gpu()->begin_layer(layer);
        gpu()->norm({x_.data(), nullptr, weight_.data(), 1e-6f, out_.view});
        gpu()->pack(x_.data(), out_.view);
      }
      gpu()->begin_layer(-1);
    });
  }
  int issued = 0;

 private:
  int32_t layers_;
  std::vector<ops::Span> spans_;
  test::OnGpu<float> x_{std::vector<float>(kColumns, 1.5f)}, weight_{std::vector<float>(kColumns, 2.0f)};
  test::CheckedActivations out_{1, kColumns};
};

void expect_layers(const std::vector<WorkRecord>& log, int32_t layers, int32_t passes) {
  ASSERT_EQ(log.size(), size_t(2 * layers * passes));
  for (size_t i = 0; i < log.size(); ++i) {
    EXPECT_EQ(log[i].layer, int32_t(i / 2) % layers);
    EXPECT_STREQ(log[i].kernel, i % 2 == 0 ? "norm_kernel" : "pack_kernel");
    EXPECT_STREQ(log[i].work.op, i % 2 == 0 ? "norm" : "pack");
    EXPECT_GT(log[i].work.bytes, double(kColumns) * 8);
  }
}

TEST(GpuWorkLog, HasWhatWasIssuedBetweenTheCalls) {
  Pass pass(5);
  pass.run(1);  // the pass is kept before anybody asks for a log
  EXPECT_TRUE(gpu()->take_work_log().empty());
  gpu()->start_work_log();
  for (int i = 0; i < 3; ++i) pass.run(1);
  expect_layers(gpu()->take_work_log(), 5, 3);
  EXPECT_EQ(pass.issued, 1) << "a log must not change how passes run";
  pass.run(1);
  EXPECT_TRUE(gpu()->take_work_log().empty());
  Pass other(7);
  gpu()->start_work_log();  // the pass is captured while the log runs
  other.run(2);
  other.run(2);
  expect_layers(gpu()->take_work_log(), 7, 2);
}

TEST(GpuWorkLog, PairsWithTheTrace) {
  auto trace = profile::KernelTrace::start();
  ASSERT_TRUE(trace) << trace.error().message;
  Pass pass(30);
  pass.run(3);
  gpu()->synchronize();
  ASSERT_TRUE((*trace)->take());
  gpu()->start_work_log();
  for (int i = 0; i < 10; ++i) pass.run(3);
  gpu()->synchronize();
  std::vector<profile::Annotation> notes;
  for (const WorkRecord& r : gpu()->take_work_log())
    notes.push_back({r.work.op, r.kernel, r.layer, r.work.bytes, r.work.operations});
  const auto events = (*trace)->stop();
  ASSERT_TRUE(events);
  EXPECT_EQ((*trace)->dropped_count(), 0u);
  const profile::KernelTable table = profile::make_kernel_table(*events, notes);
  EXPECT_EQ(table.kernel_count, 600);
  EXPECT_EQ(table.unknown_kernels, 0);
  EXPECT_EQ(table.missing_kernels, 0);
  EXPECT_EQ(table.busy_ns + table.idle_ns, table.span_ns);
  for (const profile::OpRow& op : table.ops)
    std::printf("%-8s %4lld launches, %8.2f us, %6.2f GB/s, idle before %8.2f us\n", op.total.name.c_str(),
                static_cast<long long>(op.total.launches), double(op.total.time_ns) / 1e3,
                op.total.gigabytes_per_second(), double(op.total.gap_ns) / 1e3);
}

}  // namespace
}  // namespace dw
