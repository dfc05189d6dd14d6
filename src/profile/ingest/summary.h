// A trace in a few numbers.
#pragma once

#include <vector>

#include "profile/ingest/trace.h"

namespace dw::profile {

struct TraceSummary {
  int64_t kernels = 0, copies = 0, fills = 0;
  int64_t names = 0;                     // different kernels
  int64_t total_ns = 0;                  // the kernels' times added up
  int64_t busy_ns = 0;                   // the union of their intervals, over all devices; 0 in files of sums
  int64_t span_ns = 0;                   // first start to last end; 0 in files of sums
  std::vector<StatRow> kernels_by_time;  // longest first
};

// Of kernels only; copies and fills are counted. Sums that leave 64 bits stay at the largest value.
TraceSummary summarize_trace(const Trace& trace);

}  // namespace dw::profile
