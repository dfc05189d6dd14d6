// Stands in for the rest of this folder in a build without a GPU toolkit.
#include "backend/gpu_device.h"

namespace dw {

const char* gpu_backend_name() {
  return "";
}

Expected<std::vector<GpuInfo>> list_gpus() {
  return make_error("this build has no GPU backend (the CUDA toolkit was not found when it was configured)");
}

Expected<std::unique_ptr<Device>> make_gpu_device(const GpuOptions&) {
  return list_gpus().error();
}

}  // namespace dw
