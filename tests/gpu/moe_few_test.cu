// The mixture of experts for few tokens, as a whole, and the ways to choose experts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "gpu/moe_case.h"
#include "kernels/gpu/moe_choose.h"

namespace dw {
namespace {

using moe_test::DeviceArray;
using moe_test::kIntegerError;
using moe_test::moe_error;
using moe_test::MoeCase;
using moe_test::MoeData;
using moe_test::seed_of;
using moe_test::TestActivations;
using quant::Type;
using test::normals;

// gpu::moe() for few tokens, norm included where asked: the reference's result, the same bits every time.
void expect_few(const MoeCase& c, bool fused, uint64_t number) {
  MoeData data(c, seed_of(number));
  const std::vector<float> raw = normals(data.random, c.tokens * c.hidden, 3);
  const std::vector<float> weight = normals(data.random, c.hidden, 0.3f, 1);
  const DeviceArray<float> device_raw(raw), device_weight(weight);
  TestActivations target(data.owner.context, raw, c.tokens, c.hidden);
  target.values.poison(), target.quants.poison(), target.scales.poison(), target.sums.poison();
  const ops::Norm norm = {device_raw.data(), nullptr, device_weight.data(), 1e-6f, target.view};
  if (fused) {
    test::OwnedActivations normed(c.tokens, c.hidden);
    reference::norm({const_cast<float*>(raw.data()), nullptr, weight.data(), 1e-6f, normed.view});
    std::copy(normed.values.begin(), normed.values.end(), data.x.begin());
    data.device.x = target.view;
  }
  std::vector<float> first;
  for (int i = 0; i < 3; ++i) {
    data.owner.scratch.poison();
    data.out.set(data.start);
    gpu::moe(data.owner.context, data.device, fused ? &norm : nullptr);
    data.owner.synchronize();
    if (i == 0) first = data.out.values();
    ASSERT_EQ(std::memcmp(first.data(), data.out.values().data(), first.size() * 4), 0);
  }
  const double error = moe_error(data);
  std::printf("  few: experts %d top_k %d hidden %lld width %lld shared %lld tokens %lld: NMSE %.2e\n",
              c.experts, c.top_k, (long long)c.hidden, (long long)c.width, (long long)c.shared_width,
              (long long)c.tokens, error);
  EXPECT_LE(error, kIntegerError);
  EXPECT_TRUE(data.out.guards_intact() && data.owner.scratch.guards_intact());
}

TEST(MoeFew, Shapes) {
  for (int64_t tokens : {1, 2, 5, 8, 16}) {
    expect_few({.experts = 48,
                .top_k = 10,
                .hidden = 2048,
                .width = 512,
                .shared_width = 512,
                .tokens = tokens,
                .down = tokens % 2 == 0 ? Type::Q6_K : Type::Q4_K,
                .shared = Type::Q4_K},
               true, uint64_t(300 + tokens));
  }
  expect_few({.experts = 512, .top_k = 10, .hidden = 512, .shared_width = 256, .tokens = 3}, true, 320);
  expect_few({.experts = 700, .top_k = 8, .tokens = 2, .gate = Type::Q2_K, .down = Type::Q3_K}, true, 321);
  expect_few({.experts = 40, .top_k = 32, .shared_width = 256, .tokens = 2, .shared = Type::Q4_K}, false,
             322);
  expect_few({.experts = 33, .top_k = 32, .hidden = 512, .shared_width = 256, .tokens = 1}, true, 323);
  expect_few({.experts = 3, .top_k = 1, .width = 768, .tokens = 4, .merged = true, .normalise = false}, true,
             324);
  expect_few({.experts = 16,
              .top_k = 4,
              .hidden = 2304,
              .shared_width = 256,
              .tokens = 2,
              .router = Type::BF16,
              .gate = Type::Q6_K,
              .down = Type::Q8_0,
              .shared = Type::Q5_K,
              .merged = true,
              .shared_router = false},
             true, 325);
  expect_few(
      {.experts = 8, .top_k = 2, .shared_width = 256, .tokens = 2, .router = Type::F16, .shared = Type::F16},
      true, 326);
}

TEST(MoeTiles, Shapes) {  // some tens of tokens
  expect_few({.experts = 48,
              .top_k = 10,
              .hidden = 2048,
              .width = 512,
              .shared_width = 512,
              .tokens = 17,
              .shared = Type::Q4_K},
             true, 340);
  expect_few({.experts = 512, .top_k = 10, .shared_width = 256, .tokens = 64, .down = Type::Q6_K}, true, 341);
  expect_few({.experts = 8, .top_k = 3, .hidden = 512, .shared_width = 256, .tokens = 128}, true, 342);
  expect_few({.experts = 16,
              .top_k = 4,
              .hidden = 2304,
              .width = 768,
              .shared_width = 768,
              .tokens = 30,
              .gate = Type::Q6_K,
              .down = Type::Q2_K,
              .merged = true,
              .shared_router = false},
             true, 343);
  expect_few({.experts = 20, .top_k = 1, .tokens = 47, .gate = Type::Q3_K, .down = Type::IQ4_XS, .skew = 1},
             false, 344);
  expect_few(
      {.experts = 40, .top_k = 32, .tokens = 21, .gate = Type::Q2_K, .down = Type::Q3_K, .normalise = false},
      false, 345);
}

struct ChosenPair {
  int32_t experts[3];
  float weights[3];
};
__global__ void choose_kernel(const float* logits, int count, int top_k, bool normalise, ChosenPair* out) {
  __shared__ gpu::ChooseRoom room;
  const auto load = [&](int e) { return logits[int64_t(blockIdx.x) * count + e]; };
  const gpu::Chosen a = gpu::choose_top<16>(count, top_k, normalise, load);
  const gpu::Chosen b = gpu::choose_top_fast<16, true>(count, top_k, normalise, room, load);
  const gpu::Chosen c = gpu::choose_top_slow<true>(count, top_k, normalise, load);
  const gpu::Chosen d = gpu::choose_top_fast<16, false>(count, top_k, normalise, room, load);
  ChosenPair& mine = out[blockIdx.x * 32 + threadIdx.x];
  mine = {{a.expert, b.expert, c.expert}, {a.weight, b.weight, c.weight}};
  if (d.expert != a.expert) mine.experts[1] = -1;
}

TEST(ChooseExperts, AllWaysGiveTheSameBits) {
  Random random(seed_of(70));
  for (int round = 0; round < 40; ++round) {
    const int tokens = 64, count = 32 + int(random.below(481)), top_k = 1 + int(random.below(32));
    std::vector<float> logits = normals(random, tokens * count, 2);
    for (size_t i = 0; i < logits.size(); ++i) {  // from all different to all the same
      const size_t token = i / size_t(count);
      if (token % 4 == 1) logits[i] = std::round(4 * logits[i]) / 4;
      if (token % 4 == 2) logits[i] = std::round(logits[i] / 2);
      if (token % 4 == 3) logits[i] = token % 8 == 3 ? -1.5f : logits[i] - float(i % size_t(count));
    }
    const DeviceArray<float> device(logits);
    const DeviceArray<ChosenPair> out(size_t(tokens * 32));
    choose_kernel<<<tokens, 32>>>(device.data(), count, top_k, round % 2 == 0, out.data());
    const std::vector<ChosenPair> found = out.values();
    for (size_t i = 0; i < found.size(); ++i) {
      for (int way = 1; way < 3; ++way) {
        if (int(i % 32) >= top_k) continue;
        ASSERT_EQ(found[i].experts[0], found[i].experts[way]) << "choice " << i % 32 << " of " << top_k;
        ASSERT_EQ(std::memcmp(&found[i].weights[0], &found[i].weights[way], 4), 0);
      }
    }
  }
}

}  // namespace
}  // namespace dw
