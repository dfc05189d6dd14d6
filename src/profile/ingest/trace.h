// A GPU trace of any profiler, read into one form. Times are integer nanoseconds of the trace's own clock;
// grids are counted in blocks (work-groups), whatever the file counts in. An event takes 32 bytes; names,
// launch configurations and lanes are stored once each. What the file lacks is 0 or empty, and what was
// missing, cut off, dropped or inconsistent is said in `warnings`, one sentence each.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "profile/kernel_event.h"

namespace dw::profile {

enum class TraceFormat : uint8_t {
  kRocprofCsv,         // rocprof v1 results.csv, one row a dispatch
  kRocprofStatsCsv,    // rocprof v1 results.stats.csv
  kRocprofv2Csv,       // rocprofv2
  kRocprofv3Csv,       // rocprofv3 kernel_trace, memory_copy_trace, counter_collection
  kRocprofv3StatsCsv,  // rocprofv3 *_stats.csv
  kRocprofv3Json,
  kRocpd,
  kRpd,
  kNsysSqlite,
  kNsysTraceCsv,  // nsys stats -r cuda_gpu_trace -f csv
  kNsysStatsCsv,  // nsys stats -r cuda_gpu_kern_sum -f csv
  kNcuCsv,
  kKineto,      // PyTorch profiler and other Chrome traces with kernels
  kPerfetto,    // pftrace
  kLibraryLog,  // rocblas-bench and hipblaslt-bench lines, AMD_LOG_LEVEL=3
};
std::string_view format_name(TraceFormat format);  // "rocprofv3 CSV"

// Numbers for texts, in the order of their first use; 0 is the empty text.
class NameTable {
 public:
  NameTable();
  // Past kLimitBytes of text every new name becomes the same "(name left out)"; see overflowed().
  uint32_t intern(std::string_view name);
  const std::string& operator[](uint32_t id) const { return names_[id]; }
  size_t size() const { return names_.size(); }
  bool overflowed() const { return overflow_ != 0; }

  static constexpr size_t kLimitBytes = size_t(256) << 20;

 private:
  uint32_t add(std::string_view name, uint64_t hash);
  void grow();
  std::deque<std::string> names_;
  std::vector<uint64_t> hashes_;  // [names]
  std::vector<uint32_t> slots_;   // open addressing; 0: free
  uint64_t seed_;
  size_t bytes_ = 0;
  uint32_t overflow_ = 0;
};

// How a kernel was launched; of copies and fills the bytes.
struct Launch {
  std::array<uint32_t, 3> grid = {}, block = {};  // blocks; threads a block; 0: unknown
  int32_t registers = 0, accumulation_registers = 0, scalar_registers = 0;  // a thread (wave)
  int64_t shared_bytes = 0;                                                 // LDS, a block
  int64_t scratch_bytes = 0;                                                // a thread
  int64_t bytes = 0;
  bool operator==(const Launch&) const = default;
};

// Where an event ran.
struct Lane {
  uint64_t process = 0, device = 0, queue = 0, stream = 0;
  bool operator==(const Lane&) const = default;
};

struct FieldHash {
  size_t operator()(const Launch& launch) const;
  size_t operator()(const Lane& lane) const;
};

// Numbers for values, at most `limit` of them; intern() gives 0, the empty value, for those past it.
template <class T>
class ValueTable {
 public:
  explicit ValueTable(size_t limit) : limit_(limit) { intern({}); }
  uint32_t intern(const T& value) {
    const auto found = ids_.find(value);
    if (found != ids_.end()) return found->second;
    if (values_.size() >= limit_) {
      overflowed_ = true;
      return 0;
    }
    ids_.emplace(value, uint32_t(values_.size()));
    values_.push_back(value);
    return uint32_t(values_.size() - 1);
  }
  const T& operator[](uint32_t id) const { return values_[id]; }
  size_t size() const { return values_.size(); }
  bool overflowed() const { return overflowed_; }

 private:
  size_t limit_;
  std::deque<T> values_;
  std::unordered_map<T, uint32_t, FieldHash> ids_;
  bool overflowed_ = false;
};

struct TraceEvent {
  int64_t start_ns = 0, end_ns = 0;
  uint32_t name = 0;         // of Trace::names
  uint32_t launch = 0;       // of Trace::launches
  uint32_t correlation = 0;  // the call that launched it; one for all nodes of a graph's launch
  uint16_t lane = 0;         // of Trace::lanes
  EventKind kind = EventKind::kKernel;
  bool in_graph = false;  // known to be a node of a graph
};

// A row of a file that holds sums only.
struct StatRow {
  uint32_t name = 0;
  int64_t calls = 0, total_ns = 0;
  int64_t min_ns = 0, max_ns = 0;  // 0 with calls > 1: the file does not say
};

struct TraceDevice {
  uint64_t id = 0;           // as Lane::device has it
  std::string name;          // "NVIDIA H100 80GB HBM3"
  std::string architecture;  // "gfx906", "sm_90"
  int32_t units = 0;         // SMs or CUs
};

// A matrix product that a library logged.
struct GemmCall {
  std::string function;  // "gemm_ex"
  char trans_a = 'N', trans_b = 'N';
  int64_t m = 0, n = 0, k = 0, batch = 1;
  std::string type_a, type_b, type_c, type_compute;
  int64_t solution = -1;  // -1: not said
  uint32_t kernel = 0;    // the kernel that the log names next, of Trace::names
  int64_t calls = 1;
};

struct Trace {
  TraceFormat format = TraceFormat::kKineto;
  std::string tool;  // with its version, where the file says it
  std::vector<TraceDevice> devices;
  NameTable names;
  ValueTable<Launch> launches{size_t(1) << 22};
  ValueTable<Lane> lanes{1 << 16};
  std::deque<TraceEvent> events;  // by start
  std::vector<StatRow> stats;     // in files of sums; events is empty then
  std::vector<GemmCall> gemms;    // in logs
  std::vector<std::string> warnings;

  bool has_times() const { return !events.empty(); }
};

}  // namespace dw::profile
