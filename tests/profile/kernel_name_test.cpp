#include "profile/names/kernel_name.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "profile/names/demangle.h"
#include "profile/names/name_readers.h"
#include "profile/names/name_rules.h"

namespace dw::profile {
namespace {

struct NameCase {
  const char *name, *family;
  Category category;
  const char* says;  // part of the words
};

using enum Category;

const NameCase kNames[] = {
    {"sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_"
     "kernel__5x_cublas",
     "cuBLAS", kGemm, "tile 128x128x64"},
    {"nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTN", "cuBLAS", kGemm, "cluster 1x2"},
    {"ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_64x4_tn", "cuBLAS", kGemm,
     "f32 sums, tensor cores 16x8x16"},
    {"volta_sgemm_32x128_nt", "cuBLAS", kGemm, "B transposed"},
    {"void "
     "cutlass::Kernel2<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(cutlass_80_simt_sgemm_128x32_8x5_nn_"
     "align1::Params)",
     "CUTLASS", kGemm, "tile 128x32"},
    {"void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4, false>(float)", "cuBLAS",
     kGemm, "vector"},
    {"void mul_mat_q<(ggml_type)10, 128, false>(char const*, int const*)", "ggml", kQuantisedMatmul,
     "type Q2_K"},
    {"void mul_mat_q<(ggml_type)10, (int)128, (bool)0>(char const*) [clone .kd]", "ggml", kQuantisedMatmul,
     "columns of a tile 128, checks edges false"},
    {"_Z9mul_mat_qIL9ggml_type12ELi64ELb0EEvPKcPKiS4_S4_PfS5_iiiiiiiiiiiiiiiii", "ggml", kQuantisedMatmul,
     "type Q4_K"},
    {"void mul_mat_vec_q<(ggml_type)14, 1, true, false>(void const*)", "ggml", kQuantisedMatmul, "vectors 1"},
    {"void mul_mat_vec_f<__half, float, 1, 256, false, false>(__half const*)", "ggml", kGemm, "type __half"},
    {"void flash_attn_tile<256, 256, 4, 8, false>(char const*)", "ggml", kAttention, "head size of K 256"},
    {"void flash_attn_ext_vec<128, 1, (ggml_type)1, (ggml_type)8, false>(char const*)", "ggml", kAttention,
     "type of V Q8_0"},
    {"void gated_delta_net_cuda<128, false, true>(float const*)", "ggml", kLinearAttention,
     "state columns 128"},
    {"void ssm_conv_f32<true, 128ul, 4ul>(float const*)", "ggml", kConv, "taps 4"},
    {"void rms_norm_f32<1024, true, false>(float const*)", "ggml", kNorm, "threads 1024"},
    {"void k_bin_bcast<&(op_mul(float, float)), float, float, float>(float const*)", "ggml", kElementwise,
     "multiply"},
    {"quantize_q8_1(float const*, void*, long)", "ggml", kQuantisedMatmul, "activations"},
    {"void quantize_mmq_q8_1<(mmq_q8_1_ds_layout)0>(float const*)", "ggml", kQuantisedMatmul,
     "matrix products"},
    {"concat_f32_dim0(float const*, float const*, float*, int, int)", "ggml", kMemory, "concatenates"},
    {"pad_f32(float const*, float*)", "ggml", kMemory, "pads"},
    {"void soft_max_f32<true, 0, 0, __half>(float const*)", "ggml", kReduction, "softmax"},
    {"void topk_moe_cuda<512, true>(float const*)", "ggml", kRouting, "experts 512"},
    {"void k_argsort_f32_i32<(ggml_sort_order)1>(float const*, int*)", "ggml", kRouting, "sorts"},
    {"void rope_neox<true, false, float, float>(float const*)", "ggml", kElementwise, "rotary"},
    {"void k_get_rows_float<float, float>(float const*)", "ggml", kMemory, "rows"},
    {"void mm_ids_helper<8>(int const*)", "ggml", kRouting, "expert"},
    {"void unary_op_kernel<&(op_silu(float)), float>(float const*)", "ggml", kElementwise, "SiLU"},
    {"void l2_norm_f32<32>(float const*)", "ggml", kNorm, "unit length"},
    {"scale_f32(float const*, float*, float, float, long)", "ggml", kElementwise, "multiplies"},
    {"void cumsum_kernel<float>(float const*)", "ggml", kReduction, "running"},
    {"void tri_kernel<float, true, 0>(float const*)", "ggml", kElementwise, "triangle"},
    {"void solve_tri_f32_fast<64, 64>(float const*)", "ggml", kLinearAttention, "triangular"},
    {"void cpy_scalar<&(cpy_1_scalar(char const*, char*))>(char const*)", "ggml", kMemory, "copy"},
    {"void flash::flash_fwd_kernel<flash::Flash_fwd_kernel_traits<128, 64, 32, 4>, "
     "false>(flash::Flash_fwd_params)",
     "FlashAttention", kAttention, "head size 128, queries of a tile 64"},
    {"chunk_gated_delta_rule_fwd_kernel_h_blockdim64", "FLA", kLinearAttention, "states"},
    {"fused_recurrent_gated_delta_rule_fwd_kernel", "FLA", kLinearAttention, "token by token"},
    {"_causal_conv1d_update_kernel", "FLA", kConv, "causal"},
    {"triton_poi_fused_add_mul_silu_3", "TorchInductor", kElementwise, "operations add_mul_silu"},
    {"triton_red_fused__to_copy_mean_mul_pow_0", "TorchInductor", kReduction, "reductions"},
    {"fused_moe_kernel", "vLLM or SGLang", kGemm, "experts"},
    {"void vllm::moe::topkGating<8, 512, 4, 16, 32, int>(float const*)", "vLLM or SGLang", kRouting,
     "experts"},
    {"void vllm::rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*)", "vLLM or SGLang", kNorm, "RMS"},
    {"void vllm::reshape_and_cache_flash_kernel<unsigned short>(unsigned short const*)", "vLLM or SGLang",
     kMemory, "cache"},
    {"void vllm::paged_attention_v2_kernel<float, 128>(float*)", "vLLM", kAttention, "paged"},
    {"void marlin::Marlin<__half, 256, 1, 8, 8>(int4 const*)", "vLLM or SGLang", kQuantisedMatmul, "Marlin"},
    {"void marlin_moe_wna16::Marlin<__half, 256>(int4 const*)", "vLLM or SGLang", kQuantisedMatmul,
     "experts"},
    {"ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "NCCL or RCCL",
     kCommunication, "reduction Sum (sum), type bf16, algorithm RING"},
    {"ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)", "NCCL or RCCL", kCommunication,
     "does not tell"},
    {"void vllm::cross_device_reduce_1stage<__half, 2>(RankData*)", "vLLM", kCommunication, "all-reduce"},
    {"void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, "
     "std::array<char*, 3ul> >(int)",
     "PyTorch", kElementwise, "add"},
    {"void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<long>, std::array<char*, "
     "1ul> >(int)",
     "PyTorch", kMemory, "fill"},
    {"void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, "
     "float>>>(int)",
     "PyTorch", kReduction, "mean"},
    {"void at::native::index_elementwise_kernel<128, 4, "
     "at::native::gpu_index_kernel<at::native::index_kernel_impl>>(long)",
     "PyTorch", kMemory, "by index"},
    {"void at::native::elementwise_kernel<128, 4, "
     "at::native::gpu_kernel_impl_nocast<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)>>(int)",
     "PyTorch", kMemory, "copy"},
    {"void rocprim::detail::transform_kernel<rocprim::detail::config, unsigned long>(unsigned long)",
     "rocPRIM", kElementwise, "each element"},
    {"void cub::DeviceRadixSortOnesweepKernel<cub::Policy, false>(int*)", "CUB", kReduction, "sort"},
    {"void cudnn::bn_fw_tr_1C11_singleread<float, 512, true, 1, 2, 0>(cudnn::args)", "cuDNN", kNorm,
     "batch norm"},
    {"MIOpenConvUni.kd", "MIOpen", kConv, "convolution"},
    {"dw::gpu::(anonymous namespace)::norm_kernel(dw::ops::Norm, int const*)", "Deltawing", kNorm, "RMS"},
    {"void dw::gpu::(anonymous namespace)::gemv_kernel<4>(dw::gpu::GemvArguments)", "Deltawing",
     kQuantisedMatmul, "vectors"},
    {"Memcpy HtoD (Pageable -> Device)", "runtime", kMemory, "host to device"},
    {"Memset (Device)", "runtime", kMemory, "fill"},
    {"[CUDA memcpy Device-to-Host]", "runtime", kMemory, "copy"},
    {"CopyDeviceToHost", "runtime", kMemory, "device to host"},
    {"copy host to device", "runtime", kMemory, "host to device"},
    {"__amd_rocclr_fillBufferAligned.kd", "runtime", kMemory, "HIP runtime"},
    {"Cijk_Alik_Bljk_SB_MT64x32x16_SN_ISA906_KLA_WG8_8_2 [clone .kd]", "rocBLAS", kGemm,
     "assembly for gfx906"},
    {"frobnicate_everything", "unknown", kOther, "not recognised"},
};

TEST(KernelNames, AreRecognised) {
  for (const NameCase& c : kNames) {
    const KernelName name = describe(c.name);
    EXPECT_EQ(name.family, c.family) << c.name;
    EXPECT_EQ(category_name(name.category), category_name(c.category)) << c.name;
    EXPECT_NE(name.words.find(c.says), std::string::npos) << c.name << ": " << name.words;
    EXPECT_FALSE(name.short_name.empty()) << c.name;
  }
}

TEST(KernelNames, CategoriesAreThoseOfTheReports) {
  std::string text;
  for (const Category category : all_categories()) text += std::string(category_name(category)) + ", ";
  EXPECT_EQ(
      text,
      "GEMM, quantised matmul, attention, linear attention, conv, norm, elementwise, memory, reduction, "
      "routing, communication, sampling, other, ");
}

// A rule that another one before it always takes its names from would be dead.
TEST(KernelNames, NoRuleStandsTwice) {
  for (const auto& table : rule_tables()) {
    std::set<std::pair<std::string_view, std::string_view>> seen;
    for (const NameRule& rule : table) {
      EXPECT_TRUE(seen.insert({rule.own, rule.inside}).second) << rule.own << " with " << rule.inside;
      EXPECT_FALSE(rule.words.empty() || rule.family.empty()) << rule.own;
    }
  }
}

TEST(KernelNames, PatternsFit) {
  EXPECT_TRUE(fits("abc", "abc"));
  EXPECT_FALSE(fits("abcd", "abc"));
  EXPECT_TRUE(fits("abcd", "abc*"));
  EXPECT_TRUE(fits("xabc", "*abc"));
  EXPECT_TRUE(fits("a1b2c", "a*b*c"));
  EXPECT_FALSE(fits("a1c2b", "a*b*c"));
  EXPECT_FALSE(fits("ab", "ab*b"));
  EXPECT_TRUE(fits("", "*"));
}

TEST(KernelNames, SurvivesWhatIsNoName) {
  for (const NameCase& c : kNames) {  // cut anywhere
    const std::string_view whole = c.name;
    for (size_t length = 0; length < whole.size(); ++length) describe(whole.substr(0, length));
  }
  std::string binary(512, '\0');
  for (size_t i = 0; i < binary.size(); ++i) binary[i] = char(i * 37 + 11);
  const KernelName name = describe(binary);
  EXPECT_LE(name.short_name.size(), 64u);
  for (const char c : name.short_name) EXPECT_TRUE(c >= ' ' && c <= '~');
  EXPECT_EQ(describe("").family, "unknown");
  EXPECT_EQ(printable_text("a\nb\xff", 64), "a?b?");
  EXPECT_EQ(printable_text("abcdef", 5), "ab...");
}

TEST(KernelNames, LongNamesTakeNoQuadraticTime) {
  const auto begin = std::chrono::steady_clock::now();
  for (const char* piece : {"<", "(", "a::", "_", "Cijk_", "*", "(anonymous namespace)::", "SK3_", "_Z"}) {
    std::string text = std::string("Cijk_Alik_Bljk_SB_MT64x64x16_SE_").substr(0, piece[0] == 'S' ? 99 : 0);
    while (text.size() < 4'000'000) text += piece;
    describe(text);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

// Each level names the one before it twice: 90 levels would be 2^90 copies.
TEST(KernelNames, SymbolsThatGrowWithoutBoundAreNotDemangled) {
  const auto level = [](int number) {
    std::string digits;
    for (int n = number; n >= 0; n = n / 36 - 1)
      digits.insert(digits.begin(), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[n % 36]);
    return "S" + digits + "_";
  };
  std::string symbol = "_Z11growing_silI1aIiiE";
  for (int i = 0; i < 90; ++i) symbol += "1bI" + level(2 * i + 1) + level(2 * i + 1) + "E";
  symbol += "EvT_";
  EXPECT_EQ(demangle(symbol), "");
  EXPECT_EQ(mangled_base_name(symbol), "growing_sil");
  EXPECT_EQ(demangle("_Z9mul_mat_qIL9ggml_type12ELi64ELb0EEvPKc"),
            "void mul_mat_q<(ggml_type)12, 64, false>(char const*)");
  EXPECT_EQ(mangled_base_name("_ZN2at6native13reduce_kernelILi512EEEvT_"), "reduce_kernel");
  EXPECT_EQ(mangled_base_name("_ZN2dw3gpu12_GLOBAL__N_111norm_kernelEv"), "norm_kernel");
  EXPECT_EQ(mangled_base_name("_ZN99short"), "short");
  EXPECT_EQ(mangled_base_name("_Z"), "");
  EXPECT_EQ(demangle("main"), "");
}

TEST(KernelNames, TypesOfGgmlHaveTheirNumbers) {
  EXPECT_EQ(ggml_type_name(0), "F32");
  EXPECT_EQ(ggml_type_name(8), "Q8_0");
  EXPECT_EQ(ggml_type_name(14), "Q6_K");
  EXPECT_EQ(ggml_type_name(23), "IQ4_XS");
  EXPECT_EQ(ggml_type_name(30), "BF16");
  EXPECT_EQ(ggml_type_name(39), "MXFP4");
  EXPECT_EQ(ggml_type_name(4), "");
  EXPECT_EQ(ggml_type_name(-1), "");
  EXPECT_EQ(ggml_type_name(99), "");
}

}  // namespace
}  // namespace dw::profile
