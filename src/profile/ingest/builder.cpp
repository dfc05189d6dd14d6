#include "profile/ingest/builder.h"

#include <algorithm>

namespace dw::profile {

void TraceBuilder::warn(std::string sentence) {
  if (std::find(trace.warnings.begin(), trace.warnings.end(), sentence) == trace.warnings.end())
    trace.warnings.push_back(std::move(sentence));
}

void TraceBuilder::count(std::string_view singular, std::string_view plural, const std::string& where) {
  auto found = counts_.find(singular);
  if (found == counts_.end())
    found = counts_.emplace(std::string(singular), Count{std::string(plural), where, 0}).first;
  ++found->second.count;
}

void TraceBuilder::refuse(const TraceEvent& event, const std::string& where) {
  if (event.start_ns == 0 && event.end_ns == 0)
    count("event has no times and is left out", "events have no times and are left out", where);
  else
    count("event ends before it starts and is left out", "events end before they start and are left out",
          where);
}

uint32_t TraceBuilder::kernel_name(std::string_view name) {
  if (name.ends_with(" [clone .kd]")) name.remove_suffix(12);
  if (name.ends_with(".kd")) name.remove_suffix(3);
  return trace.names.intern(name);
}

uint32_t TraceBuilder::correlation(uint64_t id) {
  if (id <= UINT32_MAX) return uint32_t(id);
  count("correlation id is above 2^32 and is left out", "correlation ids are above 2^32 and are left out",
        "");
  return 0;
}

void TraceBuilder::device(const TraceDevice& device) {
  for (TraceDevice& known : trace.devices) {
    if (known.id != device.id) continue;
    if (known.name.empty()) known.name = device.name;
    if (known.architecture.empty()) known.architecture = device.architecture;
    if (known.units == 0) known.units = device.units;
    return;
  }
  constexpr size_t kMostDevices = 4096;
  if (trace.devices.size() < kMostDevices) trace.devices.push_back(device);
}

void TraceBuilder::add_stat(uint32_t name, int64_t calls, int64_t total_ns, int64_t min_ns, int64_t max_ns) {
  const auto [at, fresh] = stat_rows_.emplace(name, trace.stats.size());
  if (fresh) {
    trace.stats.push_back({name, calls, total_ns, min_ns, max_ns});
    return;
  }
  StatRow& row = trace.stats[at->second];  // the same kernel again, e.g. of another grid or process
  if (__builtin_add_overflow(row.calls, calls, &row.calls) ||
      __builtin_add_overflow(row.total_ns, total_ns, &row.total_ns)) {
    row.calls = row.total_ns = 0;
    warn("the sums of '" + trace.names[name] + "' are out of range and set to 0");
  }
  row.min_ns = row.min_ns > 0 && min_ns > 0 ? std::min(row.min_ns, min_ns) : 0;
  row.max_ns = row.max_ns > 0 && max_ns > 0 ? std::max(row.max_ns, max_ns) : 0;
}

void TraceBuilder::check_totals() {
  if (trace.names.overflowed())
    warn("the names take more than " + std::to_string(NameTable::kLimitBytes >> 20) +
         " MiB; the kernels past that are named '(name left out)'");
  if (trace.launches.overflowed())
    warn("there are more than 4 million launch configurations; those past that are left out");
  if (trace.lanes.overflowed())
    warn("there are more than 65,535 streams and queues; those past that are left out");
}

Trace TraceBuilder::finish() {
  const auto by_start = [](const TraceEvent& a, const TraceEvent& b) { return a.start_ns < b.start_ns; };
  if (!std::is_sorted(trace.events.begin(), trace.events.end(), by_start))
    std::stable_sort(trace.events.begin(), trace.events.end(), by_start);
  check_totals();
  for (const auto& [singular, count] : counts_) {
    std::string text = std::to_string(count.count) + " " + (count.count == 1 ? singular : count.plural);
    if (!count.first.empty())
      text += count.count == 1 ? " (" + count.first + ")" : " (the first: " + count.first + ")";
    trace.warnings.push_back(std::move(text));
  }
  counts_.clear();
  return std::move(trace);
}

std::array<uint32_t, 3> sizes_of(const std::array<int64_t, 3>& sizes) {
  std::array<uint32_t, 3> out{};
  for (size_t i = 0; i < 3; ++i)
    if (sizes[i] > 0 && sizes[i] <= int64_t(UINT32_MAX)) out[i] = uint32_t(sizes[i]);
  return out;
}

int32_t small_count(int64_t count) {
  return count > 0 && count <= INT32_MAX ? int32_t(count) : 0;
}

std::array<uint32_t, 3> blocks_of(const std::array<int64_t, 3>& grid, const std::array<int64_t, 3>& block) {
  std::array<int64_t, 3> blocks{};
  for (size_t i = 0; i < 3; ++i)
    if (grid[i] > 0 && block[i] > 0) blocks[i] = grid[i] / block[i] + (grid[i] % block[i] != 0);
  return sizes_of(blocks);
}

}  // namespace dw::profile
