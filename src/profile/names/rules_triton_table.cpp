#include "profile/names/name_rules.h"

namespace dw::profile {
namespace {

using enum Category;

constexpr NameRule kRules[] = {
    {"triton_poi_fused*", "", "TorchInductor", kElementwise, "elementwise operations fused by the compiler"},
    {"triton_red_fused*", "norm", "TorchInductor", kNorm,
     "reductions and what is around them, fused by the compiler; the name speaks of a norm"},
    {"triton_red_fused*", "", "TorchInductor", kReduction,
     "reductions and what is around them, fused by the compiler"},
    {"triton_per_fused*", "norm", "TorchInductor", kNorm,
     "reductions in one block, fused by the compiler; the name speaks of a norm"},
    {"triton_per_fused*", "", "TorchInductor", kReduction, "reductions in one block, fused by the compiler"},
    {"triton_tem_fused*", "mm", "TorchInductor", kGemm, "product from a template of the compiler"},
    {"triton_tem_fused*", "attention", "TorchInductor", kAttention,
     "attention from a template of the compiler"},
    {"triton_tem_*", "", "TorchInductor", kGemm, "operation from a template of the compiler"},
    {"triton_mm*", "", "TorchInductor", kGemm, "product from a template of the compiler"},
    {"triton_bmm*", "", "TorchInductor", kGemm, "batched product from a template of the compiler"},
    {"triton_*", "", "TorchInductor", kElementwise, "operations fused by the compiler"},
    {"*matmul_kernel*", "", "Triton or other", kGemm, "matrix product"},
    {"_matmul*", "", "Triton or other", kGemm, "matrix product"},
    {"_gemm*", "", "Triton or other", kGemm, "matrix product"},
    {"*_gemm_*", "", "Triton or other", kGemm, "matrix product"},
    {"*layer_norm*", "", "Triton or other", kNorm, "layer norm"},
    {"*layernorm*", "", "Triton or other", kNorm, "layer norm"},
    {"*_norm_*", "", "Triton or other", kNorm, "norm"},
    {"*attention*", "", "Triton or other", kAttention, "attention"},
    {"*attn*", "", "Triton or other", kAttention, "attention"},
    {"*softmax*", "", "Triton or other", kReduction, "softmax"},
    {"*rope*", "", "Triton or other", kElementwise, "rotary position embedding"},
    {"*sampling*", "", "Triton or other", kSampling, "samples tokens"},
    {"*memcpy*", "", "Triton or other", kMemory, "copy"},
    {"*memset*", "", "Triton or other", kMemory, "fill"},
    {"*elementwise*", "", "Triton or other", kElementwise, "arithmetic on each element"},
};

}  // namespace

std::span<const NameRule> triton_rules() {
  return kRules;
}

}  // namespace dw::profile
