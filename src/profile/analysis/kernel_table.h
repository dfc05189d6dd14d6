// Where the time of a run goes, op by op and kernel by kernel.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "profile/analysis/launches.h"

namespace dw::profile {

struct KernelRow {
  std::string name;    // an op, or a kernel's short_name()
  std::string kernel;  // the full name; empty for an op
  int64_t launches = 0;
  int64_t time_ns = 0;  // Timeline::time_ns
  int64_t gap_ns = 0;   // idle before its launches
  // As annotated; of copies and fills their size.
  double bytes = 0, operations = 0;
  int64_t noted_ns = 0;  // the part of time_ns whose bytes and operations are known

  double gigabytes_per_second() const { return noted_ns > 0 ? bytes / double(noted_ns) : 0; }
  double teraflops() const { return noted_ns > 0 ? operations / double(noted_ns) / 1e3 : 0; }
};

struct OpRow {
  KernelRow total;
  std::vector<KernelRow> kernels;  // longest first
};

struct KernelTable {
  std::vector<OpRow> ops;  // longest first
  KernelRow total;
  int64_t span_ns = 0, busy_ns = 0, idle_ns = 0, graph_idle_ns = 0;
  int64_t kernel_count = 0;                          // events that are kernels: launches
  int64_t unknown_kernels = 0, missing_kernels = 0;  // Pairing's *_alone
};

// Kernels without annotation stand under the op "(not annotated)", copies and fills under "memory".
KernelTable make_kernel_table(std::span<const KernelEvent> events, std::span<const Annotation> annotations);

}  // namespace dw::profile
