// The part of CUPTI's binary interface that cupti.cpp uses, declared here so that a build needs no CUPTI and
// the program runs with the library of any CUDA 12 or 13. Of the records only the leading fields are
// declared: they lie at the same places in every version from CUDA 12.0 on (libraries before that are
// refused by version). cupti_layout.cpp compares all of this with the toolkit's headers where they exist.
// Source: CUPTI's documentation, chapter "Activity API".
#pragma once

#include <cstddef>
#include <cstdint>

namespace dw::profile::cupti {

inline constexpr uint32_t kOldestVersion = 19;  // CUDA 12.0
inline constexpr int kSuccess = 0;
inline constexpr int kEndOfBuffer = 12;  // CUPTI_ERROR_MAX_LIMIT_REACHED
inline constexpr uint32_t kFlushForced = 1;
enum RecordKind : int { kMemcpy = 1, kMemset = 2, kConcurrentKernel = 10 };

struct Record {
  int32_t kind;
};

struct KernelRecord {
  int32_t kind;
  uint8_t cache_config;
  uint8_t shared_memory_config;
  uint16_t registers;
  int32_t partitioned_requested, partitioned_executed;
  uint64_t start, end, completed;
  uint32_t device, context, stream;
  int32_t grid[3], block[3];
  int32_t static_shared_bytes, dynamic_shared_bytes;
  uint32_t local_bytes_thread, local_bytes;
  uint32_t correlation;
  int64_t grid_id;
  const char* name;
  void* reserved;
  uint64_t queued, submitted;
  uint8_t launch_type;
  uint8_t carveout[3];
  uint32_t shared_bytes_executed;
  uint64_t graph_node;
};

struct MemcpyRecord {
  int32_t kind;
  uint8_t copy_kind, from_kind, to_kind, flags;
  uint64_t bytes, start, end;
  uint32_t device, context, stream, correlation, runtime_correlation, pad;
  void* reserved;
  uint64_t graph_node;
};

struct MemsetRecord {
  int32_t kind;
  uint32_t value;
  uint64_t bytes, start, end;
  uint32_t device, context, stream, correlation;
  uint16_t flags, memory_kind;
  uint32_t pad;
  void* reserved;
  uint64_t graph_node;
};

using BufferRequested = void (*)(uint8_t** buffer, size_t* bytes, size_t* most_records);
using BufferCompleted = void (*)(void* context, uint32_t stream, uint8_t* buffer, size_t bytes, size_t valid);

struct Functions {
  int (*get_version)(uint32_t* version) = nullptr;
  int (*result_string)(int result, const char** text) = nullptr;
  int (*enable)(int kind) = nullptr;
  int (*disable)(int kind) = nullptr;
  int (*register_callbacks)(BufferRequested requested, BufferCompleted completed) = nullptr;
  int (*flush_all)(uint32_t flags) = nullptr;
  int (*next_record)(uint8_t* buffer, size_t valid, Record** record) = nullptr;
  int (*dropped_records)(void* context, uint32_t stream, size_t* count) = nullptr;
};

}  // namespace dw::profile::cupti
