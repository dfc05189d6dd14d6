#include "profile/names/name_rules.h"

namespace dw::profile {
namespace {

using enum Category;

constexpr NameRule kRules[] = {
    {"fused_moe_kernel_gptq_awq*", "", "vLLM or SGLang", kQuantisedMatmul,
     "product of experts with quantised weights"},
    {"fused_moe_kernel*", "", "vLLM or SGLang", kGemm, "product of experts, rows grouped by expert"},
    {"moe_align_block_size*", "", "vLLM or SGLang", kRouting, "sorts tokens by expert into blocks"},
    {"*moe_align*", "", "vLLM or SGLang", kRouting, "sorts tokens by expert into blocks"},
    {"count_and_sort_expert_tokens*", "", "vLLM or SGLang", kRouting, "sorts tokens by expert"},
    {"moe_sum*", "", "vLLM or SGLang", kRouting, "adds up the experts' results"},
    {"topkGating*", "", "vLLM or SGLang", kRouting, "softmax and choice of experts in one",
     "type, values a thread, experts"},
    {"*topk_softmax*", "", "vLLM or SGLang", kRouting, "softmax and choice of experts"},
    {"moeSoftmax", "", "vLLM or SGLang", kRouting, "softmax over experts"},
    {"moeTopK", "", "vLLM or SGLang", kRouting, "choice of experts"},
    {"grouped_topk*", "", "vLLM or SGLang", kRouting, "choice of experts by groups"},
    {"*expandInputRows*", "", "TensorRT-LLM", kRouting, "copies rows to their experts"},
    {"*finalizeMoeRouting*", "", "TensorRT-LLM", kRouting, "adds up the experts' results"},
    {"*permute*", "moe", "vLLM or SGLang", kRouting, "order of tokens by expert"},
    {"shuffleRows*", "", "vLLM or SGLang", kRouting, "order of tokens by expert"},
    {"*", "marlin_moe", "vLLM or SGLang", kQuantisedMatmul,
     "product of experts with quantised weights (Marlin)"},
    {"Marlin*", "", "vLLM or SGLang", kQuantisedMatmul, "product with quantised weights (Marlin)"},
    {"marlin*", "", "vLLM or SGLang", kQuantisedMatmul, "product with quantised weights (Marlin)"},
    {"*Marlin*", "", "vLLM or SGLang", kQuantisedMatmul, "product with quantised weights (Marlin)"},
    {"*gptq*", "", "vLLM or SGLang", kQuantisedMatmul, "product with quantised weights (GPTQ)"},
    {"*awq*", "", "vLLM or SGLang", kQuantisedMatmul, "product with quantised weights (AWQ)"},
    {"gemm_half_q_half*", "", "vLLM or SGLang", kQuantisedMatmul, "product with quantised weights (ExLlama)"},
    {"*scaled_fp8_quant*", "", "vLLM or SGLang", kQuantisedMatmul, "quantises activations to 8-bit floats"},
    {"*scaled_int8_quant*", "", "vLLM or SGLang", kQuantisedMatmul, "quantises activations to 8 bit"},
    {"*per_token_group_quant*", "", "vLLM or SGLang", kQuantisedMatmul,
     "quantises activations group by group"},
    {"*per_token_quant*", "", "vLLM or SGLang", kQuantisedMatmul, "quantises activations token by token"},
    {"_w8a8_*", "", "vLLM or SGLang", kQuantisedMatmul, "product of 8-bit matrices"},
    {"*block_fp8_matmul*", "", "vLLM or SGLang", kQuantisedMatmul,
     "product of 8-bit float matrices with scales of blocks"},
    {"*", "deep_gemm::", "DeepGEMM", kQuantisedMatmul, "product of 8-bit float matrices"},
    {"kgemm_4bit*", "", "bitsandbytes", kQuantisedMatmul, "product with 4-bit weights"},
    {"kDequantizeBlockwise*", "", "bitsandbytes", kQuantisedMatmul, "dequantises weights"},
    {"kQuantize*", "", "bitsandbytes", kQuantisedMatmul, "quantises"},
    {"fused_add_rms_norm_kernel*", "", "vLLM or SGLang", kNorm, "adds the residual, then RMS norm"},
    {"rms_norm_kernel*", "", "vLLM or SGLang", kNorm, "RMS norm"},
    {"rms_norm_static_fp8*", "", "vLLM or SGLang", kNorm, "RMS norm, and quantises the result"},
    {"*FusedAddRMSNorm*", "", "FlashInfer", kNorm, "adds the residual, then RMS norm"},
    {"*RMSNorm*", "", "FlashInfer", kNorm, "RMS norm"},
    {"*rms_norm*", "", "vLLM or SGLang", kNorm, "RMS norm"},
    {"*rmsnorm*", "", "vLLM or SGLang", kNorm, "RMS norm"},
    {"fused_qk_norm_rope*", "", "vLLM or SGLang", kNorm, "norms of Q and K, and rotary position embedding"},
    {"reshape_and_cache*", "", "vLLM or SGLang", kMemory, "writes K and V into the paged cache"},
    {"concat_and_cache*", "", "vLLM or SGLang", kMemory, "writes K and V into the paged cache"},
    {"copy_blocks_kernel*", "", "vLLM or SGLang", kMemory, "copies pages of the cache"},
    {"*store_kv_cache*", "", "vLLM or SGLang", kMemory, "writes K and V into the cache"},
    {"*set_kv_buffer*", "", "vLLM or SGLang", kMemory, "writes K and V into the cache"},
    {"create_flashinfer_kv_indices*", "", "vLLM or SGLang", kMemory, "page numbers for attention"},
    {"rotary_embedding_kernel*", "", "vLLM or SGLang", kElementwise, "rotary position embedding"},
    {"*rotary*", "", "vLLM or SGLang", kElementwise, "rotary position embedding"},
    {"act_and_mul_kernel*", "silu", "vLLM or SGLang", kElementwise,
     "SiLU of one half times the other (SwiGLU)"},
    {"act_and_mul_kernel*", "", "vLLM or SGLang", kElementwise, "activation of one half times the other"},
    {"*silu_and_mul*", "", "vLLM or SGLang", kElementwise, "SiLU of one half times the other (SwiGLU)"},
    {"*swiglu*", "", "vLLM or SGLang", kElementwise, "SwiGLU"},
    {"apply_repetition_penalties*", "", "vLLM or SGLang", kSampling, "penalties of repeated tokens"},
    {"_topk_topp*", "", "vLLM or SGLang", kSampling, "filters and samples tokens"},
    {"*TopKTopP*", "", "FlashInfer", kSampling, "filters and samples tokens"},
    {"*SamplingFromProb*", "", "FlashInfer", kSampling, "samples tokens"},
    {"*rejection*sample*", "", "vLLM or SGLang", kSampling, "accepts or rejects drafted tokens"},
    {"expand_kernel*", "", "vLLM or SGLang", kSampling, "spreads sampling parameters over drafts"},
};

}  // namespace

std::span<const NameRule> serving_rules() {
  return kRules;
}

}  // namespace dw::profile
