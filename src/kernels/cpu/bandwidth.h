// What the memory of this machine gives: the yardstick of the CPU benchmarks.
#pragma once

#include "base/thread_pool.h"

namespace dw::cpu {

// Bytes per second of reading a buffer much larger than the caches with all threads of the pool, the best of
// a few rounds (about half a second in all). 0 when the buffer cannot be allocated.
double measure_read_bandwidth(ThreadPool& pool);

}  // namespace dw::cpu
