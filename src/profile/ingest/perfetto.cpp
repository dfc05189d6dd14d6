// Perfetto traces as rocprofv3 writes them (--output-format pftrace): kernels are slices of the category
// kernel_dispatch whose debug annotations hold begin_ns and end_ns. The wire format is read by hand; of the
// messages only the fields that kernels need. Field numbers: perfetto/protos/perfetto/trace.
#include <unordered_map>

#include "profile/ingest/readers.h"

namespace dw::profile {
namespace {

// One message's fields. Stops at what is no field; damaged() then.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}
  bool next() {
    if (at_ >= bytes_.size()) return false;
    uint64_t tag = 0;
    if (!varint(tag) || tag >> 3 == 0) return damage();
    field = uint32_t(tag >> 3);
    value = 0;
    text = {};
    switch (tag & 7) {
      case 0:
        return varint(value) || damage();
      case 1:
        return fixed(8) || damage();
      case 5:
        return fixed(4) || damage();
      case 2: {
        uint64_t size = 0;
        if (!varint(size) || size > bytes_.size() - at_) return damage();
        text = bytes_.substr(at_, size);
        at_ += size;
        return true;
      }
      default:
        return damage();
    }
  }
  bool damaged() const { return damaged_; }
  uint32_t field = 0;
  uint64_t value = 0;     // of numbers
  std::string_view text;  // of texts and messages

 private:
  bool damage() {
    damaged_ = true;
    return false;
  }
  bool fixed(size_t size) {
    if (bytes_.size() - at_ < size) return false;
    for (size_t i = 0; i < size; ++i) value |= uint64_t(uint8_t(bytes_[at_ + i])) << (8 * i);
    at_ += size;
    return true;
  }
  bool varint(uint64_t& out) {
    out = 0;
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const uint8_t byte = uint8_t(bytes_[at_++]);
      out |= uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  std::string_view bytes_;
  size_t at_ = 0;
  bool damaged_ = false;
};

enum Packet : uint32_t {
  kTimestamp = 8,
  kSequence = 10,
  kTrackEvent = 11,
  kInternedData = 12,
  kSequenceFlags = 13,
  kDropped = 42,
  kCompressed = 50,
  kClock = 58,
  kDefaults = 59,
  kTrackDescriptor = 60,
};
constexpr uint64_t kStateCleared = 1;
constexpr uint64_t kFirstPrivateClock = 64;  // such clocks count increments

using Names = std::unordered_map<uint64_t, uint32_t>;  // iid to Trace::names

struct Sequence {
  Names categories, events, annotations, values;
  uint64_t default_track = 0, default_clock = 0;
};

struct Slice {
  uint32_t name = 0;
  bool kernel = false, copy = false;
  uint64_t track = 0, type = 0;
  uint64_t begin_ns = 0, end_ns = 0, agent = 0, queue = 0, stream = 0, correlation = 0, bytes = 0;
  int64_t grid = 0, block = 0;
};

class PerfettoReader {
 public:
  PerfettoReader(Input& input, TraceBuilder& builder) : input_(input), builder_(builder) {}
  bool read(std::string& why);

 private:
  bool next_packet(std::string_view& packet);
  void read_packet(std::string_view packet);
  void read_interned(std::string_view data, Sequence& sequence);
  void read_names(std::string_view entry, Names& names);
  void read_track(std::string_view descriptor);
  void read_event(std::string_view event, Sequence& sequence, uint64_t time, bool absolute);
  void read_annotation(std::string_view annotation, const Sequence& sequence, Slice& slice);
  void note_category(std::string_view category, Slice& slice) const;
  void add(const Slice& slice, uint64_t begin, uint64_t end);
  std::string where() const { return "byte " + std::to_string(packet_begin_); }

