#include "profile/names/short_name.h"

#include <gtest/gtest.h>

namespace dw::profile {
namespace {

TEST(ShortName, TakesTheFunctionsOwnName) {
  const std::pair<const char*, const char*> kCases[] = {
      {"norm_kernel", "norm_kernel"},
      {"dw::gpu::(anonymous namespace)::norm_kernel(dw::ops::Norm, int const*)", "norm_kernel"},
      {"void dw::gpu::(anonymous namespace)::gemv_kernel<4>(dw::gpu::GemvArguments)", "gemv_kernel"},
      {"void mul_mat_q<(ggml_type)2, 128, false>(char const*, int)", "mul_mat_q"},
      {"void a::kernel<(3 > 2), (1 << 4)>(int)", "kernel"},
      {"void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, "
       "std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)",
       "vectorized_elementwise_kernel"},
      {"void outer<int>::inner<float>(float*)", "inner"},
      {"Cijk_Ailk_Bljk_HB_MT64x64x16", "Cijk_Ailk_Bljk_HB_MT64x64x16"},
      {"(unnamed)", "(unnamed)"},
      {"", ""},
      {"broken<", "broken"},
      {"broken(", "broken"},
      {"a::", "a::"},
  };
  for (const auto& [name, own] : kCases) EXPECT_EQ(base_name(name), own) << name;
}

TEST(ShortName, KeepsTemplateArgumentsWithoutNamespacesAndCuts) {
  EXPECT_EQ(short_name("void a::(anonymous namespace)::tile<b::(anonymous namespace)::Q4<2>, c::d::E>(int)"),
            "tile<Q4<2>, E>");
  EXPECT_EQ(short_name("void kernel<12345678>(int)", 10), "kernel<...");
  EXPECT_EQ(short_name("kernel", 6), "kernel");
  EXPECT_EQ(short_name("kernel", 5), "ke...");
  EXPECT_EQ(short_name("kernel", 2), "..");
}

}  // namespace
}  // namespace dw::profile
