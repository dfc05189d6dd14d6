#include "profile/names/name_rules.h"

namespace dw::profile {
namespace {

using enum Category;

constexpr NameRule kRules[] = {
    {"norm_kernel", "dw::", "Deltawing", kNorm,
     "RMS norm, and quantises the result for the products that follow"},
    {"pack*_kernel", "dw::", "Deltawing", kQuantisedMatmul,
     "quantises activations for the products that follow"},
    {"embed_kernel", "dw::", "Deltawing", kMemory, "takes rows of the embedding"},
    {"gemv_kernel", "dw::", "Deltawing", kQuantisedMatmul,
     "matrix times few vectors, weights in the file's type"},
    {"gemm_dot4_kernel", "dw::", "Deltawing", kQuantisedMatmul, "matrix product with 8-bit dot products"},
    {"mma_gemm_kernel", "dw::", "Deltawing", kQuantisedMatmul,
     "matrix product on tensor cores, weights in the file's type"},
    {"gemm_float_kernel", "dw::", "Deltawing", kGemm, "matrix product with float weights"},
    {"attention_store_kernel", "dw::", "Deltawing", kAttention,
     "norms and rotates Q and K, writes K and V into the cache"},
    {"attention_merge_kernel", "dw::", "Deltawing", kAttention,
     "merges the parts of an attention that was split over the context"},
    {"attention_*_kernel", "dw::", "Deltawing", kAttention, "attention over the paged cache"},
    {"delta_conv_kernel", "dw::", "Deltawing", kConv, "causal convolution of the delta mixer"},
    {"delta_*_kernel", "dw::", "Deltawing", kLinearAttention, "gated delta rule"},
    {"router*_kernel", "dw::", "Deltawing", kRouting, "scores of the experts"},
    {"choose_experts_kernel", "dw::", "Deltawing", kRouting, "chooses experts"},
    {"sort_pairs_kernel", "dw::", "Deltawing", kRouting, "sorts tokens by expert"},
    {"clear_counts_kernel", "dw::", "Deltawing", kRouting, "clears counts of tokens by expert"},
    {"weigh_shared_kernel", "dw::", "Deltawing", kRouting, "gate of the shared expert"},
    {"gate_up*_kernel", "dw::", "Deltawing", kQuantisedMatmul, "gate and up projections of experts"},
    {"down*_kernel", "dw::", "Deltawing", kQuantisedMatmul, "down projection of experts"},
    {"silu_multiply_kernel", "dw::", "Deltawing", kElementwise, "SiLU times up projection"},
    {"sum_*_kernel", "dw::", "Deltawing", kElementwise, "adds up the experts' results"},
    {"sample_*_kernel", "dw::", "Deltawing", kSampling, "samples a token"},
    {"repack*_kernel", "dw::", "Deltawing", kMemory, "weights into the device's layout"},
    {"read_kernel", "dw::", "Deltawing", kMemory, "reads memory, to measure bandwidth"},
    {"*", "dw::gpu", "Deltawing", kOther, "a kernel of Deltawing"},
};

}  // namespace

std::span<const NameRule> deltawing_rules() {
  return kRules;
}

}  // namespace dw::profile
