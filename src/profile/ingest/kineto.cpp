// Times are decimal microseconds since an arbitrary point; with nanosecond resolution they have more digits
// than a double holds, so they are read as decimals.
#include "profile/ingest/json_readers.h"
#include "profile/ingest/number.h"
#include "profile/ingest/readers.h"

namespace dw::profile {
namespace {

std::string_view bare(std::string_view raw) {
  return raw.size() >= 2 && raw.front() == '"' ? raw.substr(1, raw.size() - 2) : raw;
}

std::optional<EventKind> gpu_kind(std::string_view category) {
  if (category == "kernel" || category == "Kernel") return EventKind::kKernel;
  if (category == "gpu_memcpy" || category == "Memcpy") return EventKind::kCopy;
  if (category == "gpu_memset" || category == "Memset") return EventKind::kFill;
  return std::nullopt;
}

std::array<int64_t, 3> three(std::string_view raw) {
  std::array<int64_t, 3> out{};
  JsonCursor cursor(raw);
  if (!cursor.enter_array()) return out;
  for (size_t i = 0; i < 3 && cursor.next_element(); ++i) out[i] = json_integer(cursor.value()).value_or(0);
  return out;
}

// "12040" to "12.4", as CUDA counts versions.
std::string cuda_version(int64_t number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

}  // namespace

void KinetoReader::read_devices(std::string_view raw) {
  JsonCursor list(raw);
  if (!list.enter_array()) return;
  while (list.next_element()) {
    const std::string_view item = list.value();
    if (item.empty()) return;
    TraceDevice device;
    device.id = uint64_t(json_integer(json_member(item, "id")).value_or(0));
    device.name = json_text(json_member(item, "name"));
    device.units = small_count(json_integer(json_member(item, "numSms")).value_or(0));
    const auto major = json_integer(json_member(item, "computeMajor"));
    const auto minor = json_integer(json_member(item, "computeMinor"));
    // On AMD the same fields hold the gfx version without its step, which names no architecture.
    const bool nvidia = json_integer(json_member(item, "warpSize")).value_or(0) == 32 &&
                        device.name.find("AMD") == std::string::npos &&
                        device.name.find("Radeon") == std::string::npos;
    if (nvidia && major && minor)
      device.architecture = "sm_" + std::to_string(*major) + std::to_string(*minor);
    builder_.device(device);
  }
}

void KinetoReader::read_call(std::string_view event) {
  if (event.find("GraphLaunch") == std::string_view::npos) return;
  const auto correlation = json_integer(json_member(json_member(event, "args"), "correlation"));
  if (correlation) graph_launches_.insert(uint64_t(*correlation));
}

void KinetoReader::read_arguments(std::string_view args, TraceEvent& event, Lane& lane) {
  JsonCursor cursor(args);
  if (!cursor.enter_object()) return;
  Launch launch;
  std::string_view key;
  bool grid = false;
  while (cursor.next_member(key)) {
    const std::string_view value = cursor.value();
    if (value.empty()) break;
    const auto integer = [&] { return json_integer(value).value_or(0); };
    if (key == "device")
      lane.device = uint64_t(integer());
    else if (key == "stream")
      lane.stream = uint64_t(integer());
    else if (key == "queue")
      lane.queue = uint64_t(integer());
    else if (key == "correlation")
      event.correlation = builder_.correlation(uint64_t(integer()));
    else if (key == "registers per thread")
      launch.registers = small_count(integer());
    else if (key == "shared memory")
      launch.shared_bytes = integer();
    else if (key == "bytes")
      launch.bytes = integer();
    else if (key == "block")
      launch.block = sizes_of(three(value));
    else if (key == "grid")
      launch.grid = sizes_of(three(value)), grid = true;
  }
  if (!grid && event.kind == EventKind::kKernel) ++without_grid_;
  event.launch = builder_.trace.launches.intern(launch);
}

void KinetoReader::read_gpu_event(std::string_view text, EventKind kind, uint64_t byte) {
  JsonCursor cursor(text);
  if (!cursor.enter_object()) return;
  TraceEvent event;
  event.kind = kind;
  Lane lane;
  std::optional<int64_t> start, duration;
  std::string_view key;
  while (cursor.next_member(key)) {
    const std::string_view value = cursor.value();
    if (value.empty()) break;
    if (key == "name") {
      const bool plain = value.find('\\') == std::string_view::npos;
      event.name = plain ? builder_.kernel_name(bare(value)) : builder_.kernel_name(json_text(value));
    } else if (key == "ts") {
      start = parse_scaled(bare(value), 3);
    } else if (key == "dur") {
      duration = parse_scaled(bare(value), 3);
    } else if (key == "pid") {
      lane.device = uint64_t(json_integer(value).value_or(0));
    } else if (key == "tid") {
      lane.stream = uint64_t(json_integer(value).value_or(0));
    } else if (key == "args") {
      read_arguments(value, event, lane);
    }
  }
  const auto where = [&] { return "byte " + std::to_string(byte); };
  if (!start || !duration || __builtin_add_overflow(*start, *duration, &event.end_ns)) {
    builder_.count("GPU event has no times and is left out", "GPU events have no times and are left out",
                   where());
    return;
  }
  event.start_ns = *start;
  event.lane = builder_.lane(lane);
  builder_.add(event, where);
}

void KinetoReader::read_event(std::string_view event, uint64_t byte) {
  const std::string_view category = bare(json_member(event, "cat"));
  if (const auto kind = gpu_kind(category)) {
    if (bare(json_member(event, "ph")) == "X") read_gpu_event(event, *kind, byte);
  } else if (category == "cuda_runtime" || category == "cuda_driver") {
    read_call(event);
  }
}

void KinetoReader::read_events(JsonStream& stream) {
  if (!stream.enter('[')) return;
  uint64_t count = 0;
  while (stream.next_element()) {
    const std::string_view event = stream.take();
    if (!event.empty()) read_event(event, stream.value_begin());
    ++count;
  }
  if (stream.broken())
    builder_.warn("the file " + stream.problem() + ", in event " + std::to_string(count + 1) +
                  "; what follows is missing");
}

void KinetoReader::finish() {
  uint64_t of_graphs = 0, kernels = 0;
  for (TraceEvent& event : builder_.trace.events) {
    event.in_graph = event.correlation != 0 && graph_launches_.contains(event.correlation);
    of_graphs += event.in_graph;
    kernels += event.kind == EventKind::kKernel;
  }
  if (!graph_launches_.empty() && of_graphs == 0)
    builder_.warn(std::to_string(graph_launches_.size()) +
                  " graph launches are in the trace, but no kernel of theirs");
  if (without_grid_ > 0)
    builder_.warn(std::to_string(without_grid_) + " of " + std::to_string(kernels) +
                  " kernels have no grid (kernels of graphs, or launched before the trace began)");
}

namespace {

// What tells which PyTorch build it was.
void note_version(TraceBuilder& builder, const std::string& key, std::string_view value) {
  if (key != "cuda_runtime_version" && key != "hip_runtime_version") return;
  const auto number = json_integer(value);
  if (!number || *number <= 0) return;
  if (key[0] == 'c')
    builder.trace.tool = "PyTorch profiler (Kineto), CUDA " + cuda_version(*number);
  else
    builder.trace.tool = "PyTorch profiler (Kineto), HIP " + std::to_string(*number / 10000000) + "." +
                         std::to_string(*number / 100000 % 100);
}

bool read_root(JsonStream& stream, TraceBuilder& builder, KinetoReader& kineto) {
  bool found = false;
  std::string key;
  while (stream.next_member(key)) {
    if (key == "traceEvents") {
      found = true;
      kineto.read_events(stream);
    } else if (key == "rocprofiler-sdk-tool") {
      found = true;
      builder.trace.format = TraceFormat::kRocprofv3Json;
      builder.trace.tool = "rocprofv3";
      read_rocprofv3_json(stream, builder);
    } else if (key == "deviceProperties") {
      kineto.read_devices(stream.take());
    } else if (key.ends_with("_runtime_version")) {
      note_version(builder, key, stream.take());
    } else {
      stream.skip();
    }
  }
  return found;
}

}  // namespace

bool read_json(Input& input, TraceBuilder& builder, std::string& why) {
  if (input.peek(3).starts_with("\xef\xbb\xbf")) input.consume(3);
  JsonStream stream(input);
  KinetoReader kineto(builder);
  builder.trace.format = TraceFormat::kKineto;
  builder.trace.tool = "Chrome trace";
  bool found = true;
  if (stream.peek_value() == '[') {
    kineto.read_events(stream);
  } else if (stream.enter('{')) {
    builder.trace.tool = "PyTorch profiler (Kineto)";
    found = read_root(stream, builder, kineto);
  }
  kineto.finish();
  if (stream.too_large() > 0)
    builder.warn(std::to_string(stream.too_large()) + " JSON values larger than 64 MiB are left out");
  if (!found) {
    why = stream.broken() ? "its JSON " + stream.problem() + ", before any events"
                          : "its JSON has neither traceEvents nor rocprofiler-sdk-tool";
    return false;
  }
  if (stream.broken()) builder.warn("the file " + stream.problem() + "; what follows is missing");
  return true;
}

}  // namespace dw::profile
