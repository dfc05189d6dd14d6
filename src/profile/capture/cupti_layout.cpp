// No code: compares cupti_abi.h with the toolkit's headers when the build has them.
#if defined(DW_CUPTI_HEADERS)
#include "profile/capture/cupti_abi.h"

#include <cupti.h>

namespace dw::profile::cupti {

#define DW_SAME(ours, field, theirs, their_field) \
  static_assert(offsetof(ours, field) == offsetof(theirs, their_field), #theirs "::" #their_field)

#define DW_SAME_KERNEL(theirs)                                              \
  DW_SAME(KernelRecord, registers, theirs, registersPerThread);             \
  DW_SAME(KernelRecord, start, theirs, start);                              \
  DW_SAME(KernelRecord, end, theirs, end);                                  \
  DW_SAME(KernelRecord, device, theirs, deviceId);                          \
  DW_SAME(KernelRecord, stream, theirs, streamId);                          \
  DW_SAME(KernelRecord, grid, theirs, gridX);                               \
  DW_SAME(KernelRecord, block, theirs, blockX);                             \
  DW_SAME(KernelRecord, static_shared_bytes, theirs, staticSharedMemory);   \
  DW_SAME(KernelRecord, dynamic_shared_bytes, theirs, dynamicSharedMemory); \
  DW_SAME(KernelRecord, correlation, theirs, correlationId);                \
  DW_SAME(KernelRecord, name, theirs, name);                                \
  DW_SAME(KernelRecord, graph_node, theirs, graphNodeId)

#define DW_SAME_COPY(theirs)                                 \
  DW_SAME(MemcpyRecord, copy_kind, theirs, copyKind);        \
  DW_SAME(MemcpyRecord, bytes, theirs, bytes);               \
  DW_SAME(MemcpyRecord, start, theirs, start);               \
  DW_SAME(MemcpyRecord, end, theirs, end);                   \
  DW_SAME(MemcpyRecord, device, theirs, deviceId);           \
  DW_SAME(MemcpyRecord, stream, theirs, streamId);           \
  DW_SAME(MemcpyRecord, correlation, theirs, correlationId); \
  DW_SAME(MemcpyRecord, graph_node, theirs, graphNodeId)

DW_SAME_KERNEL(CUpti_ActivityKernel9);
DW_SAME_COPY(CUpti_ActivityMemcpy5);
#if CUPTI_API_VERSION >= 130000
DW_SAME_KERNEL(CUpti_ActivityKernel10);
DW_SAME_COPY(CUpti_ActivityMemcpy6);
#endif
DW_SAME(MemsetRecord, value, CUpti_ActivityMemset4, value);
DW_SAME(MemsetRecord, bytes, CUpti_ActivityMemset4, bytes);
DW_SAME(MemsetRecord, start, CUpti_ActivityMemset4, start);
DW_SAME(MemsetRecord, end, CUpti_ActivityMemset4, end);
DW_SAME(MemsetRecord, device, CUpti_ActivityMemset4, deviceId);
DW_SAME(MemsetRecord, stream, CUpti_ActivityMemset4, streamId);
DW_SAME(MemsetRecord, correlation, CUpti_ActivityMemset4, correlationId);
DW_SAME(MemsetRecord, graph_node, CUpti_ActivityMemset4, graphNodeId);
static_assert(int(kMemcpy) == CUPTI_ACTIVITY_KIND_MEMCPY && int(kMemset) == CUPTI_ACTIVITY_KIND_MEMSET &&
              int(kConcurrentKernel) == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
static_assert(kSuccess == CUPTI_SUCCESS && kEndOfBuffer == CUPTI_ERROR_MAX_LIMIT_REACHED &&
              kFlushForced == CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);

}  // namespace dw::profile::cupti
#endif
