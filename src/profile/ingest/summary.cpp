#include "profile/ingest/summary.h"

#include <algorithm>

namespace dw::profile {
namespace {

void add_time(int64_t& sum, int64_t time) {
  if (__builtin_add_overflow(sum, time, &sum)) sum = INT64_MAX;
}

// Times of a hostile file may lie further apart than 64 bits count.
int64_t distance(int64_t from, int64_t to) {
  int64_t out = 0;
  return __builtin_sub_overflow(to, from, &out) ? INT64_MAX : out;
}

void add_kernel(const TraceEvent& event, std::vector<StatRow>& rows) {
  StatRow& row = rows[event.name];
  const int64_t time = distance(event.start_ns, event.end_ns);
  row.min_ns = row.calls == 0 ? time : std::min(row.min_ns, time);
  row.max_ns = std::max(row.max_ns, time);
  ++row.calls;
  add_time(row.total_ns, time);
}

}  // namespace

TraceSummary summarize_trace(const Trace& trace) {
  TraceSummary summary;
  std::vector<StatRow> rows(trace.names.size());
  int64_t first = 0, last = 0;
  for (const TraceEvent& event : trace.events) {  // by start
    summary.copies += event.kind == EventKind::kCopy;
    summary.fills += event.kind == EventKind::kFill;
    if (event.kind != EventKind::kKernel) continue;
    add_kernel(event, rows);
    if (summary.kernels++ == 0) first = last = event.start_ns;
    const int64_t begin = std::max(event.start_ns, last);
    if (event.end_ns > begin) add_time(summary.busy_ns, distance(begin, event.end_ns));
    last = std::max(last, event.end_ns);
  }
  summary.span_ns = distance(first, last);
  for (const StatRow& row : trace.stats) {
    rows[row.name] = row;
    add_time(summary.kernels, row.calls);
  }
  for (uint32_t name = 0; name < rows.size(); ++name) {
    if (rows[name].calls == 0) continue;
    rows[name].name = name;
    add_time(summary.total_ns, rows[name].total_ns);
    summary.kernels_by_time.push_back(rows[name]);
  }
  summary.names = int64_t(summary.kernels_by_time.size());
  std::stable_sort(summary.kernels_by_time.begin(), summary.kernels_by_time.end(),
                   [](const StatRow& a, const StatRow& b) { return a.total_ns > b.total_ns; });
  return summary;
}

}  // namespace dw::profile
