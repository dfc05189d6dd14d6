// What must hold of every trace that a reader makes of any bytes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "profile/ingest/readers.h"
#include "profile/ingest/summary.h"

namespace dw::fuzz {

inline void check_trace(const profile::Trace& trace) {
  const profile::TraceEvent* last = nullptr;
  for (const profile::TraceEvent& event : trace.events) {
    if (event.end_ns < event.start_ns) std::abort();
    if (last != nullptr && event.start_ns < last->start_ns) std::abort();
    if (event.name >= trace.names.size() || event.launch >= trace.launches.size() ||
        event.lane >= trace.lanes.size())
      std::abort();
    last = &event;
  }
  for (const profile::StatRow& row : trace.stats)
    if (row.name >= trace.names.size() || row.calls < 0 || row.total_ns < 0) std::abort();
  const profile::TraceSummary summary = profile::summarize_trace(trace);
  if (summary.busy_ns > summary.span_ns || summary.busy_ns < 0) std::abort();
  if (trace.stats.empty() && summary.busy_ns > summary.total_ns) std::abort();
}

template <class Reader>
void check_reader(const Reader& reader, const uint8_t* data, size_t size) {
  profile::Input input = profile::Input::of_bytes({reinterpret_cast<const char*>(data), size});
  profile::TraceBuilder builder;
  std::string why;
  if (!reader(input, builder, why) && why.empty()) std::abort();  // a refusal has a reason
  check_trace(builder.finish());
}

}  // namespace dw::fuzz
