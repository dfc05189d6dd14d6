// launch(): a kernel on the context's stream, its work logged, errors checked. With overlap the kernel may
// start while its predecessor still runs (compat.h: wait_for_previous).
#pragma once

#include <utility>

#include "kernels/gpu/context.h"

namespace dw::gpu {

// GPU API calls are always checked: prints what failed and the runtime's words, then aborts.
#if defined(DW_GPU_HIP)
using RuntimeStatus = hipError_t;
inline const char* status_text(RuntimeStatus status) {
  return hipGetErrorString(status);
}
inline constexpr RuntimeStatus kRuntimeOk = hipSuccess;
#else
using RuntimeStatus = cudaError_t;
inline const char* status_text(RuntimeStatus status) {
  return cudaGetErrorString(status);
}
inline constexpr RuntimeStatus kRuntimeOk = cudaSuccess;
#endif
[[noreturn]] void runtime_failed(const char* what, const char* reason);  // device.cu
inline void check_runtime(RuntimeStatus status, const char* what) {
  if (status != kRuntimeOk) runtime_failed(what, status_text(status));
}

template <class... Parameters, class... Arguments>
void launch(Context& context, const char* name, const Work& work, void (*kernel)(Parameters...), dim3 grid,
            dim3 block, size_t shared_bytes, Arguments&&... arguments) {
  if (context.log != nullptr) context.log->push_back({work, context.layer, name});
#if defined(DW_GPU_HIP)
  kernel<<<grid, block, shared_bytes, context.stream>>>(static_cast<Parameters>(arguments)...);
  check_runtime(hipGetLastError(), name);
#else
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream;
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &overlap;
  config.numAttrs = context.limits.overlap_launches ? 1 : 0;
  check_runtime(
      cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...),
      name);
#endif
}

// Lets a kernel use more than 48 KiB of dynamic shared memory a block (once a kernel is enough, more is
// fine).
template <class... Parameters>
void allow_shared_bytes(void (*kernel)(Parameters...), size_t bytes) {
#if defined(DW_GPU_CUDA)
  if (bytes > 48 << 10)
    check_runtime(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
                  "cudaFuncSetAttribute");
#else
  (void)kernel;
  (void)bytes;
#endif
}

inline uint32_t ceil_div(int64_t a, int64_t b) {
  return uint32_t((a + b - 1) / b);
}

}  // namespace dw::gpu
