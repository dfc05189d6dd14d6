#include "backend/cpu_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "backend/host_memory.h"
#include "base/thread_pool.h"
#include "kernels/cpu/bandwidth.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/mixers.h"
#include "kernels/cpu/moe.h"

namespace dw {
namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  return "unknown processor";
}

class CpuDevice final : public Device {
 public:
  CpuDevice(int threads, CpuLevel level) : pool_(threads), context_{level, &pool_, &arena_} {}

  std::string name() const override { return "cpu"; }
  std::string description() const override {
    return processor_name() + ", " + std::string(cpu_level_name(context_.level)) + ", " +
           std::to_string(pool_.thread_count()) + (pool_.thread_count() == 1 ? " thread" : " threads");
  }
  MemoryInfo memory() const override { return host_memory_info(); }
  double measure_bandwidth() override { return cpu::measure_read_bandwidth(pool_); }

  Expected<Buffer> allocate(uint64_t size_bytes) override {
    if (size_bytes == 0) return Buffer(this, nullptr, 0);
    void* data = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return make_error("cannot allocate ", size_bytes, " bytes of memory");
    ::madvise(data, size_bytes, MADV_HUGEPAGE);
    return Buffer(this, data, size_bytes);
  }
  void free_memory(void* data, uint64_t size_bytes) override {
    if (data != nullptr) ::munmap(data, size_bytes);
  }
  void copy_to_device(void* to, const void* from, uint64_t n) override { std::memcpy(to, from, n); }
  void copy_to_host(void* to, const void* from, uint64_t n) override { std::memcpy(to, from, n); }
  void copy_on_device(void* to, const void* from, uint64_t n) override { std::memcpy(to, from, n); }
  void fill_zero(void* data, uint64_t n) override { std::memset(data, 0, n); }
  void synchronize() override {}

  Expected<ops::Matrix> import(const ops::Matrix& host) override { return host; }

  void reserve(const ops::Moe& largest) override { moe_workspace_.prepare(largest, pool_.thread_count()); }
  void expect_absent_experts() override {
    fetcher_ = std::make_unique<PageFetcher>();
    context_.fetcher = fetcher_.get();
  }

  void embed(const ops::Embed& op) override { cpu::embed(context_, op); }
  void norm(const ops::Norm& op) override { cpu::norm(context_, op); }
  void pack(const float* rows, const ops::Activations& out) override;
  void linear(const ops::Activations& x, std::span<const ops::Linear> outputs) override;
  void delta_mixer(const ops::DeltaMixer& op) override { cpu::delta_mixer(context_, op); }
  void attention(const ops::Attention& op) override { cpu::attention(context_, op); }
  void moe(const ops::Moe& op) override { cpu::moe(context_, op, moe_workspace_); }

 private:
  struct Task {
    size_t output;
    int64_t row_begin;
  };
  ThreadPool pool_;
  cpu::ScratchArena arena_;
  std::unique_ptr<PageFetcher> fetcher_;  // only where experts may be absent
  cpu::Context context_;
  cpu::MoeWorkspace moe_workspace_;
  std::vector<Task> tasks_;
};

void CpuDevice::pack(const float* rows, const ops::Activations& out) {
  pool_.parallel_for(out.tokens, [&](int64_t t, int) {
    const int64_t n = out.columns;
    std::memcpy(out.values + t * n, rows + t * n, size_t(n) * sizeof(float));
    if (out.quants == nullptr) return;
    cpu::quantize_activations(context_.level, rows + t * n, n, out.quants + t * n, out.scales + t * (n / 32),
                              out.sums + t * (n / 16));
  });
}

void CpuDevice::linear(const ops::Activations& x, std::span<const ops::Linear> outputs) {
  tasks_.clear();
  int64_t total_rows = 0;
  for (const ops::Linear& output : outputs) total_rows += output.weight.rows;
  const int64_t step = cpu::rows_per_task(total_rows, pool_.thread_count());
  for (size_t i = 0; i < outputs.size(); ++i)
    for (int64_t row = 0; row < outputs[i].weight.rows; row += step) tasks_.push_back({i, row});
  pool_.parallel_for(
      int64_t(tasks_.size()),
      [&](int64_t task, int) {
        const Task& t = tasks_[size_t(task)];
        const ops::Linear& output = outputs[t.output];
        cpu::MatmulCall call;
        call.weight = output.weight;
        call.x = x;
        call.token_count = x.tokens;
        call.out = output.out;
        call.out_stride = output.out_stride ? output.out_stride : output.weight.rows;
        call.add = output.add;
        if (x.tokens == 1 && t.row_begin + step >= output.weight.rows && t.output + 1 < outputs.size())
          call.next = outputs[t.output + 1].weight.data;
        cpu::matmul_rows(context_.level, call, t.row_begin, std::min(t.row_begin + step, output.weight.rows));
      },
      cpu::matrix_order(x.tokens));
}

}  // namespace

Expected<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options) {
  const CpuLevel best = detect_cpu_level();
  const CpuLevel level = options.level.value_or(best);
  if (level > best)
    return make_error("this processor has no ", cpu_level_name(level), "; the best it offers is ",
                      cpu_level_name(best));
  if (options.threads < 0 || options.threads > 1024)
    return make_error("the number of threads must be 1 to 1024, not ", options.threads);
  const int threads = options.threads > 0 ? options.threads : physical_core_count();
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(threads, level));
}

}  // namespace dw
