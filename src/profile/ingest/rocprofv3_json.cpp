#include <unordered_map>

#include "profile/ingest/json_readers.h"

namespace dw::profile {
namespace {

class ToolReader {
 public:
  ToolReader(JsonStream& stream, TraceBuilder& builder) : stream_(stream), builder_(builder) {}
  void read();

 private:
  template <class F>
  void each_element(const F& take_element);
  void read_agent(std::string_view raw);
  void read_symbol(std::string_view raw);
  void read_records();
  void read_dispatch(std::string_view raw, uint64_t byte);
  void read_copy(std::string_view raw, uint64_t byte);
  bool times(std::string_view raw, TraceEvent& event, uint64_t byte);
  uint64_t device_of(uint64_t handle) const;
  uint32_t name_of(int64_t kernel_id);
  void resolve_names();

  JsonStream& stream_;
  TraceBuilder& builder_;
  uint64_t process_ = 0;
  size_t first_event_ = 0;
  std::unordered_map<uint64_t, uint64_t> agents_;      // handle to index
  std::unordered_map<int64_t, uint32_t> symbols_;      // kernel id to name
  std::unordered_map<uint32_t, int64_t> provisional_;  // names given before the symbol was seen
};

int64_t integer(std::string_view object, std::string_view key) {
  return json_integer(json_member(object, key)).value_or(0);
}

uint64_t handle(std::string_view object, std::string_view key) {
  const std::string_view value = json_member(object, key);
  if (value.starts_with('{')) return uint64_t(integer(value, "handle"));
  return uint64_t(json_integer(value).value_or(0));
}

std::array<int64_t, 3> xyz(std::string_view object) {
  return {integer(object, "x"), integer(object, "y"), integer(object, "z")};
}

// gfx_target_version: major * 10000 + minor * 100 + step; the step is written in hexadecimal.
std::string gfx_name(int64_t version) {
  if (version <= 0 || version > 1000000) return "";
  constexpr std::string_view kHex = "0123456789abcdef";
  const int64_t step = version % 100;
  return "gfx" + std::to_string(version / 10000) + std::to_string(version / 100 % 100) +
         (step < 16 ? std::string(1, kHex[size_t(step)]) : std::to_string(step));
}

template <class F>
void ToolReader::each_element(const F& take_element) {
  if (stream_.peek_value() != '[') return stream_.skip();
  if (!stream_.enter('[')) return;
  while (stream_.next_element()) {
    const std::string_view raw = stream_.take();
    if (!raw.empty()) take_element(raw, stream_.value_begin());
  }
}

void ToolReader::read_agent(std::string_view raw) {
  const int64_t version = integer(raw, "gfx_target_version");
  const uint64_t index = uint64_t(integer(raw, "node_id"));
  agents_[handle(raw, "id")] = index;
  if (version <= 0) return;  // a CPU
  TraceDevice device;
  device.id = index;
  device.architecture = gfx_name(version);
  device.name = json_text(json_member(raw, "product_name"));
  device.units = small_count(integer(raw, "cu_count"));
  builder_.device(device);
}

void ToolReader::read_symbol(std::string_view raw) {
  for (const std::string_view key :
       {"formatted_kernel_name", "demangled_kernel_name", "kernel_name", "truncated_kernel_name"}) {
    const std::string name = json_text(json_member(raw, key));
    if (name.empty()) continue;
    symbols_[integer(raw, "kernel_id")] = builder_.kernel_name(name);
    return;
  }
}

uint64_t ToolReader::device_of(uint64_t agent) const {
  const auto found = agents_.find(agent);
  return found == agents_.end() ? agent : found->second;
}

uint32_t ToolReader::name_of(int64_t kernel_id) {
  const auto found = symbols_.find(kernel_id);
  if (found != symbols_.end()) return found->second;
  const uint32_t name = builder_.trace.names.intern("(kernel " + std::to_string(kernel_id) + ")");
  provisional_.emplace(name, kernel_id);
  return name;
}

bool ToolReader::times(std::string_view raw, TraceEvent& event, uint64_t byte) {
  const auto start = json_integer(json_member(raw, "start_timestamp"));
  const auto end = json_integer(json_member(raw, "end_timestamp"));
  if (!start || !end) {
    builder_.count("record has no times and is left out", "records have no times and are left out",
                   "byte " + std::to_string(byte));
    return false;
  }
  event.start_ns = *start;
  event.end_ns = *end;
  event.correlation = builder_.correlation(uint64_t(integer(json_member(raw, "correlation_id"), "internal")));
  return true;
}

void ToolReader::read_dispatch(std::string_view raw, uint64_t byte) {
  TraceEvent event;
  if (!times(raw, event, byte)) return;
  const std::string_view info = json_member(raw, "dispatch_info");
  Launch launch;
  const auto block = xyz(json_member(info, "workgroup_size"));
  launch.block = sizes_of(block);
  launch.grid = blocks_of(xyz(json_member(info, "grid_size")), block);
  launch.shared_bytes = integer(info, "group_segment_size");
  launch.scratch_bytes = integer(info, "private_segment_size");
  event.launch = builder_.trace.launches.intern(launch);
  event.name = name_of(integer(info, "kernel_id"));
  event.lane = builder_.lane(
      {process_, device_of(handle(info, "agent_id")), handle(info, "queue_id"), handle(raw, "stream_id")});
  builder_.add(event, [&] { return "byte " + std::to_string(byte); });
}

void ToolReader::read_copy(std::string_view raw, uint64_t byte) {
  TraceEvent event;
  if (!times(raw, event, byte)) return;
  event.kind = EventKind::kCopy;
  event.name = builder_.trace.names.intern("memory copy");
  Launch launch;
  launch.bytes = integer(raw, "bytes");
  event.launch = builder_.trace.launches.intern(launch);
  event.lane = builder_.lane({process_, device_of(handle(raw, "dst_agent_id")), 0, handle(raw, "stream_id")});
  builder_.add(event, [&] { return "byte " + std::to_string(byte); });
}

void ToolReader::read_records() {
  if (stream_.peek_value() != '{') return stream_.skip();
  if (!stream_.enter('{')) return;
  std::string key;
  while (stream_.next_member(key)) {
    if (key == "kernel_dispatch")
      each_element([&](std::string_view raw, uint64_t byte) { read_dispatch(raw, byte); });
    else if (key == "memory_copy")
      each_element([&](std::string_view raw, uint64_t byte) { read_copy(raw, byte); });
    else
      stream_.skip();
  }
}

void ToolReader::resolve_names() {
  std::unordered_map<uint32_t, uint32_t> final_names;
  uint64_t unknown = 0;
  for (const auto& [name, kernel_id] : provisional_) {
    const auto found = symbols_.find(kernel_id);
    if (found != symbols_.end())
      final_names[name] = found->second;
    else
      ++unknown;
  }
  if (!final_names.empty())
    for (size_t i = first_event_; i < builder_.trace.events.size(); ++i) {
      const auto found = final_names.find(builder_.trace.events[i].name);
      if (found != final_names.end()) builder_.trace.events[i].name = found->second;
    }
  if (unknown > 0)
    builder_.warn("the names of " + std::to_string(unknown) + " kernels are missing (no kernel_symbols)");
}

void ToolReader::read() {
  if (!stream_.enter('{')) return;
  first_event_ = builder_.trace.events.size();
  std::string key;
  while (stream_.next_member(key)) {
    if (key == "metadata")
      process_ = uint64_t(integer(stream_.take(), "pid"));
    else if (key == "agents")
      each_element([&](std::string_view raw, uint64_t) { read_agent(raw); });
    else if (key == "kernel_symbols")
      each_element([&](std::string_view raw, uint64_t) { read_symbol(raw); });
    else if (key == "buffer_records")
      read_records();
    else
      stream_.skip();
  }
  resolve_names();
}

}  // namespace

void read_rocprofv3_json(JsonStream& stream, TraceBuilder& builder) {
  if (!stream.enter('[')) return;
  while (stream.next_element()) ToolReader(stream, builder).read();
}

}  // namespace dw::profile
