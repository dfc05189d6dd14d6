// Which devices an engine opens and what of the model goes where.
#include <algorithm>

#include "engine/engine.h"

namespace dw {

// The device asked for; behind a GPU the CPU, for what does not fit.
Expected<void> Engine::open_devices() {
  std::string& name = options_.device;
  if (name == "auto") name = options_.placement.gpu_layers != 0 && list_gpus() ? "gpu" : "cpu";
  if (name == "reference") {
    devices_.push_back(make_reference_device());
    return {};
  }
  if (name == "gpu" || (name == gpu_backend_name() && !name.empty())) {
    auto gpu = make_gpu_device(options_.gpu);
    if (!gpu) return gpu.error();
    devices_.push_back(std::move(*gpu));
  } else if (name != "cpu") {
    return make_error("the device '", name, "' is unknown; use auto, cpu, gpu or reference");
  }
  auto cpu = make_cpu_device(options_.cpu);
  if (!cpu) return cpu.error();
  devices_.push_back(std::move(*cpu));
  return {};
}

Expected<void> Engine::place_model(const HyperParameters& h, const MemoryRequest& request) {
  if (devices_.size() == 2) {
    const Device& gpu = *devices_[0];
    auto plan = plan_placement(*file_, h, request, options_.placement, gpu, gpu.memory().free_bytes);
    if (!plan) return plan.error();
    placement_ = std::move(plan->placement);
  } else {
    placement_ = Placement::all_on(0, h.layer_count() + h.mtp_layers);
  }
  return check_memory(h, request);
}

// Whether weights are used where the file lies: not when all of them are on the GPU.
bool Engine::uses_host_weights() const {
  return devices_.size() == 1 || !placement_.on_one_device() || placement_.head != 0;
}

// What must fit in the memory of the host.
Expected<void> Engine::check_memory(const HyperParameters& h, const MemoryRequest& request) {
  plan_ = plan_memory(*file_, h, request);
  if (!uses_host_weights())
    std::erase_if(plan_.parts, [](const auto& part) {
      return part.name == "KV cache" || part.name == "recurrent state" || part.name == "workspace";
    });
  return check_fits(plan_, devices_.back()->memory().free_bytes);
}

std::string Engine::device_description() const {
  return devices_[0]->description();
}

std::string Engine::placement_description() const {
  if (placement_.on_one_device()) return {};
  const auto on_gpu = [](const std::vector<int32_t>& blocks) {
    return std::count(blocks.begin(), blocks.end(), 0);
  };
  return "on the GPU: " + std::to_string(on_gpu(placement_.mixer)) + " mixers and the experts of " +
         std::to_string(on_gpu(placement_.experts)) + " of " + std::to_string(placement_.mixer.size()) +
         " blocks" + (placement_.head == 0 ? ", and the output head" : "") + "; the rest on the CPU";
}

}  // namespace dw
