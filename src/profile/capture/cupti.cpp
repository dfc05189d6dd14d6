#include "profile/capture/cupti.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <unordered_map>

#include "profile/capture/cupti_abi.h"

namespace dw::profile {
namespace {

constexpr const char* kLibraries[] = {"libcupti.so.13", "libcupti.so.12"};
constexpr int kKinds[] = {cupti::kConcurrentKernel, cupti::kMemcpy, cupti::kMemset};

std::string_view copy_name(uint8_t kind) {
  static constexpr std::string_view kNames[] = {"copy",
                                                "copy host to device",
                                                "copy device to host",
                                                "copy host to array",
                                                "copy array to host",
                                                "copy array to array",
                                                "copy array to device",
                                                "copy device to array",
                                                "copy on device",
                                                "copy host to host",
                                                "copy device to device"};
  return kind < std::size(kNames) ? kNames[kind] : kNames[0];
}

std::string demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 && text != nullptr ? text : name;
  std::free(text);
  return result;
}

// Everything this process knows of CUPTI, in one object: CUPTI's callbacks carry no pointer of ours. It is
// never destroyed, because CUPTI may call in while the process exits.
class Collector {
 public:
  static Collector& instance() {
    static Collector* const collector = new Collector;
    return *collector;
  }

  Expected<void> start(const TraceLimits& limits);
  Expected<std::vector<KernelEvent>> take();
  Expected<std::vector<KernelEvent>> stop();
  uint64_t dropped() {
    const std::lock_guard lock(mutex_);
    return dropped_;
  }
  std::string source() {
    const std::lock_guard lock(mutex_);
    return "CUPTI " + std::to_string(version_) + " (" + library_ + ")";
  }

 private:
  Expected<void> load();
  Expected<void> bind(void* library);
  std::string words(int result) const;
  std::vector<KernelEvent> sorted();
  std::string_view demangle(const char* name);
  void read(uint8_t* buffer, size_t valid);
  void add(const cupti::Record& record);

  static void requested(uint8_t** buffer, size_t* bytes, size_t* most_records);
  static void completed(void* context, uint32_t stream, uint8_t* buffer, size_t bytes, size_t valid);

