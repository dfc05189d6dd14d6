// `deltawing bench --kernels`: a test under a trace of the GPU's kernels.
#include <cstdio>

#include "backend/gpu_device.h"
#include "bench.h"
#include "profile/capture/cupti.h"

namespace dw {
namespace {

std::vector<profile::Annotation> annotations(const std::vector<WorkRecord>& records) {
  std::vector<profile::Annotation> notes;
  for (const WorkRecord& r : records)
    notes.push_back({r.work.op, r.kernel, r.layer, r.work.bytes, r.work.operations});
  return notes;
}

// A column that does not apply is empty.
std::string number(double value, int digits, const char* unit = "") {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f%s", digits, value, unit);
  return value > 0 ? text : "";
}

void print_row(const profile::KernelRow& row, const std::string& name, const KernelReport& report,
               double bandwidth) {
  const double gigabytes = row.gigabytes_per_second();
  std::printf("| %s | %.2f | %.2f | %.1f %% | %s | %s | %s | %.2f |\n", name.c_str(),
              double(row.launches) / report.tokens, double(row.time_ns) / 1e3 / report.tokens,
              100 * double(row.time_ns) / double(report.table.span_ns), number(gigabytes, 1).c_str(),
              number(bandwidth > 0 ? 100e9 * gigabytes / bandwidth : 0, 0, " %").c_str(),
              number(row.teraflops(), 2).c_str(), double(row.gap_ns) / 1e3 / report.tokens);
}

void print_head(const KernelReport& report) {
  const profile::KernelTable& t = report.table;
  const double tokens = report.tokens * 1e3;
  std::printf("\n%s, kernels by %s, %d tokens. A token: %.1f launches, %.1f us busy, %.1f us idle",
              report.test.c_str(), report.source.c_str(), report.tokens,
              double(t.kernel_count) / report.tokens, double(t.busy_ns) / tokens, double(t.idle_ns) / tokens);
  std::printf(" (%.1f us of it inside graphs).\n%.1f us a token by the clock, %.1f us without the trace.\n",
              double(t.graph_idle_ns) / tokens, 1e6 * report.traced_seconds / report.tokens,
              1e6 * report.untraced_seconds / report.tokens);
  if (report.dropped > 0)
    std::printf("The trace is incomplete: %llu records were lost.\n",
                static_cast<unsigned long long>(report.dropped));
  if (t.unknown_kernels > 0 || t.missing_kernels > 0)
    std::printf("%lld kernels belong to no known launch, %lld launches have no kernel in the trace.\n",
                static_cast<long long>(t.unknown_kernels), static_cast<long long>(t.missing_kernels));
}

}  // namespace

Expected<void> check_kernel_bench(const std::string& device) {
  const std::string backend = gpu_backend_name();
  if (device == "cpu" || device == "reference")
    return make_error("--kernels traces a GPU's kernels, and the device '", device, "' has none");
  if (backend.empty())
    return make_error("--kernels traces a GPU's kernels, and this build has no GPU backend");
  if (backend != "cuda")
    return make_error("--kernels needs CUPTI, which NVIDIA GPUs have; the backend of this build is ",
                      backend);
  if (auto gpus = list_gpus(); !gpus)
    return make_error("--kernels traces a GPU's kernels, but ", gpus.error().message);
  return {};
}

Expected<KernelReport> run_kernel_test(Engine& engine, std::span<const SessionId> sessions,
                                       const BenchTest& test, const BenchRow& row) {
  Device& device = engine.device();
  if (device.name() != gpu_backend_name())
    return make_error("--kernels traces a GPU's kernels, and the model lies on the device '", device.name(),
                      "'");
  auto run = BenchRun::prepare(engine, sessions, test);
  if (!run) return run.error();
  device.synchronize();
  auto trace = profile::KernelTrace::start();
  if (!trace) return trace.error();
  Expected<void> began;
  const auto begin = [&] {  // what came before is not of the test
    device.synchronize();
    if (auto earlier = (*trace)->take(); !earlier) began = earlier.error();
    device.start_work_log();
  };
  KernelReport report;
  for (int i = 0; i < 2; ++i) {  // the first is a warm-up
    auto seconds = run->once(uint64_t(200 + i), begin);
    device.synchronize();
    if (!began) return began.error();
    if (!seconds) return seconds.error();
    report.traced_seconds = *seconds;
  }
  const std::vector<WorkRecord> records = device.take_work_log();
  auto events = (*trace)->stop();
  if (!events) return events.error();
  if (events->empty())
    return make_error((*trace)->source(), " recorded no kernel; another profiler may hold it");
  report.test = test.name();
  report.source = (*trace)->source();
  report.tokens = int32_t(test.all_tokens());
  report.untraced_seconds = double(test.all_tokens()) / row.tokens_per_second;
  report.dropped = (*trace)->dropped_count();
  report.table = profile::make_kernel_table(*events, annotations(records));
  return report;
}

void print_kernels_md(const KernelReport& report, double bandwidth) {
  print_head(report);
  std::printf(
      "\n| op, kernel | launches/token | us/token | share | GB/s | of bandwidth | TFLOPS | idle before, "
      "us/token |"
      "\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
  for (const profile::OpRow& op : report.table.ops) {
    print_row(op.total, op.total.name, report, bandwidth);
    for (const profile::KernelRow& kernel : op.kernels)
      print_row(kernel, "- `" + kernel.name + "`", report, bandwidth);
  }
  std::printf("| idle | | %.2f | %.1f %% | | | | |\n", double(report.table.idle_ns) / 1e3 / report.tokens,
              100 * double(report.table.idle_ns) / double(report.table.span_ns));
  print_row(report.table.total, "total busy", report, bandwidth);
}

void print_kernels_csv(const std::vector<KernelReport>& reports, double bandwidth) {
  std::puts(
      "test,op,kernel,launches_per_token,us_per_token,share,gigabytes_per_second,bandwidth_share,teraflops,"
      "idle_before_us_per_token");
  for (const KernelReport& report : reports) {
    const auto print = [&](const std::string& op, const std::string& name, const profile::KernelRow& row) {
      const double gigabytes = row.gigabytes_per_second();
      std::printf("%s,\"%s\",\"%s\",%.4f,%.4f,%.6f,%.4f,%.4f,%.5f,%.4f\n", report.test.c_str(), op.c_str(),
                  name.c_str(), double(row.launches) / report.tokens,
                  double(row.time_ns) / 1e3 / report.tokens,
                  double(row.time_ns) / double(report.table.span_ns), gigabytes,
                  bandwidth > 0 ? gigabytes * 1e9 / bandwidth : 0, row.teraflops(),
                  double(row.gap_ns) / 1e3 / report.tokens);
    };
    for (const profile::OpRow& op : report.table.ops) {
      print(op.total.name, "", op.total);
      for (const profile::KernelRow& kernel : op.kernels) print(op.total.name, kernel.name, kernel);
    }
    profile::KernelRow idle;
    idle.time_ns = report.table.idle_ns;
    print("(idle)", "", idle);
  }
}

}  // namespace dw
