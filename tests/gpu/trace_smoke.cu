// KernelTrace on a device: kernels launched one by one and by graphs, with and without programmatic dependent
// launch, copies and fills, bounds. Needs no kernel of the engine. Exit status: 0, 1 (a check failed), 77 (no
// GPU).
#include <cuda_runtime.h>

#include <chrono>
#include <cstdio>
#include <set>
#include <vector>

#include "profile/analysis/kernel_table.h"
#include "profile/capture/cupti.h"
#include "profile/names/short_name.h"

namespace dw::profile {
namespace {

int failures = 0;
#define CHECK(condition, ...)                               \
  do {                                                      \
    if (!(condition)) {                                     \
      ++failures;                                           \
      std::printf("FAILED %d: %s: ", __LINE__, #condition); \
      std::printf(__VA_ARGS__);                             \
      std::printf("\n");                                    \
    }                                                       \
  } while (0)

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::printf("FAILED: %s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

__device__ void spin(int64_t nanoseconds) {
  int64_t begin, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(begin));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - begin < nanoseconds);
}

// Half of the time may overlap with the kernel in front.
__device__ void work(int64_t nanoseconds, int* counter, bool even, int* errors) {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
  spin(nanoseconds / 2);
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
  spin(nanoseconds / 2);
  if (threadIdx.x == 0 && (*counter)++ % 2 != (even ? 0 : 1)) *errors = 1;  // out of order
}

__global__ void first_kernel(int64_t nanoseconds, int* counter, int* errors) {
  work(nanoseconds, counter, true, errors);
}

template <class T>
__global__ void second_kernel(int64_t nanoseconds, int* counter, int* errors) {
  __shared__ T scratch[64];
  if (threadIdx.x < 64) scratch[threadIdx.x] = T(nanoseconds);
  __syncthreads();
  work(int64_t(scratch[0]), counter, false, errors);
}

struct Device {
  cudaStream_t stream = nullptr;
  int* counter = nullptr;

