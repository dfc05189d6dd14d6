#include "profile/names/name_rules.h"

namespace dw::profile {
namespace {

using enum Category;

constexpr NameRule kRules[] = {
    {"ncclDevKernel_Generic*", "", "NCCL or RCCL", kCommunication,
     "collective whose kind the name does not tell (several share this kernel)"},
    {"ncclDevKernel*", "", "NCCL or RCCL", kCommunication, "collective", "", NameReader::kCollective},
    {"ncclKernel*", "", "NCCL or RCCL", kCommunication, "collective", "", NameReader::kCollective},
    {"rcclDevKernel*", "", "RCCL", kCommunication, "collective", "", NameReader::kCollective},
    {"msccl*", "", "RCCL", kCommunication, "collective"},
    {"cross_device_reduce_*", "", "vLLM", kCommunication, "all-reduce over peer memory"},
    {"*oneShotAllReduce*", "", "TensorRT-LLM", kCommunication, "all-reduce in one step over peer memory"},
    {"*twoShotAllReduce*", "", "TensorRT-LLM", kCommunication, "all-reduce in two steps over peer memory"},
    {"*one_shot_all_reduce*", "", "PyTorch", kCommunication, "all-reduce in one step over peer memory"},
    {"*two_shot_all_reduce*", "", "PyTorch", kCommunication, "all-reduce in two steps over peer memory"},
    {"*multimem_all_*", "", "PyTorch", kCommunication, "collective in the switch"},
    {"*allreduce*", "", "communication", kCommunication, "all-reduce"},
    {"*all_reduce*", "", "communication", kCommunication, "all-reduce"},
    {"*AllReduce*", "", "communication", kCommunication, "all-reduce"},
    {"*reduce_scatter*", "", "communication", kCommunication, "reduce-scatter"},
    {"*all_gather*", "", "communication", kCommunication, "all-gather"},
    {"*all_to_all*", "", "communication", kCommunication, "all-to-all"},
    {"nvshmem*", "", "NVSHMEM", kCommunication, "transfer between devices"},
    {"*", "deep_ep::", "DeepEP", kCommunication, "tokens to and from the experts' devices"},
};

}  // namespace

std::span<const NameRule> communication_rules() {
  return kRules;
}

}  // namespace dw::profile
