// The GPU behind the op contract: kernels/gpu on one stream of one device, weights repacked into the device's
// layout at load, decode steps replayed as graphs. CUDA or HIP, as the build says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/device.h"

namespace dw {

struct GpuOptions {
  int index = 0;       // of the devices the runtime shows
  bool graphs = true;  // replay decode steps (off: launch each kernel, for debugging and comparison)
};

struct GpuInfo {
  std::string name;          // "NVIDIA H200"
  std::string architecture;  // "sm_90", "gfx906"
  int multiprocessors = 0;
  uint64_t total_bytes = 0, free_bytes = 0;
};

// "cuda", "hip", or "" for a build without a GPU backend.
const char* gpu_backend_name();
// Error: why no device can be used (no backend in this build, no driver, no device).
Expected<std::vector<GpuInfo>> list_gpus();
// Errors: as list_gpus(); no device of that index; an architecture this build has no kernels for.
Expected<std::unique_ptr<Device>> make_gpu_device(const GpuOptions& options = {});

}  // namespace dw
