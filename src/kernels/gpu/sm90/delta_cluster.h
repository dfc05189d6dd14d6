// Thread block clusters (PTX ISA: barrier.cluster, mapa, st.shared::cluster). Needs sm_90.
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
DW_DEVICE void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// The address in block `rank` of the cluster of what lies at `local` in this block.
DW_DEVICE uint32_t remote_address(const void* local, uint32_t rank) {
  uint32_t address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(uint32_t(__cvta_generic_to_shared(local))), "r"(rank));
  return address;
}
DW_DEVICE void store_remote(float* local, uint32_t rank, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote_address(local, rank)), "f"(value) : "memory");
}
DW_DEVICE void store_remote2(float2* local, uint32_t rank, float2 value) {
  asm volatile("st.shared::cluster.v2.f32 [%0], {%1, %2};" ::"r"(remote_address(local, rank)), "f"(value.x),
               "f"(value.y)
               : "memory");
}

// A hint: brings the line into L2. Reads no value, so it may come before wait_for_previous().
DW_DEVICE void prefetch_line(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

}  // namespace dw::gpu
