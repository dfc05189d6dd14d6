// What the readers share while they fill a Trace: checks of each event, and complaints that are counted
// instead of repeated.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "profile/ingest/trace.h"

namespace dw::profile {

struct TraceBuilder {
  Trace trace;

  void warn(std::string sentence);
  // "4 rows have too few fields (the first: line 12)". `singular` and `plural` are "row has ...", "rows have
  // ...".
  void count(std::string_view singular, std::string_view plural, const std::string& where);

  // Takes the event if it has times that make sense; else counts it. `where` is called only then.
  template <class Where>
  void add(const TraceEvent& event, const Where& where) {
    if (event.end_ns >= event.start_ns && (event.start_ns != 0 || event.end_ns != 0)) {
      trace.events.push_back(event);
    } else {
      refuse(event, where());
    }
  }

  // The name without the endings that rocprof leaves: " [clone .kd]" and ".kd".
  uint32_t kernel_name(std::string_view name);
  uint16_t lane(const Lane& lane) { return uint16_t(trace.lanes.intern(lane)); }
  uint32_t correlation(uint64_t id);
  // Sets what is not yet known of a device.
  void device(const TraceDevice& device);
  void add_stat(uint32_t name, int64_t calls, int64_t total_ns, int64_t min_ns, int64_t max_ns);

  // Orders the events by start, turns the counts into warnings and hands the trace over.
  Trace finish();

 private:
  struct Count {
    std::string plural, first;
    uint64_t count = 0;
  };
  void refuse(const TraceEvent& event, const std::string& where);
  void check_totals();
  std::map<std::string, Count, std::less<>> counts_;
  std::map<uint32_t, size_t> stat_rows_;
};

// Work-items to blocks, rounded up; 0 stays 0. Sizes that are negative or too large are unknown: 0.
std::array<uint32_t, 3> blocks_of(const std::array<int64_t, 3>& grid, const std::array<int64_t, 3>& block);
int32_t small_count(int64_t count);  // 0 outside of 0 .. 2^31 - 1
std::array<uint32_t, 3> sizes_of(const std::array<int64_t, 3>& sizes);

}  // namespace dw::profile
