#include "engine/memory_plan.h"

#include "base/units.h"
#include "kernels/cpu/moe.h"

namespace dw {

uint64_t MemoryPlan::resident_bytes() const {
  uint64_t sum = 0;
  for (const Part& part : parts) sum += part.mapped ? 0 : part.bytes;
  return sum;
}

uint64_t MemoryPlan::mapped_bytes() const {
  uint64_t sum = 0;
  for (const Part& part : parts) sum += part.mapped ? part.bytes : 0;
  return sum;
}

MemoryPlan plan_memory(const gguf::File& file, const HyperParameters& h, const MemoryRequest& request) {
  MemoryPlan plan;
  uint64_t weights = 0;
  for (const auto& tensor : file.tensors()) weights += tensor.size_bytes;
  plan.parts.push_back({"weights", weights, request.weights_mapped});
  plan.parts.push_back(
      {"KV cache", uint64_t(request.state.pages) * StateStore::page_bytes(h, request.state), false});
  plan.parts.push_back({"recurrent state", uint64_t(request.state.slots) * StateStore::slot_bytes(h), false});
  plan.parts.push_back({"snapshots", uint64_t(request.snapshots) * StateStore::slot_bytes(h), false});
  const uint64_t experts =
      cpu::MoeWorkspace::size_bytes(request.model.max_batch_tokens, h.expert_count, h.top_k, h.expert_width,
                                    h.shared_width, request.threads);
  plan.parts.push_back({"workspace", Model::workspace_bytes(h, request.model) + experts, false});
  return plan;
}

Expected<void> check_fits(const MemoryPlan& plan, uint64_t free_bytes) {
  const uint64_t needed = plan.resident_bytes();
  if (needed <= free_bytes) return {};
  std::string text = "the model does not fit: it needs " + format_bytes(needed) + " and " +
                     format_bytes(free_bytes) + " are free (";
  uint64_t largest = 0;
  std::string_view name;
  for (size_t i = 0; i < plan.parts.size(); ++i) {
    const auto& part = plan.parts[i];
    if (i > 0) text += ", ";
    text += part.name + " " + format_bytes(part.bytes) + (part.mapped ? " mapped" : "");
    if (!part.mapped && part.bytes > largest) {
      largest = part.bytes;
      name = part.name;
    }
  }
  text += "); ";
  if (name == "weights")
    text += "leave out --no-mmap, so that the weights are read from the file as they are needed";
  else if (name == "KV cache")
    text += "use a smaller context (-c), fewer sequences (-np) or --cache-type-k q8_0";
  else if (name == "workspace")
    text += "use a smaller batch (-ub)";
  else
    text += "use fewer sequences (-np)";
  return Error{text};
}

}  // namespace dw