  // Pairs of first_kernel and second_kernel.
  void issue(int pairs, int64_t nanoseconds, bool overlap) const {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = overlap ? 1 : 0;
    for (int i = 0; i < pairs; ++i) {
      config.blockDim = dim3(64);
      check_cuda(cudaLaunchKernelEx(&config, first_kernel, nanoseconds, counter, counter + 1), "launch");
      config.blockDim = dim3(96);
      config.dynamicSmemBytes = 1024;
      check_cuda(cudaLaunchKernelEx(&config, second_kernel<float>, nanoseconds, counter, counter + 1),
                 "launch");
      config.dynamicSmemBytes = 0;
    }
  }
  cudaGraphExec_t graph(int pairs, int64_t nanoseconds, bool overlap) const {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin");
    issue(pairs, nanoseconds, overlap);
    check_cuda(cudaStreamEndCapture(stream, &graph), "end");
    check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
    check_cuda(cudaGraphDestroy(graph), "destroy");
    return exec;
  }
  void wait() const { check_cuda(cudaStreamSynchronize(stream), "synchronise"); }
  // Microseconds a launch, of `rounds` launches.
  double time(cudaGraphExec_t exec, int rounds) const {
    double best = 1e300;
    for (int round = 0; round < 5; ++round) {
      wait();
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < rounds; ++i) check_cuda(cudaGraphLaunch(exec, stream), "graph");
      wait();
      const double us =
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
      best = us / rounds < best ? us / rounds : best;
    }
    return best;
  }
};

std::vector<Annotation> annotations(int pairs) {
  std::vector<Annotation> notes;
  for (int i = 0; i < pairs; ++i) {
    notes.push_back({"first", "first_kernel", i, 1000, 0});
    notes.push_back({"second", "second_kernel", i, 0, 1000});
  }
  return notes;
}

std::vector<KernelEvent> taken(KernelTrace& trace) {
  auto events = trace.take();
  CHECK(events.has_value(), "%s", events ? "" : events.error().message.c_str());
  return events ? *events : std::vector<KernelEvent>();
}

// Kernels that start before the one in front has ended.
int overlaps(const std::vector<KernelEvent>& events) {
  int count = 0;
  for (size_t i = 1; i < events.size(); ++i) count += events[i].start_ns < events[i - 1].end_ns ? 1 : 0;
  return count;
}

void check_events(const char* what, const std::vector<KernelEvent>& events, int pairs) {
  const auto notes = annotations(pairs);
  const KernelTable table = make_kernel_table(events, notes);
  CHECK(int(events.size()) == 2 * pairs, "%s: %zu events of %d", what, events.size(), 2 * pairs);
  CHECK(table.unknown_kernels == 0 && table.missing_kernels == 0, "%s: %lld alone, %lld missing", what,
        (long long)table.unknown_kernels, (long long)table.missing_kernels);
  std::printf("%-34s %5zu kernels, %4d overlap, span %9.1f us, busy %9.1f, idle %7.1f (in graphs %7.1f)\n",
              what, events.size(), overlaps(events), table.span_ns / 1e3, table.busy_ns / 1e3,
              table.idle_ns / 1e3, table.graph_idle_ns / 1e3);
}

void test_plain(Device& d, KernelTrace& trace) {
  int* host = nullptr;
  check_cuda(cudaMallocHost(&host, 4096), "allocate");
  check_cuda(cudaMemsetAsync(d.counter + 4, 1, 4096, d.stream), "fill");
  check_cuda(cudaMemcpyAsync(d.counter + 4, host, 2048, cudaMemcpyHostToDevice, d.stream), "copy");
  check_cuda(cudaMemcpyAsync(host, d.counter + 4, 1024, cudaMemcpyDeviceToHost, d.stream), "copy");
  d.wait();
  auto events = taken(trace);
  CHECK(events.size() == 3, "%zu events", events.size());
  for (const KernelEvent& e : events)
    std::printf("  %-22s %5lld bytes, %lld ns, stream %u\n", std::string(e.name).c_str(), (long long)e.bytes,
                (long long)(e.end_ns - e.start_ns), e.stream);
  if (events.size() == 3)
    CHECK(events[0].kind == EventKind::kFill && events[0].bytes == 4096 && events[1].bytes == 2048 &&
              events[1].name == "copy host to device" && events[2].name == "copy device to host",
          "copies and fill");
  check_cuda(cudaFreeHost(host), "free");

  d.issue(10, 20000, false);
  d.wait();
  events = taken(trace);
  check_events("one by one", events, 10);
  CHECK(overlaps(events) == 0, "kernels of one stream overlap");
  for (const KernelEvent& e : events) {
    const bool second = base_name(e.name) == "second_kernel";
    const double us = double(e.end_ns - e.start_ns) / 1e3;
    CHECK(us > 19.0 && us < 40.0, "%.1f us instead of 20", us);
    CHECK(e.grid[0] == 1 && e.block[0] == (second ? 96 : 64) && e.registers > 0, "shape");
    CHECK(e.shared_bytes >= (second ? 1024 + 256 : 0) && e.graph_node == 0, "%lld bytes",
          (long long)e.shared_bytes);
  }
  if (!events.empty()) std::printf("  %s\n", std::string(events.back().name).c_str());
  d.issue(10, 20000, true);
  d.wait();
  events = taken(trace);
  check_events("one by one, dependent launch", events, 10);
}

void test_graph(Device& d, KernelTrace& trace, cudaGraphExec_t exec, const char* what, bool must_be_seen) {
  constexpr int kPairs = 50, kRounds = 4;
  for (int i = 0; i < kRounds; ++i) check_cuda(cudaGraphLaunch(exec, d.stream), "graph");
  d.wait();
  const auto events = taken(trace);
  if (!must_be_seen && int(events.size()) != 2 * kPairs * kRounds) {
    std::printf("%-34s %5zu kernels of %d\n", what, events.size(), 2 * kPairs * kRounds);
    return;
  }
  check_events(what, events, kPairs * kRounds);
  std::set<uint32_t> correlations;
  std::set<uint64_t> nodes;
  for (const KernelEvent& e : events) {
    correlations.insert(e.correlation);
    nodes.insert(e.graph_node);
  }
  CHECK(correlations.size() == kRounds, "%zu correlations", correlations.size());
  CHECK(nodes.size() == 2 * kPairs && !nodes.count(0), "%zu nodes", nodes.size());
}

void test_bounds(Device& d) {
  TraceLimits limits;
  limits.most_events = 100;
  auto trace = KernelTrace::start(limits);
  CHECK(trace.has_value(), "%s", trace ? "" : trace.error().message.c_str());
  if (!trace) return;
  CHECK(!KernelTrace::start().has_value(), "two traces at once");
  d.issue(200, 1000, false);
  d.wait();
  const auto events = (*trace)->stop();
  CHECK(events && events->size() == 100 && (*trace)->dropped_count() == 300, "%zu kept, %llu dropped",
        events ? events->size() : 0, (unsigned long long)(*trace)->dropped_count());

  limits = {};
  limits.buffer_bytes = 64 << 10;
  limits.most_buffers = 1;
  auto small = KernelTrace::start(limits);
  CHECK(small.has_value(), "%s", small ? "" : small.error().message.c_str());
  if (!small) return;
  const cudaGraphExec_t exec = d.graph(500, 1000, false);
  for (int i = 0; i < 4; ++i) check_cuda(cudaGraphLaunch(exec, d.stream), "graph");
  d.wait();
  const auto few = (*small)->stop();
  const uint64_t dropped = (*small)->dropped_count();
  std::printf("one buffer of 64 KiB: %zu kept, %llu dropped, of 4000\n", few ? few->size() : 0,
              (unsigned long long)dropped);
  CHECK(few && few->size() + dropped == 4000, "records are lost in silence");
  check_cuda(cudaGraphExecDestroy(exec), "destroy");
}

int run() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::printf("no GPU\n");
    return 77;
  }
  Device d;
  check_cuda(cudaStreamCreateWithFlags(&d.stream, cudaStreamNonBlocking), "stream");
  check_cuda(cudaMalloc(&d.counter, 1 << 16), "allocate");
  check_cuda(cudaMemset(d.counter, 0, 1 << 16), "fill");
  const cudaGraphExec_t early = d.graph(50, 2000, false), early_overlap = d.graph(50, 2000, true);
  const double plain_us = d.time(early, 20), overlap_us = d.time(early_overlap, 20);

  auto trace = KernelTrace::start();
  if (!trace) {
    std::printf("FAILED: %s\n", trace.error().message.c_str());
    return 1;
  }
  std::printf("%s\n", (*trace)->source().c_str());
  test_plain(d, **trace);
  const cudaGraphExec_t late = d.graph(50, 2000, false), late_overlap = d.graph(50, 2000, true);
  test_graph(d, **trace, late, "graph", true);
  test_graph(d, **trace, late_overlap, "graph, dependent launch", true);
  test_graph(d, **trace, early, "graph made before", false);
  test_graph(d, **trace, early_overlap, "graph made before, dependent", false);
  const double traced_us[] = {d.time(early, 20), d.time(early_overlap, 20), d.time(late, 20),
                              d.time(late_overlap, 20)};
  (void)taken(**trace);
  CHECK((*trace)->dropped_count() == 0, "%llu dropped", (unsigned long long)(*trace)->dropped_count());
  CHECK((*trace)->stop().has_value(), "stop");
  std::printf("us a graph of 100 kernels of 2 us: %.1f, dependent %.1f\n", plain_us, overlap_us);
  std::printf("  traced: made before %.1f, %.1f; made under the trace %.1f, %.1f\n", traced_us[0],
              traced_us[1], traced_us[2], traced_us[3]);
  std::printf("  after the trace: made before %.1f, %.1f; made under the trace %.1f, %.1f\n",
              d.time(early, 20), d.time(early_overlap, 20), d.time(late, 20), d.time(late_overlap, 20));
  test_bounds(d);
  int errors[2] = {};
  check_cuda(cudaMemcpy(errors, d.counter, sizeof errors, cudaMemcpyDeviceToHost), "copy");
  CHECK(errors[1] == 0, "kernels ran out of order");
  std::printf("%s: %d kernels, %d checks failed\n", failures == 0 ? "ok" : "FAILED", errors[0], failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace dw::profile

int main() {
  return dw::profile::run();
}