  Input& input_;
  TraceBuilder& builder_;
  std::unordered_map<uint64_t, Sequence> sequences_;
  std::unordered_map<uint64_t, uint32_t> tracks_;  // uuid to name
  struct Open {
    Slice slice;
    uint64_t begin = 0;
  };
  std::unordered_map<uint64_t, Open> open_;  // by track: begun, and without times of their own
  uint64_t packet_begin_ = 0, packets_ = 0;
  size_t pending_ = 0;
};

// Packets are fields 1 of the root message.
bool PerfettoReader::next_packet(std::string_view& packet) {
  input_.consume(pending_);
  pending_ = 0;
  packet_begin_ = input_.position();
  std::string_view head = input_.peek(11);
  if (head.empty()) return false;
  uint64_t size = 0;
  size_t at = 1;
  bool whole = false;
  for (int shift = 0; shift < 64 && at < head.size() && !whole; shift += 7, ++at) {
    size |= uint64_t(head[at] & 0x7f) << shift;
    whole = uint8_t(head[at]) < 0x80;
  }
  constexpr uint64_t kLargestPacket = uint64_t(64) << 20;
  if (head[0] != 0x0a || (!whole && head.size() == 11) || size > kLargestPacket) {
    builder_.warn("what lies at " + where() + " is no packet; what follows is missing");
    return false;
  }
  head = input_.peek(at + size);
  if (!whole || head.size() < at + size) {
    builder_.warn("the file ends inside the packet at " + where());
    return false;
  }
  packet = head.substr(at, size);
  pending_ = at + size;
  ++packets_;
  return true;
}

void PerfettoReader::read_names(std::string_view entry, Names& names) {
  Fields fields(entry);
  uint64_t iid = 0;
  std::string_view name;
  while (fields.next()) {
    if (fields.field == 1) iid = fields.value;
    if (fields.field == 2) name = fields.text;
  }
  names[iid] = builder_.kernel_name(name);
}

void PerfettoReader::read_interned(std::string_view data, Sequence& sequence) {
  Fields fields(data);
  while (fields.next()) {
    if (fields.field == 1) read_names(fields.text, sequence.categories);
    if (fields.field == 2) read_names(fields.text, sequence.events);
    if (fields.field == 3) read_names(fields.text, sequence.annotations);
    if (fields.field == 29) read_names(fields.text, sequence.values);
  }
}

void PerfettoReader::read_track(std::string_view descriptor) {
  Fields fields(descriptor);
  uint64_t uuid = 0;
  std::string_view name;
  while (fields.next()) {
    if (fields.field == 1) uuid = fields.value;
    if (fields.field == 2 || fields.field == 10) name = fields.text;
  }
  tracks_[uuid] = builder_.trace.names.intern(name);
}

void PerfettoReader::note_category(std::string_view category, Slice& slice) const {
  slice.kernel |= category == "kernel_dispatch";
  slice.copy |= category == "memory_copy";
}

void PerfettoReader::read_annotation(std::string_view annotation, const Sequence& sequence, Slice& slice) {
  Fields fields(annotation);
  std::string name;
  uint64_t value = 0;
  while (fields.next()) {
    if (fields.field == 1) {
      const auto found = sequence.annotations.find(fields.value);
      if (found != sequence.annotations.end()) name = builder_.trace.names[found->second];
    }
    if (fields.field == 10) name = fields.text;
    if (fields.field == 3 || fields.field == 4 || fields.field == 7) value = fields.value;
  }
  if (name == "begin_ns") slice.begin_ns = value;
  if (name == "end_ns") slice.end_ns = value;
  if (name == "agent" || name == "dst_agent") slice.agent = value;
  if (name == "queue") slice.queue = value;
  if (name == "stream_ID" || name == "stream") slice.stream = value;
  if (name == "corr_id") slice.correlation = value;
  if (name == "bytes") slice.bytes = value;
  if (name == "workgroup_size") slice.block = int64_t(value);
  if (name == "grid_size") slice.grid = int64_t(value);
}

void PerfettoReader::add(const Slice& slice, uint64_t begin, uint64_t end) {
  if (begin > uint64_t(INT64_MAX) || end > uint64_t(INT64_MAX)) {
    builder_.count("slice has times out of range and is left out",
                   "slices have times out of range and are left out", where());
    return;
  }
  TraceEvent event;
  event.kind = slice.kernel ? EventKind::kKernel : EventKind::kCopy;
  event.start_ns = int64_t(begin);
  event.end_ns = int64_t(end);
  event.name = slice.name;
  event.correlation = builder_.correlation(slice.correlation);
  Launch launch;
  launch.block = sizes_of({slice.block, 1, 1});
  launch.grid = blocks_of({slice.grid, 1, 1}, {slice.block, 1, 1});
  if (slice.block == 0) launch.block = {};
  launch.bytes = slice.bytes <= uint64_t(INT64_MAX) ? int64_t(slice.bytes) : 0;
  event.launch = builder_.trace.launches.intern(launch);
  event.lane = builder_.lane({0, slice.agent, slice.queue, slice.stream});
  builder_.add(event, [&] { return where(); });
}

void PerfettoReader::read_event(std::string_view text, Sequence& sequence, uint64_t time, bool absolute) {
  Slice slice;
  slice.track = sequence.default_track;
  const auto named = [](const Names& names, uint64_t iid) {
    const auto found = names.find(iid);
    return found == names.end() ? 0 : found->second;
  };
  Fields fields(text);
  while (fields.next()) {
    switch (fields.field) {
      case 3:
        note_category(builder_.trace.names[named(sequence.categories, fields.value)], slice);
        break;
      case 4:
        read_annotation(fields.text, sequence, slice);
        break;
      case 9:
        slice.type = fields.value;
        break;
      case 10:
        slice.name = named(sequence.events, fields.value);
        break;
      case 11:
        slice.track = fields.value;
        break;
      case 22:
        note_category(fields.text, slice);
        break;
      case 23:
        slice.name = builder_.kernel_name(fields.text);
        break;
      default:
        break;
    }
  }
  constexpr uint64_t kBegin = 1, kEnd = 2;
  const bool has_times = slice.begin_ns != 0 || slice.end_ns != 0;
  if (slice.type == kBegin && (slice.kernel || slice.copy)) {
    if (slice.name == 0) builder_.count("slice has no name", "slices have no name", where());
    if (has_times) return add(slice, slice.begin_ns, slice.end_ns);
    if (!absolute) {
      builder_.count("slice has no times and is left out", "slices have no times and are left out", where());
      return;
    }
    if (open_.contains(slice.track))
      builder_.count("slice begins inside another of its track; the outer one is left out",
                     "slices begin inside others of their tracks; the outer ones are left out", where());
    open_[slice.track] = {slice, time};
  } else if (slice.type == kEnd) {
    const auto open = open_.find(slice.track);
    if (open == open_.end()) return;
    add(open->second.slice, open->second.begin, time);
    open_.erase(open);
  }
}

void PerfettoReader::read_packet(std::string_view packet) {
  uint64_t time = 0, id = 0, flags = 0;
  std::string_view event, interned, defaults;
  std::optional<uint64_t> clock;
  bool dropped = false, has_event = false;
  Fields fields(packet);
  while (fields.next()) {
    switch (fields.field) {
      case kTimestamp:
        time = fields.value;
        break;
      case kSequence:
        id = fields.value;
        break;
      case kTrackEvent:
        event = fields.text, has_event = true;
        break;
      case kInternedData:
        interned = fields.text;
        break;
      case kSequenceFlags:
        flags = fields.value;
        break;
      case kDropped:
        dropped = fields.value != 0;
        break;
      case kClock:
        clock = fields.value;
        break;
      case kDefaults:
        defaults = fields.text;
        break;
      case kTrackDescriptor:
        read_track(fields.text);
        break;
      case kCompressed:
        builder_.count("packet is compressed and is left out", "packets are compressed and are left out",
                       where());
        break;
      default:
        break;
    }
  }
  if (fields.damaged()) builder_.count("packet is damaged", "packets are damaged", where());
  Sequence& sequence = sequences_[id];
  if ((flags & kStateCleared) != 0) sequence = {};
  // The first packet of a sequence has the mark too; it says nothing then.
  if (dropped && packets_ > 1 && (flags & kStateCleared) == 0)
    builder_.count("place where the recorder dropped packets", "places where the recorder dropped packets",
                   where());
  if (!interned.empty()) read_interned(interned, sequence);
  Fields of_defaults(defaults);
  while (of_defaults.next()) {
    if (of_defaults.field == kClock) sequence.default_clock = of_defaults.value;
    if (of_defaults.field != kTrackEvent) continue;
    Fields track(of_defaults.text);
    while (track.next())
      if (track.field == 11) sequence.default_track = track.value;
  }
  if (has_event)
    read_event(event, sequence, time, clock.value_or(sequence.default_clock) < kFirstPrivateClock);
}

bool PerfettoReader::read(std::string& why) {
  builder_.trace.format = TraceFormat::kPerfetto;
  builder_.trace.tool = "Perfetto";
  std::string_view packet;
  while (next_packet(packet)) read_packet(packet);
  if (packets_ == 0) {
    why = "it holds no whole Perfetto packet";
    return false;
  }
  if (!open_.empty()) builder_.warn(std::to_string(open_.size()) + " slices have no end and are left out");
  return true;
}

}  // namespace

bool read_perfetto(Input& input, TraceBuilder& builder, std::string& why) {
  return PerfettoReader(input, builder).read(why);
}

}  // namespace dw::profile
