// Records what NVIDIA GPUs do in this process: kernels (each node of a graph's launch on its own), copies and
// fills, with device timestamps, through CUPTI's activity interface. The library is looked for at run time,
// nothing links it: one that is in the process already, else CUPTI_LIBRARY alone if set (a file, or a folder
// that holds libcupti.so.13 or .12), else the loader's path, CUDA_HOME, CUDA_PATH, /usr/local/cuda. CUPTI
// knows one listener a process, so there is at most one KernelTrace at a time. Work in flight at start() or
// stop() may be missing: synchronise the device before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/expected.h"
#include "profile/kernel_event.h"

namespace dw::profile {

struct TraceLimits {
  size_t buffer_bytes = 4 << 20;  // of one of CUPTI's buffers; about 150 bytes a kernel and more
  size_t most_buffers = 32;       // at the same time with CUPTI
  size_t most_events = 8 << 20;   // kept; 112 bytes each
};

class KernelTrace {
 public:
  // Errors: no CUPTI library (with the places searched), one too old, one that refuses (another profiler
  // holds it), a trace already running.
  static Expected<std::unique_ptr<KernelTrace>> start(const TraceLimits& limits = {});
  ~KernelTrace();  // stops
  KernelTrace(const KernelTrace&) = delete;
  KernelTrace& operator=(const KernelTrace&) = delete;

  // What was recorded since start() or the last take(), ordered by start; recording goes on.
  Expected<std::vector<KernelEvent>> take();
  // The same, and recording ends.
  Expected<std::vector<KernelEvent>> stop();
  // Events lost since start(): no buffer was free, most_events was reached, or they had not ended.
  uint64_t dropped_count() const;
  // "CUPTI 130001 (libcupti.so.13)"
  std::string source() const;

 private:
  KernelTrace() = default;
  bool running_ = true;
};

// The files that start() tries in this order, given the environment's CUPTI_LIBRARY, CUDA_HOME and CUDA_PATH
// (empty: not set).
std::vector<std::string> cupti_candidates(const std::string& cupti_library, const std::string& cuda_home,
                                          const std::string& cuda_path);

}  // namespace dw::profile
