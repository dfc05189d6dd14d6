#include "machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "backend/cpu_device.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "kernels/cpu/bandwidth.h"
#include "model/work.h"

namespace dw {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The value after "key<blanks>:" in a file of such lines.
std::string value_of(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    const size_t value = line.find_first_not_of(" \t", colon + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

uint64_t limit_of(__rlimit_resource resource) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return 0;
  return limit.rlim_cur;
}

int32_t count_entries(const std::string& folder, std::string_view prefix) {
  int32_t count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (name.size() > prefix.size() && name.starts_with(prefix) &&
        std::all_of(name.begin() + int64_t(prefix.size()), name.end(),
                    [](char c) { return c >= '0' && c <= '9'; }))
      ++count;
  }
  return count;
}

// "always [madvise] never" -> "madvise"
std::string chosen(const std::string& line) {
  const size_t open = line.find('['), close = line.find(']');
  return open < close && close != std::string::npos ? line.substr(open + 1, close - open - 1) : "unknown";
}

uint64_t control_group_limit() {
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const std::string line = first_line(path);
    if (line.empty() || line == "max") continue;
    const uint64_t bytes = std::strtoull(line.c_str(), nullptr, 10);
    if (bytes > 0 && bytes < (uint64_t(1) << 60)) return bytes;
  }
  return 0;
}

std::vector<std::string> gpu_device_files() {
  std::vector<std::string> found;
  std::error_code error;
  for (const char* path : {"/dev/nvidia0", "/dev/kfd"})
    if (std::filesystem::exists(path, error)) found.push_back(path);
  return found;
}

}  // namespace

MachineReport inspect_machine(int32_t threads) {
  MachineReport m;
  m.processor = value_of("/proc/cpuinfo", "model name");
  if (m.processor.empty()) m.processor = "unknown processor";
  m.level = cpu_level_name(detect_cpu_level());
  utsname system{};
  if (::uname(&system) == 0) m.kernel = std::string(system.sysname) + " " + system.release;
  m.cores = physical_core_count();
  cpu_set_t set;
  m.logical_processors = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : m.cores;
  m.numa_nodes = std::max(1, count_entries("/sys/devices/system/node", "node"));
  CpuOptions cpu;
  cpu.threads = 1;
  if (auto device = make_cpu_device(cpu)) m.memory = (*device)->memory();
  m.memory_limit_bytes = control_group_limit();
  m.swap_bytes = std::strtoull(value_of("/proc/meminfo", "SwapTotal").c_str(), nullptr, 10) * 1024;
  m.huge_pages = chosen(first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
  m.address_space_limit = limit_of(RLIMIT_AS);
  m.locked_memory_limit = limit_of(RLIMIT_MEMLOCK);
  m.gpu_nodes = gpu_device_files();
  if (auto gpus = list_gpus())
    m.gpus = std::move(*gpus);
  else
    m.gpu_problem = gpus.error().message;
  ThreadPool pool(threads > 0 ? threads : m.cores);
  m.read_bandwidth = cpu::measure_read_bandwidth(pool);
  return m;
}

namespace {

// Fills the report as far as the file allows; the first thing wrong is the Error.
Expected<void> examine(const EngineOptions& options, double read_bandwidth, ModelReport& report) {
  auto file = gguf::File::open(options.model_path);
  if (!file) return file.error();
  if (auto name = file->get_string("general.name"); name && name->has_value()) report.name = **name;
  auto h = read_hyper_parameters(*file);
  if (!h) return h.error();
  auto context = resolve_context(options, *h);
  if (!context) return context.error();
  report.context_tokens = *context;
  report.plan = plan_memory(*file, *h, memory_request(options, *context));
  auto device = make_cpu_device(options.cpu);
  if (!device) return device.error();
  Device* const devices[] = {device->get()};
  auto weights = bind_weights(*file, *h, devices, Placement::all_on(0, h->layer_count() + h->mtp_layers));
  if (!weights) return weights.error();
  const PassWork work = pass_work(*h, *weights, options.kv_type, 1, 1, 0, 1);
  report.bytes_per_token = work.bytes();
  report.tokens_per_second = work.bytes() > 0 ? read_bandwidth / work.bytes() : 0;
  return check_fits(report.plan, (*device)->memory().free_bytes);
}

}  // namespace

ModelReport inspect_model(const EngineOptions& options, double read_bandwidth) {
  ModelReport report;
  report.path = options.model_path;
  if (auto done = examine(options, read_bandwidth, report); !done) report.refusal = done.error().message;
  return report;
}

std::vector<std::string> find_warnings(const DoctorReport& report) {
  std::vector<std::string> warnings;
  const MachineReport& m = report.machine;
  if (m.level == "portable")
    warnings.push_back("the processor has no AVX2: the portable kernels are many times slower");
  for (const std::string& node : m.gpu_nodes)
    if (m.gpus.empty())
      warnings.push_back("there is a GPU (" + node + ") but it is not used: " + m.gpu_problem);
  if (m.huge_pages == "never")
    warnings.push_back(
        "transparent huge pages are off; writing madvise to "
        "/sys/kernel/mm/transparent_hugepage/enabled makes large models faster");
  if (m.numa_nodes > 1)
    warnings.push_back("there are " + std::to_string(m.numa_nodes) +
                       " NUMA nodes; numactl --interleave=all spreads the weights over their memory");
  if (m.memory_limit_bytes > 0 && m.memory_limit_bytes < m.memory.free_bytes)
    warnings.push_back("the control group allows " + format_bytes(m.memory_limit_bytes) +
                       " of memory, less than is free on the machine");
  if (!report.has_model) return warnings;
  const MemoryPlan& plan = report.model.plan;
  if (m.address_space_limit > 0 && plan.mapped_bytes() + plan.resident_bytes() > m.address_space_limit)
    warnings.push_back("the address space limit (ulimit -v) of " + format_bytes(m.address_space_limit) +
                       " is less than the model needs");
  if (plan.mapped_bytes() > 0 && plan.mapped_bytes() + plan.resident_bytes() > m.memory.free_bytes)
    warnings.push_back("the weights (" + format_bytes(plan.mapped_bytes()) +
                       ") are larger than the free memory: they are read from the disk again and again, so "
                       "expect far fewer tokens per second than memory bandwidth allows");
  return warnings;
}

}  // namespace dw
