#include "backend/host_memory.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>

#include "base/units.h"

namespace dw {

Expected<void*> allocate_host_memory(uint64_t size_bytes) {
  constexpr uint64_t kAlignment = 64;  // a cache line
  constexpr uint64_t kLargest = std::numeric_limits<uint64_t>::max() / 4;
  void* data = nullptr;
  if (size_bytes <= kLargest) {
    // aligned_alloc wants a whole number of alignments, and something even for an empty buffer.
    const uint64_t lines = size_bytes / kAlignment + 1;
    data = std::aligned_alloc(kAlignment, size_t(lines * kAlignment));
  }
  if (data == nullptr) {
    return make_error("cannot allocate ", format_bytes(size_bytes), " of host memory (",
                      format_bytes(host_memory_info().free_bytes), " are free)");
  }
  std::memset(data, 0, size_t(size_bytes));
  return data;
}

void free_host_memory(void* data) {
  std::free(data);
}

MemoryInfo host_memory_info() {
  MemoryInfo info;
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  uint64_t kib = 0;
  while (file >> key >> kib) {
    std::getline(file, unit);
    if (key == "MemTotal:") info.total_bytes = kib * 1024;
    if (key == "MemAvailable:") info.free_bytes = kib * 1024;
  }
  return info;
}

}  // namespace dw
