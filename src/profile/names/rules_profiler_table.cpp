#include "profile/names/name_rules.h"

namespace dw::profile {
namespace {

using enum Category;

constexpr NameRule kRules[] = {
    {"copy host to device", "", "runtime", kMemory, "copy from host to device"},
    {"copy device to host", "", "runtime", kMemory, "copy from device to host"},
    {"copy", "", "runtime", kMemory, "copy"},
    {"copy on device", "", "runtime", kMemory, "copy on the device"},
    {"copy * to *", "", "runtime", kMemory, "copy"},
    {"fill", "", "runtime", kMemory, "fill"},
    {"Memcpy HtoD*", "", "runtime", kMemory, "copy from host to device"},
    {"Memcpy DtoH*", "", "runtime", kMemory, "copy from device to host"},
    {"Memcpy DtoD*", "", "runtime", kMemory, "copy on the device"},
    {"Memcpy PtoP*", "", "runtime", kMemory, "copy between devices"},
    {"Memcpy*", "", "runtime", kMemory, "copy"},
    {"Memset*", "", "runtime", kMemory, "fill"},
    {"*", "[CUDA memcpy", "runtime", kMemory, "copy"},
    {"*", "[CUDA memset", "runtime", kMemory, "fill"},
    {"CopyHostToDevice", "", "runtime", kMemory, "copy from host to device"},
    {"CopyDeviceToHost", "", "runtime", kMemory, "copy from device to host"},
    {"CopyDeviceToDevice", "", "runtime", kMemory, "copy on the device"},
    {"Copy*To*", "", "runtime", kMemory, "copy"},
    {"FillBuffer*", "", "runtime", kMemory, "fill"},
    {"CopyBuffer*", "", "runtime", kMemory, "copy"},
    {"MEMORY_COPY_HOST_TO_DEVICE", "", "runtime", kMemory, "copy from host to device"},
    {"MEMORY_COPY_DEVICE_TO_HOST", "", "runtime", kMemory, "copy from device to host"},
    {"MEMORY_COPY*", "", "runtime", kMemory, "copy"},
    {"hipMemcpy*", "", "runtime", kMemory, "copy"},
    {"hipMemset*", "", "runtime", kMemory, "fill"},
    {"cudaMemcpy*", "", "runtime", kMemory, "copy"},
    {"cudaMemset*", "", "runtime", kMemory, "fill"},
    {"__amd_rocclr_copyBuffer*", "", "runtime", kMemory, "copy by a kernel of the HIP runtime"},
    {"__amd_rocclr_fillBuffer*", "", "runtime", kMemory, "fill by a kernel of the HIP runtime"},
    {"__amd_rocclr_*", "", "runtime", kMemory, "copy or fill by a kernel of the HIP runtime"},
};

}  // namespace

std::span<const NameRule> profiler_rules() {
  return kRules;
}

}  // namespace dw::profile
