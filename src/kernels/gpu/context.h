// What a launcher needs beside its op: the stream, the batch's tables on the device, scratch memory, and a
// log of the work of each launch. Launchers live beside their kernels in this folder; they take op structs of
// kernels/ops.h whose pointers are device memory (host pointers in them are not read: the tables have it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/gpu/compat.h"
#include "kernels/gpu/weights.h"
#include "kernels/ops.h"
#include "kernels/work_record.h"

namespace dw::gpu {

#if defined(DW_GPU_HIP)
using Stream = hipStream_t;
#else
using Stream = cudaStream_t;
#endif

// One span of the batch, on the device.
struct SpanEntry {
  int32_t slot;
  int32_t first_row;
  int32_t row_count;
  int32_t position;    // of the first row
  int32_t first_page;  // into BatchTable::pages: page i of the sequence is pages[first_page + i]
};

// The batch on the device, and what launch shapes depend on, on the host. Kernels index spans by blockIdx and
// must not trust span_count to be what it was when a graph was captured: it is part of the graph's key.
struct BatchTable {
  const SpanEntry* spans = nullptr;   // device, [span_count]
  const int32_t* row_span = nullptr;  // device, [tokens]: the span of a row
  const int32_t* pages = nullptr;     // device
  int32_t span_count = 0;
  int32_t tokens = 0;
  int32_t longest_span = 0;   // rows
  int32_t context_bound = 0;  // >= position + row_count of every span; rounded up, part of a graph's key
};

struct Limits {
  int32_t multiprocessors = 1;
  uint64_t shared_bytes_block = 48 << 10;  // opt-in maximum
  int32_t architecture = 0;                // 900: sm_90; 906: gfx906
  bool overlap_launches = false;           // programmatic dependent launch
};

inline constexpr int kCounters = 64;

struct Context {
  Stream stream = nullptr;
  Limits limits;
  IqTables tables;
  BatchTable batch;
  std::byte* scratch = nullptr;  // of scratch_bytes, contents undefined between ops
  uint64_t scratch_bytes = 0;
  // Device, kCounters of them, zero between launches: a kernel whose last block does more counts its blocks
  // here and resets the count.
  uint32_t* counters = nullptr;
  int32_t layer = -1;
  std::vector<WorkRecord>* log = nullptr;  // nullptr: not recorded
};

}  // namespace dw::gpu
