// The JSON formats; each is handed the stream inside the root, before the value of the key it is named after.
#pragma once

#include <unordered_set>

#include "profile/ingest/builder.h"
#include "profile/ingest/json_stream.h"

namespace dw::profile {

// Chrome trace events as PyTorch's profiler (Kineto) writes them.
class KinetoReader {
 public:
  explicit KinetoReader(TraceBuilder& builder) : builder_(builder) {}
  void read_events(JsonStream& stream);     // the value of "traceEvents", or the root itself
  void read_devices(std::string_view raw);  // the value of "deviceProperties"
  void finish();                            // marks the kernels of graphs

 private:
  void read_event(std::string_view event, uint64_t byte);
  void read_gpu_event(std::string_view event, EventKind kind, uint64_t byte);
  void read_arguments(std::string_view args, TraceEvent& event, Lane& lane);
  void read_call(std::string_view event);
  TraceBuilder& builder_;
  std::unordered_set<uint64_t> graph_launches_;  // correlations
  uint64_t without_grid_ = 0;
};

// The value of "rocprofiler-sdk-tool".
void read_rocprofv3_json(JsonStream& stream, TraceBuilder& builder);

}  // namespace dw::profile
