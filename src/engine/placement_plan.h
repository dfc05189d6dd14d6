// Which blocks of a model go to the GPU and which stay on the CPU, worked out before anything is loaded.
// The GPU is preferred for everything; what does not fit stays on the CPU: first the experts of the first
// layers (they are most of the bytes and little of the work), then whole layers, as llama.cpp's --n-cpu-moe
// and -ngl do it by hand.
#pragma once

#include <cstdint>

#include "engine/memory_plan.h"
#include "model/placement.h"

namespace dw {

struct PlacementRequest {
  int32_t gpu_layers = -1;         // the last N layers, N > layers: the output head too; -1: as many as fit
  int32_t cpu_expert_layers = -1;  // experts of the first N layers stay on the CPU; -1: as few as must
  bool fit = true;                 // false: -1 means all, and what does not fit is an error
  uint64_t margin_bytes = uint64_t(1) << 30;  // left free on the GPU
};

struct PlacementPlan {
  Placement placement;  // devices: 0 the GPU, 1 the CPU
  int32_t gpu_layers = 0;
  int32_t cpu_expert_layers = 0;
  uint64_t gpu_bytes = 0;  // weights, state and workspace on the GPU
};

// gpu: gives the sizes of weights in its layout. Errors: the numbers given do not fit, with needed and free.
Expected<PlacementPlan> plan_placement(const gguf::File& file, const HyperParameters& h,
                                       const MemoryRequest& memory, const PlacementRequest& request,
                                       const Device& gpu, uint64_t free_bytes);

}  // namespace dw
