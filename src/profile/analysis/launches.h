// Pairs the kernels of a trace with what the program said of its launches, and lays them out in time. Events
// are of one device and ordered by start (KernelTrace hands them over so); kernels of one stream start in the
// order of their launches, those of a graph included.
#pragma once

#include <span>
#include <vector>

#include "profile/annotate.h"
#include "profile/kernel_event.h"

namespace dw::profile {

struct Pairing {
  std::vector<int32_t> annotation;  // [events]: index, -1: none (copies and fills never have one)
  int64_t pairs = 0;
  int64_t kernels_alone = 0;      // kernels that no annotation speaks of
  int64_t annotations_alone = 0;  // launches that the trace lacks
};
// By order and base_name(): where the two lists differ, the nearest place where they agree again (up to 64
// entries further) is taken and what lies before it stays alone.
Pairing pair_launches(std::span<const KernelEvent> events, std::span<const Annotation> annotations);

// With overlapping kernels (programmatic dependent launch, several streams) a moment belongs to the kernel
// that started first: an event's time is its end minus the later of its start and every earlier end, so that
// the times add up to the time in which the device was busy.
struct Timeline {
  std::vector<int64_t> time_ns;  // [events], >= 0
  std::vector<int64_t> gap_ns;   // [events]: idle before it; 0 for the first
  int64_t span_ns = 0;           // first start to last end = busy + idle
  int64_t busy_ns = 0;
  int64_t idle_ns = 0;
  int64_t graph_idle_ns = 0;  // part of idle: between two nodes of one launch of a graph
};
Timeline lay_out(std::span<const KernelEvent> events);

}  // namespace dw::profile