  std::mutex mutex_;  // guards all below; not held around calls in which CUPTI may call back
  cupti::Functions cupti_;
  std::string library_;
  uint32_t version_ = 0;
  bool loaded_ = false, running_ = false;
  TraceLimits limits_;
  size_t buffers_out_ = 0;
  std::vector<KernelEvent> events_;
  uint64_t dropped_ = 0;
  std::unordered_map<std::string, std::string> names_;  // mangled to demangled
};

std::string Collector::words(int result) const {
  const char* text = nullptr;
  if (cupti_.result_string != nullptr && cupti_.result_string(result, &text) == cupti::kSuccess &&
      text != nullptr)
    return text;
  return "error " + std::to_string(result);
}

Expected<void> Collector::bind(void* library) {
  std::string missing;
  const auto find = [&](auto& function, const char* name) {
    void* symbol = dlsym(library, name);
    if (symbol == nullptr && missing.empty()) missing = name;
    function = reinterpret_cast<std::decay_t<decltype(function)>>(symbol);
  };
  find(cupti_.get_version, "cuptiGetVersion");
  find(cupti_.result_string, "cuptiGetResultString");
  find(cupti_.enable, "cuptiActivityEnable");
  find(cupti_.disable, "cuptiActivityDisable");
  find(cupti_.register_callbacks, "cuptiActivityRegisterCallbacks");
  find(cupti_.flush_all, "cuptiActivityFlushAll");
  find(cupti_.next_record, "cuptiActivityGetNextRecord");
  find(cupti_.dropped_records, "cuptiActivityGetNumDroppedRecords");
  if (!missing.empty()) return make_error(library_, " has no ", missing, "; it is no CUPTI of CUDA 12 or 13");
  if (const int result = cupti_.get_version(&version_); result != cupti::kSuccess)
    return make_error(library_, ": ", words(result));
  if (version_ < cupti::kOldestVersion)
    return make_error(library_, " is too old (CUPTI ", version_, "); CUDA 12.0 or later is needed");
  return {};
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

Expected<void> Collector::load() {
  if (loaded_) return {};
  const std::vector<std::string> candidates =
      cupti_candidates(environment("CUPTI_LIBRARY"), environment("CUDA_HOME"), environment("CUDA_PATH"));
  void* library = nullptr;
  std::string tried;
  // One that is in the process already (PyTorch brings its own): two would disturb each other.
  for (const char* file : kLibraries) {
    if (library == nullptr && (library = dlopen(file, RTLD_NOW | RTLD_NOLOAD)) != nullptr) library_ = file;
  }
  for (const std::string& file : candidates) {
    if (library != nullptr) break;
    library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr)
      library_ = file;
    else
      tried += (tried.empty() ? "" : ", ") + file;
  }
  if (library == nullptr)
    return make_error("no CUPTI library was found (tried ", tried,
                      "); set CUPTI_LIBRARY to libcupti.so of the CUDA toolkit");
  if (auto bound = bind(library); !bound) {
    dlclose(library);
    return bound.error();
  }
  loaded_ = true;
  return {};
}

Expected<void> Collector::start(const TraceLimits& limits) {
  {
    const std::lock_guard lock(mutex_);
    if (running_) return make_error("a trace of this process's kernels is already running");
    if (auto done = load(); !done) return done.error();
    running_ = true;
    limits_ = limits;
    dropped_ = 0;
    events_.clear();
  }
  int result = cupti_.register_callbacks(requested, completed);
  for (size_t i = 0; result == cupti::kSuccess && i < std::size(kKinds); ++i) {
    result = cupti_.enable(kKinds[i]);
    for (size_t j = 0; result != cupti::kSuccess && j < i; ++j) cupti_.disable(kKinds[j]);
  }
  if (result == cupti::kSuccess) return {};
  const std::lock_guard lock(mutex_);
  running_ = false;
  return make_error("CUPTI (", library_, ") refuses to record kernels: ", words(result),
                    "; another profiler may hold it, or the driver is older than the library");
}

// By start; of equal starts in the order in which they were launched.
std::vector<KernelEvent> Collector::sorted() {
  std::vector<KernelEvent> events;
  {
    const std::lock_guard lock(mutex_);
    events.swap(events_);
  }
  std::sort(events.begin(), events.end(), [](const KernelEvent& a, const KernelEvent& b) {
    if (a.start_ns != b.start_ns) return a.start_ns < b.start_ns;
    return a.correlation != b.correlation ? a.correlation < b.correlation : a.graph_node < b.graph_node;
  });
  return events;
}

Expected<std::vector<KernelEvent>> Collector::take() {
  if (const int result = cupti_.flush_all(cupti::kFlushForced); result != cupti::kSuccess)
    return make_error("CUPTI cannot hand over its records: ", words(result));
  return sorted();
}

Expected<std::vector<KernelEvent>> Collector::stop() {
  const int flushed = cupti_.flush_all(cupti::kFlushForced);
  int result = flushed;
  for (const int kind : kKinds)
    if (const int disabled = cupti_.disable(kind); result == cupti::kSuccess) result = disabled;
  // What ended between the two calls.
  if (const int last = cupti_.flush_all(cupti::kFlushForced); result == cupti::kSuccess) result = last;
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
  }
  if (result != cupti::kSuccess) return make_error("CUPTI cannot hand over its records: ", words(result));
  return sorted();
}

void Collector::requested(uint8_t** buffer, size_t* bytes, size_t* most_records) {
  Collector& c = instance();
  *most_records = 0;  // as many as fit
  const std::lock_guard lock(c.mutex_);
  const bool allowed = c.buffers_out_ < c.limits_.most_buffers;
  *buffer =
      allowed ? static_cast<uint8_t*>(std::aligned_alloc(64, c.limits_.buffer_bytes / 64 * 64)) : nullptr;
  *bytes = *buffer == nullptr ? 0 : c.limits_.buffer_bytes / 64 * 64;  // none: CUPTI drops and counts
  if (*buffer != nullptr) ++c.buffers_out_;
}

