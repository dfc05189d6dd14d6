#include "profile/ingest/trace.h"

#include <cstring>
#include <random>

#include "base/check.h"

namespace dw::profile {
namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  const unsigned __int128 product =
      static_cast<unsigned __int128>(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xd1b54a32d192ed03u);
  return uint64_t(product) ^ uint64_t(product >> 64);
}

uint64_t hash_text(std::string_view text, uint64_t seed) {
  uint64_t state = seed ^ text.size();
  size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    state = mix(state, word);
  }
  uint64_t last = 0;
  if (i < text.size()) std::memcpy(&last, text.data() + i, text.size() - i);
  return mix(state, last ^ seed);
}

}  // namespace

std::string_view format_name(TraceFormat format) {
  switch (format) {
    case TraceFormat::kRocprofCsv:
      return "rocprof CSV";
    case TraceFormat::kRocprofStatsCsv:
      return "rocprof statistics CSV";
    case TraceFormat::kRocprofv2Csv:
      return "rocprofv2 CSV";
    case TraceFormat::kRocprofv3Csv:
      return "rocprofv3 CSV";
    case TraceFormat::kRocprofv3StatsCsv:
      return "rocprofv3 statistics CSV";
    case TraceFormat::kRocprofv3Json:
      return "rocprofv3 JSON";
    case TraceFormat::kRocpd:
      return "rocpd SQLite";
    case TraceFormat::kRpd:
      return "RPD SQLite";
    case TraceFormat::kNsysSqlite:
      return "Nsight Systems SQLite";
    case TraceFormat::kNsysTraceCsv:
      return "Nsight Systems trace CSV";
    case TraceFormat::kNsysStatsCsv:
      return "Nsight Systems statistics CSV";
    case TraceFormat::kNcuCsv:
      return "Nsight Compute CSV";
    case TraceFormat::kKineto:
      return "Kineto JSON";
    case TraceFormat::kPerfetto:
      return "Perfetto trace";
    case TraceFormat::kLibraryLog:
      return "library log";
  }
  return "";
}

NameTable::NameTable() : slots_(64) {
  seed_ =
      (uint64_t(std::random_device{}()) << 32) | std::random_device{}();  // no input can choose collisions
  names_.emplace_back();
  hashes_.push_back(0);
}

uint32_t NameTable::intern(std::string_view name) {
  if (name.empty()) return 0;
  const uint64_t hash = hash_text(name, seed_);
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    const uint32_t id = slots_[i];
    if (id == 0) return add(name, hash);
    if (hashes_[id] == hash && names_[id] == name) return id;
  }
}

uint32_t NameTable::add(std::string_view name, uint64_t hash) {
  if (bytes_ + name.size() > kLimitBytes) {
    if (overflow_ == 0) {
      overflow_ = uint32_t(names_.size());
      names_.emplace_back("(name left out)");
      hashes_.push_back(0);
    }
    return overflow_;
  }
  bytes_ += name.size() + sizeof(std::string) + 16;
  const uint32_t id = uint32_t(names_.size());
  names_.emplace_back(name);
  hashes_.push_back(hash);
  if (names_.size() * 2 > slots_.size()) {
    grow();
  } else {
    const size_t mask = slots_.size() - 1;
    size_t i = hash & mask;
    while (slots_[i] != 0) i = (i + 1) & mask;
    slots_[i] = id;
  }
  return id;
}

void NameTable::grow() {
  slots_.assign(slots_.size() * 4, 0);
  const size_t mask = slots_.size() - 1;
  for (uint32_t id = 1; id < names_.size(); ++id) {
    if (id == overflow_) continue;
    size_t i = hashes_[id] & mask;
    while (slots_[i] != 0) i = (i + 1) & mask;
    slots_[i] = id;
  }
}

size_t FieldHash::operator()(const Launch& l) const {
  uint64_t h = mix(uint64_t(l.grid[0]) << 32 | l.grid[1], uint64_t(l.grid[2]) << 32 | l.block[0]);
  h = mix(h ^ (uint64_t(l.block[1]) << 32 | l.block[2]),
          uint64_t(l.registers) << 32 ^ uint64_t(l.scalar_registers));
  return mix(h ^ uint64_t(l.shared_bytes),
             mix(uint64_t(l.scratch_bytes), uint64_t(l.bytes) ^ uint64_t(l.accumulation_registers) << 40));
}

size_t FieldHash::operator()(const Lane& l) const {
  return mix(mix(l.process, l.device), mix(l.queue, l.stream));
}

}  // namespace dw::profile
