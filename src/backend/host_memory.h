// Memory of the host for the devices that compute there (reference, cpu): zeroed, aligned to a cache line.
#pragma once

#include <cstdint>

#include "backend/device.h"
#include "base/expected.h"

namespace dw {

// Freed with free_host_memory. Errors: the system has not that much.
Expected<void*> allocate_host_memory(uint64_t size_bytes);
void free_host_memory(void* data);
// Physical memory, and what can be had without swapping; zeros where the system does not say.
MemoryInfo host_memory_info();

}  // namespace dw
