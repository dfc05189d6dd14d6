#include "engine/placement_plan.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/units.h"

namespace dw {
namespace {

// Bytes of each part of the model in the GPU's layout.
struct Sizes {
  std::vector<uint64_t> mixer, experts;  // by block
  uint64_t embedding = 0, head = 0;
};

bool of_experts(std::string_view name) {
  return name.find(".ffn_") != std::string_view::npos ||
         name.find("post_attention_norm") != std::string_view::npos;
}

Sizes measure(const gguf::File& file, const HyperParameters& h, const MemoryRequest& memory,
              const Device& gpu) {
  const int32_t blocks = h.layer_count() + h.mtp_layers;
  Sizes sizes;
  sizes.mixer.resize(size_t(blocks));
  sizes.experts.resize(size_t(blocks));
  bool untied = false;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const ops::Matrix matrix{tensor.type, tensor.data, int64_t(tensor.shape[1]), int64_t(tensor.shape[0]),
                             int64_t(tensor.shape[2] * tensor.shape[3])};
    const uint64_t bytes =
        quant::type_info(tensor.type).dequantize == nullptr ? tensor.size_bytes : gpu.import_bytes(matrix);
    const std::string_view name = tensor.name;
    if (name.starts_with("blk.")) {
      const int32_t block = std::atoi(tensor.name.c_str() + 4);
      if (block >= 0 && block < blocks)
        (of_experts(name) ? sizes.experts : sizes.mixer)[size_t(block)] += bytes;
    } else if (name.starts_with("token_embd")) {
      sizes.embedding += bytes;
    } else {
      sizes.head += bytes;
      untied = untied || name == "output.weight";
    }
  }
  if (!untied) sizes.head += sizes.embedding;  // counted twice when both lie there: the safe side
  const StateOptions& o = memory.state;
  const uint64_t caches = uint64_t(std::max(1, h.attention_layer_count() + h.mtp_layers));
  const uint64_t cache = uint64_t(o.pages) * StateStore::page_bytes(h, o) / caches;
  const uint64_t states = uint64_t(std::max(1, h.recurrent_layer_count()));
  const uint64_t state = uint64_t(o.slots) * StateStore::slot_bytes(h) / states;
  for (int32_t i = 0; i < blocks; ++i)
    sizes.mixer[size_t(i)] += i < h.layer_count() && h.recurrent[size_t(i)] ? state : cache;
  return sizes;
}

Placement place(const HyperParameters& h, int32_t gpu_layers, int32_t cpu_expert_layers) {
  const int32_t layers = h.layer_count(), blocks = layers + h.mtp_layers;
  Placement p = Placement::all_on(0, blocks);
  const int32_t first = std::max(0, layers - gpu_layers);
  for (int32_t i = 0; i < layers; ++i) {
    p.mixer[size_t(i)] = i < first ? 1 : 0;
    p.experts[size_t(i)] = i < first || i < cpu_expert_layers ? 1 : 0;
  }
  p.embedding = p.mixer[0];
  p.head = gpu_layers > layers ? 0 : 1;
  for (int32_t i = layers; i < blocks; ++i) p.mixer[size_t(i)] = p.experts[size_t(i)] = p.head;
  return p;
}

uint64_t bytes_on_gpu(const Sizes& sizes, const Placement& p, uint64_t workspace) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < p.mixer.size(); ++i)
    bytes += (p.mixer[i] == 0 ? sizes.mixer[i] : 0) + (p.experts[i] == 0 ? sizes.experts[i] : 0);
  bytes += (p.embedding == 0 ? sizes.embedding : 0) + (p.head == 0 ? sizes.head : 0);
  return bytes == 0 ? 0 : bytes + workspace;
}

}  // namespace

Expected<PlacementPlan> plan_placement(const gguf::File& file, const HyperParameters& h,
                                       const MemoryRequest& memory, const PlacementRequest& request,
                                       const Device& gpu, uint64_t free_bytes) {
  const Sizes sizes = measure(file, h, memory, gpu);
  const uint64_t workspace = Model::workspace_bytes(h, memory.model);
  const int32_t layers = h.layer_count();
  PlacementPlan plan;
  plan.gpu_layers = request.gpu_layers < 0 ? layers + 1 : std::min(request.gpu_layers, layers + 1);
  plan.cpu_expert_layers = std::clamp(request.cpu_expert_layers, 0, layers);
  const auto fits = [&] {
    plan.placement = place(h, plan.gpu_layers, plan.cpu_expert_layers);
    plan.gpu_bytes = bytes_on_gpu(sizes, plan.placement, workspace);
    return plan.gpu_bytes == 0 || plan.gpu_bytes + request.margin_bytes <= free_bytes;
  };
  if (fits()) return plan;
  const uint64_t wanted = plan.gpu_bytes;
  if (request.fit && request.cpu_expert_layers < 0)
    while (plan.cpu_expert_layers < layers) {
      ++plan.cpu_expert_layers;
      if (fits()) return plan;
    }
  if (request.fit && request.gpu_layers < 0)
    while (plan.gpu_layers > 0) {
      --plan.gpu_layers;
      if (fits()) return plan;
    }
  return make_error(
      "the model does not fit on the GPU: it needs ", format_bytes(wanted), " and ", format_bytes(free_bytes),
      " are free (", format_bytes(request.margin_bytes),
      " of them kept free); use --fit on, a smaller -ngl, a larger --n-cpu-moe, a smaller context "
      "(-c), fewer sequences (-np) or --device cpu");
}

}  // namespace dw
