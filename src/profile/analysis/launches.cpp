#include "profile/analysis/launches.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "base/check.h"
#include "profile/names/short_name.h"

namespace dw::profile {
namespace {

constexpr size_t kWindow = 64;  // entries that may be missing on either side
constexpr size_t kRun = 3;      // names in a row that must agree to go on

class Names {
 public:
  int32_t id(std::string_view name) {
    return ids_.try_emplace(std::string(name), int32_t(ids_.size())).first->second;
  }
  size_t count() const { return ids_.size(); }

 private:
  std::map<std::string, int32_t, std::less<>> ids_;
};

struct Walk {
  std::vector<int32_t> kernels;  // name ids
  std::vector<int32_t> notes;

  bool agree(size_t i, size_t j) const {
    if (i >= kernels.size() || j >= notes.size()) return false;
    for (size_t r = 0; r < kRun && i + r < kernels.size() && j + r < notes.size(); ++r)
      if (kernels[i + r] != notes[j + r]) return false;
    return true;
  }
  // Moves i and j to the nearest place where the lists agree; past this one if there is none.
  void find_next(size_t& i, size_t& j) const {
    for (size_t distance = 1; distance <= kWindow; ++distance)
      for (size_t a = 0; a <= distance; ++a)
        if (agree(i + a, j + distance - a)) {
          i += a;
          j += distance - a;
          return;
        }
    ++i;
    ++j;
  }
};

}  // namespace

Pairing pair_launches(std::span<const KernelEvent> events, std::span<const Annotation> annotations) {
  Pairing result;
  result.annotation.assign(events.size(), -1);
  Names names;
  std::vector<int32_t> event_names, note_names;  // -1: no kernel
  std::map<std::string_view, int32_t> known;     // full names repeat a thousand times
  for (const KernelEvent& event : events) {
    event_names.push_back(-1);
    if (event.kind != EventKind::kKernel) continue;
    const auto [entry, added] = known.try_emplace(event.name);
    if (added) entry->second = names.id(base_name(event.name));
    event_names.back() = entry->second;
    ++result.kernels_alone;
  }
  for (const Annotation& a : annotations) note_names.push_back(names.id(base_name(a.kernel)));
  result.annotations_alone = int64_t(annotations.size());
  // A name that one side alone has would only break the runs of the walk.
  std::vector<int> sides(names.count(), 0);
  for (const int32_t name : event_names)
    if (name >= 0) sides[size_t(name)] |= 1;
  for (const int32_t name : note_names) sides[size_t(name)] |= 2;
  Walk walk;
  std::vector<size_t> event_at, note_at;  // of the walk's entries
  for (size_t e = 0; e < events.size(); ++e)
    if (event_names[e] >= 0 && sides[size_t(event_names[e])] == 3) {
      walk.kernels.push_back(event_names[e]);
      event_at.push_back(e);
    }
  for (size_t n = 0; n < annotations.size(); ++n)
    if (sides[size_t(note_names[n])] == 3) {
      walk.notes.push_back(note_names[n]);
      note_at.push_back(n);
    }
  for (size_t i = 0, j = 0; i < walk.kernels.size() && j < walk.notes.size();) {
    if (walk.kernels[i] != walk.notes[j]) {
      walk.find_next(i, j);
      continue;
    }
    result.annotation[event_at[i++]] = int32_t(note_at[j++]);
    ++result.pairs;
  }
  result.kernels_alone -= result.pairs;
  result.annotations_alone -= result.pairs;
  return result;
}

Timeline lay_out(std::span<const KernelEvent> events) {
  Timeline line;
  if (events.empty()) return line;
  int64_t covered = events[0].start_ns;  // the latest end so far
  for (size_t i = 0; i < events.size(); ++i) {
    const KernelEvent& e = events[i];
    DW_CHECK(i == 0 || e.start_ns >= events[i - 1].start_ns, "events must be ordered by start");
    const int64_t gap = std::max<int64_t>(0, e.start_ns - covered);
    const int64_t time = std::max<int64_t>(0, e.end_ns - std::max(e.start_ns, covered));
    line.gap_ns.push_back(gap);
    line.time_ns.push_back(time);
    line.idle_ns += gap;
    line.busy_ns += time;
    const bool same_launch = i > 0 && e.graph_node != 0 && events[i - 1].graph_node != 0 &&
                             e.correlation == events[i - 1].correlation;
    if (same_launch) line.graph_idle_ns += gap;
    covered = std::max(covered, e.end_ns);
  }
  line.span_ns = covered - events[0].start_ns;
  return line;
}

}  // namespace dw::profile
