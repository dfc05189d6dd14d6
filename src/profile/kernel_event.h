// One thing that a GPU did, as a trace has it: a kernel, a copy or a fill. Times are the device's, in
// nanoseconds of one clock; they have no meaning beyond differences. The other fields are 0 (or empty) where
// the source of the trace does not know them.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace dw::profile {

enum class EventKind : uint8_t { kKernel, kCopy, kFill };

struct KernelEvent {
  EventKind kind = EventKind::kKernel;
  // Demangled; of a copy its direction: "copy host to device". Lives as long as the process (captured) or as
  // its owner says.
  std::string_view name;
  int64_t start_ns = 0, end_ns = 0;
  std::array<int32_t, 3> grid = {}, block = {};
  int32_t registers = 0;     // a thread
  int64_t shared_bytes = 0;  // a block, static and dynamic
  int64_t bytes = 0;         // of a copy or fill
  uint32_t device = 0, stream = 0;
  uint64_t graph_node = 0;   // 0: not launched by a graph
  uint32_t correlation = 0;  // the call that launched it; one for all nodes of a graph's launch
};

}  // namespace dw::profile
