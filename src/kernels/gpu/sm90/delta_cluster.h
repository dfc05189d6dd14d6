// Thread block clusters (PTX ISA: barrier.cluster). Needs sm_90.
#pragma once

#include "kernels/gpu/compat.h"

namespace dw::gpu {

DW_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// Between arrive and wait a thread may go on with work that nobody in the cluster waits for. Writes before
// arrive, to any block's shared memory too, are seen after wait.
DW_DEVICE void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
// As cluster_arrive(), where nothing but barriers made known by barriers_ready() must be seen after wait: no
// fence.
DW_DEVICE void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
DW_DEVICE void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// A hint: brings the line into L2. Reads no value, so it may come before wait_for_previous().
DW_DEVICE void prefetch_line(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

}  // namespace dw::gpu