void Collector::completed(void* context, uint32_t stream, uint8_t* buffer, size_t, size_t valid) {
  Collector& c = instance();
  size_t lost = 0;
  const bool known = c.cupti_.dropped_records(context, stream, &lost) == cupti::kSuccess;
  const std::lock_guard lock(c.mutex_);
  if (known) c.dropped_ += lost;
  if (buffer == nullptr) return;
  c.read(buffer, valid);
  std::free(buffer);
  --c.buffers_out_;
}

void Collector::read(uint8_t* buffer, size_t valid) {
  if (valid == 0) return;
  cupti::Record* record = nullptr;
  while (cupti_.next_record(buffer, valid, &record) == cupti::kSuccess) add(*record);
}

std::string_view Collector::demangle(const char* name) {
  if (name == nullptr) return "(unnamed)";
  const auto [entry, added] = names_.try_emplace(name);
  if (added) entry->second = demangled(name);
  return entry->second;
}

template <class R>
void set_common(KernelEvent& event, const R& record) {
  event.start_ns = int64_t(record.start);
  event.end_ns = int64_t(record.end);
  event.device = record.device;
  event.stream = record.stream;
  event.correlation = record.correlation;
  event.graph_node = record.graph_node;
}

void Collector::add(const cupti::Record& record) {
  KernelEvent event;
  if (record.kind == cupti::kConcurrentKernel) {
    const auto& kernel = reinterpret_cast<const cupti::KernelRecord&>(record);
    set_common(event, kernel);
    event.name = demangle(kernel.name);
    std::copy_n(kernel.grid, 3, event.grid.begin());
    std::copy_n(kernel.block, 3, event.block.begin());
    event.registers = kernel.registers;
    event.shared_bytes = int64_t(kernel.static_shared_bytes) + kernel.dynamic_shared_bytes;
  } else if (record.kind == cupti::kMemcpy) {
    const auto& copy = reinterpret_cast<const cupti::MemcpyRecord&>(record);
    set_common(event, copy);
    event.kind = EventKind::kCopy;
    event.name = copy_name(copy.copy_kind);
    event.bytes = int64_t(copy.bytes);
  } else if (record.kind == cupti::kMemset) {
    const auto& fill = reinterpret_cast<const cupti::MemsetRecord&>(record);
    set_common(event, fill);
    event.kind = EventKind::kFill;
    event.name = "fill";
    event.bytes = int64_t(fill.bytes);
  } else {
    return;
  }
  // CUPTI leaves the times 0 where it could not take them.
  if (event.end_ns == 0 || event.end_ns < event.start_ns || events_.size() >= limits_.most_events) {
    ++dropped_;
    return;
  }
  events_.push_back(event);
}

bool is_folder(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

std::vector<std::string> cupti_candidates(const std::string& cupti_library, const std::string& cuda_home,
                                          const std::string& cuda_path) {
  std::vector<std::string> files;
  const auto add_folder = [&](const std::string& folder) {
    for (const char* library : kLibraries) files.push_back(folder + "/" + library);
  };
  if (!cupti_library.empty()) {
    if (is_folder(cupti_library))
      add_folder(cupti_library);
    else
      files.push_back(cupti_library);
    return files;
  }
  for (const char* library : kLibraries) files.push_back(library);
  for (const std::string& root : {cuda_home, cuda_path, std::string("/usr/local/cuda")})
    if (!root.empty())
      for (const char* folder : {"/extras/CUPTI/lib64", "/lib64", "/lib", "/targets/x86_64-linux/lib"})
        add_folder(root + folder);
  return files;
}

Expected<std::unique_ptr<KernelTrace>> KernelTrace::start(const TraceLimits& limits) {
  if (auto started = Collector::instance().start(limits); !started) return started.error();
  return std::unique_ptr<KernelTrace>(new KernelTrace);
}

KernelTrace::~KernelTrace() {
  if (running_) (void)stop();
}

Expected<std::vector<KernelEvent>> KernelTrace::take() {
  DW_CHECK(running_, "the trace was stopped");
  return Collector::instance().take();
}

Expected<std::vector<KernelEvent>> KernelTrace::stop() {
  DW_CHECK(running_, "the trace was stopped before");
  running_ = false;
  return Collector::instance().stop();
}

uint64_t KernelTrace::dropped_count() const {
  return Collector::instance().dropped();
}

std::string KernelTrace::source() const {
  return Collector::instance().source();
}

}  // namespace dw::profile
