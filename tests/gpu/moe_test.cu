// The mixture of experts and dense products on the GPU against the reference.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "gpu/moe_support.h"
#include "kernels/gpu/internal.h"
#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw {
namespace {

using moe_test::DeviceArray;
using moe_test::TestActivations;
using moe_test::TestContext;
using moe_test::TestMatrix;
using quant::Type;
using test::normals;

constexpr double kHalfError = 1e-5;     // tensor cores, f16 or bf16 values
constexpr double kExactError = 1e-9;    // fp32
constexpr double kIntegerError = 2e-4;  // int8 activations, twice in a row

uint64_t seed_of(uint64_t number) {
  const char* text = std::getenv("DELTAWING_SEED");
  const uint64_t seed = (text != nullptr ? std::strtoull(text, nullptr, 10) : 20261123) + number;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

std::vector<Type> tensor_core_types() {
  std::vector<Type> types;
  for (const quant::TypeInfo& info : quant::all_types()) {
    if (info.dequantize != nullptr && info.type != Type::Q8_K && info.type != Type::F32)
      types.push_back(info.type);
  }
  return types;
}

struct MoeCase {
  int32_t experts = 8, top_k = 2;
  int64_t hidden = 256, width = 256, shared_width = 0, tokens = 100;
  Type router = Type::F32, gate = Type::Q4_K, down = Type::Q4_K, shared = Type::Q8_0;
  bool merged = false, normalise = true, shared_router = true;
  float x_scale = 1;
  int skew = 0;  // 1: all tokens go to experts 0 .. top_k - 1
};

// The weights and activations of a case on both sides.
struct MoeData {
  MoeCase c;
  TestContext owner;
  Random random;
  TestMatrix router, gate, up, down, shared_gate, shared_up, shared_down;
  std::vector<float> x, shared_router, start;
  DeviceArray<float> device_shared_router, out;
  TestActivations activations;
  ops::Moe host, device;

  MoeData(const MoeCase& given, uint64_t seed, int64_t distinct = 0)
      : c(given),
        owner(scratch_bytes(given)),
        random(seed),
        router(owner.context, c.router, c.experts, c.hidden, 1, router_deviation(), random),
        gate(owner.context, c.gate, c.merged ? 2 * c.width : c.width, c.hidden, c.experts,
             deviation(c.hidden), random, distinct),
        up(owner.context, c.gate, c.merged ? 1 : c.width, c.hidden, c.merged ? 1 : c.experts,
           deviation(c.hidden), random, c.merged ? 1 : distinct),
        down(owner.context, c.down, c.hidden, c.width, c.experts, deviation(c.width), random, distinct),
        shared_gate(owner.context, c.shared, std::max<int64_t>(c.shared_width, 1), c.hidden, 1,
                    deviation(c.hidden), random),
        shared_up(owner.context, c.shared, std::max<int64_t>(c.shared_width, 1), c.hidden, 1,
                  deviation(c.hidden), random),
        shared_down(owner.context, c.shared, c.hidden, c.shared_width > 0 ? c.shared_width : 256, 1,
                    deviation(c.width), random),
        x(make_x()),
        shared_router(normals(random, c.hidden, deviation(c.hidden))),
        start(normals(random, c.tokens * c.hidden)),
        device_shared_router(shared_router),
        out(start),
        activations(owner.context, x, c.tokens, c.hidden) {
    device.expert_count = c.experts, device.top_k = c.top_k, device.normalise = c.normalise;
    host = device;
    host.x = {c.tokens, c.hidden, x.data(), nullptr, nullptr, nullptr};
    device.x = activations.view;
    host.router = router.host_view, device.router = router.device_view;
    if (c.merged) {
      host.gate_up = gate.host_view, device.gate_up = gate.device_view;
    } else {
      host.gate = gate.host_view, device.gate = gate.device_view;
      host.up = up.host_view, device.up = up.device_view;
    }
    host.down = down.host_view, device.down = down.device_view;
    if (c.shared_width > 0) {
      host.shared_gate = shared_gate.host_view, device.shared_gate = shared_gate.device_view;
      host.shared_up = shared_up.host_view, device.shared_up = shared_up.device_view;
      host.shared_down = shared_down.host_view, device.shared_down = shared_down.device_view;
      if (c.shared_router)
        host.shared_router = shared_router.data(), device.shared_router = device_shared_router.data();
    }
    device.out = out.data();
  }

  static float deviation(int64_t columns) { return 1 / std::sqrt(float(columns)); }
  float router_deviation() const { return 2 * deviation(c.hidden); }
  static uint64_t scratch_bytes(const MoeCase& c) {
    ops::Moe op;
    op.expert_count = c.experts, op.top_k = c.top_k;
    op.x.tokens = c.tokens, op.x.columns = c.hidden;
    op.down.rows = c.hidden, op.down.columns = c.width;
    const std::byte present{};
    if (c.shared_width > 0) op.shared_down = {c.shared, &present, c.hidden, c.shared_width};
    return gpu::moe_scratch_bytes(op);
  }
  std::vector<float> make_x() {
    std::vector<float> values = normals(random, c.tokens * c.hidden, c.x_scale);
    if (c.skew == 0) return values;
    // Along the sum of the first rows of the router, so that those experts win.
    std::vector<float> row(static_cast<size_t>(c.hidden));
    for (int e = 0; e < c.top_k; ++e) {
      reference::dequantize_row(router.host_view, e, row.data());
      for (size_t i = 0; i < values.size(); ++i) values[i] += 4 * c.x_scale * row[i % row.size()];
    }
    return values;
  }

  // Tokens whose last chosen and first rejected expert differ by enough that rounding cannot swap them.
  std::vector<bool> clear_choices() const {
    std::vector<bool> clear;
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::vector<float> scores = reference::multiply(host.router, x.data() + t * c.hidden);
      std::sort(scores.begin(), scores.end(), std::greater<>());
      clear.push_back(c.top_k == c.experts || scores[size_t(c.top_k) - 1] - scores[size_t(c.top_k)] >
                                                  1e-5f * (1 + std::fabs(scores[0])));
    }
    return clear;
  }
};

// The reference takes its time: a thread for each part of the tokens.
void run_reference(const ops::Moe& op) {
  const int64_t parts = std::max<int64_t>(1, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t first = op.x.tokens * p / parts, end = op.x.tokens * (p + 1) / parts;
    ops::Moe piece = op;
    piece.x.tokens = end - first;
    piece.x.values += first * op.x.columns;
    piece.out += first * op.x.columns;
    if (end > first) threads.emplace_back([piece] { reference::moe(piece); });
  }
  for (std::thread& thread : threads) thread.join();
}

// NMSE of what the experts added, over the tokens whose choice is clear.
double moe_error(MoeData& data) {
  std::vector<float> expected = data.start;
  data.host.out = expected.data();
  run_reference(data.host);
  const std::vector<float> found = data.out.values();
  const std::vector<bool> clear = data.clear_choices();
  std::vector<float> a, b;
  int64_t skipped = 0;
  for (int64_t t = 0; t < data.c.tokens; ++t) {
    if (!clear[size_t(t)]) {
      ++skipped;
      continue;
    }
    for (int64_t i = t * data.c.hidden; i < (t + 1) * data.c.hidden; ++i) {
      a.push_back(found[size_t(i)] - data.start[size_t(i)]);
      b.push_back(expected[size_t(i)] - data.start[size_t(i)]);
    }
  }
  EXPECT_LE(skipped, data.c.tokens / 20 + 1);
  return test::nmse(a, b);
}

void expect_prefill(const MoeCase& c, uint64_t number) {
  MoeData data(c, seed_of(number));
  ASSERT_TRUE(gpu::moe_mma(data.owner.context, data.device));
  data.owner.synchronize();
  const double error = moe_error(data);
  std::printf("  experts %d top_k %d hidden %lld width %lld shared %lld tokens %lld: NMSE %.2e\n", c.experts,
              c.top_k, (long long)c.hidden, (long long)c.width, (long long)c.shared_width,
              (long long)c.tokens, error);
  EXPECT_LE(error, kHalfError);
}

TEST(MoeMma, Types) {
  int number = 0;
  for (Type type : tensor_core_types()) {
    std::printf("%s\n", std::string(quant::type_info(type).name).c_str());
    MoeCase c;
    c.experts = 16, c.top_k = 4, c.hidden = 512, c.width = 256, c.shared_width = 256, c.tokens = 150;
    c.gate = c.down = c.shared = type;
    expect_prefill(c, uint64_t(100 + number++));
  }
}

// The path without tensor cores: int8 activations, so only as exact as those.
TEST(MoePrefill, Types) {
  int number = 0;
  for (Type type : {Type::Q4_K, Type::Q6_K, Type::Q8_0, Type::IQ4_NL, Type::F32, Type::F16}) {
    MoeCase c;
    c.experts = 16, c.top_k = 4, c.hidden = 256, c.width = 256, c.shared_width = 256, c.tokens = 100;
    c.gate = c.down = c.shared = type;
    MoeData data(c, seed_of(uint64_t(200 + number++)));
    gpu::moe_prefill(data.owner.context, data.device);
    data.owner.synchronize();
    const double error = moe_error(data);
    std::printf("  portable %s: NMSE %.2e\n", std::string(quant::type_info(type).name).c_str(), error);
    const bool exact = quant::type_info(type).block_size == 1;
    EXPECT_LE(error, exact ? kExactError : kIntegerError);
  }
}

TEST(MoePrefill, OneExpertGetsEverything) {
  MoeData data({.experts = 16,
                .top_k = 1,
                .hidden = 96,
                .width = 40,
                .tokens = 300,
                .gate = Type::F16,
                .down = Type::F32,
                .skew = 1},
               seed_of(220));
  gpu::moe_prefill(data.owner.context, data.device);
  data.owner.synchronize();
  EXPECT_LE(moe_error(data), kExactError);
}

TEST(MoeMma, Shapes) {
  expect_prefill({.experts = 8, .top_k = 8, .tokens = 17}, 1);
  expect_prefill({.experts = 60, .top_k = 4, .shared_width = 256, .tokens = 333}, 2);
  expect_prefill({.experts = 512, .top_k = 10, .tokens = 200}, 3);
  expect_prefill({.experts = 16,
                  .top_k = 3,
                  .hidden = 96,
                  .width = 32,
                  .shared_width = 64,
                  .tokens = 65,
                  .gate = Type::Q8_0,
                  .down = Type::Q8_0,
                  .shared = Type::F16},
                 4);
  expect_prefill({.experts = 16,
                  .top_k = 3,
                  .hidden = 288,
                  .width = 160,
                  .tokens = 90,
                  .gate = Type::Q8_0,
                  .down = Type::Q8_0},
                 5);
  expect_prefill({.experts = 8,
                  .top_k = 2,
                  .tokens = 300,
                  .gate = Type::Q4_K,
                  .down = Type::Q8_0,
                  .merged = true,
                  .normalise = false},
                 6);
  expect_prefill({.experts = 32,
                  .top_k = 32,
                  .hidden = 256,
                  .width = 256,
                  .shared_width = 256,
                  .tokens = 40,
                  .shared_router = false},
                 7);
}

TEST(MoeMma, WideTiles) {  // of 128 tokens and more
  expect_prefill({.experts = 8, .top_k = 2, .shared_width = 256, .tokens = 330}, 10);
  expect_prefill({.experts = 8, .top_k = 4, .tokens = 300}, 11);
  expect_prefill({.experts = 4,
                  .top_k = 2,
                  .hidden = 512,
                  .tokens = 390,
                  .gate = Type::Q6_K,
                  .down = Type::Q8_0,
                  .merged = true,
                  .skew = 1},
                 12);
}

TEST(MoeMma, OneExpertGetsEverything) {
  expect_prefill({.experts = 16, .top_k = 1, .tokens = 700, .skew = 1}, 20);
  expect_prefill({.experts = 512, .top_k = 2, .tokens = 1100, .skew = 1}, 21);
}

TEST(MoeMma, LargeValues) {  // silu(gate) * up beyond f16
  expect_prefill({.experts = 8, .top_k = 2, .tokens = 70, .x_scale = 3000}, 30);
  expect_prefill({.experts = 8, .top_k = 2, .shared_width = 512, .tokens = 70, .x_scale = 400}, 31);
}

TEST(MoeMma, SameBitsEveryTime) {
  MoeData data({.experts = 64, .top_k = 6, .shared_width = 256, .tokens = 500}, seed_of(40));
  ASSERT_TRUE(gpu::moe_mma(data.owner.context, data.device));
  data.owner.synchronize();
  const std::vector<float> first = data.out.values();
  for (int i = 0; i < 5; ++i) {
    data.out.set(data.start);
    ASSERT_TRUE(gpu::moe_mma(data.owner.context, data.device));
    data.owner.synchronize();
    ASSERT_EQ(std::memcmp(first.data(), data.out.values().data(), first.size() * 4), 0);
  }
}

TEST(LinearMma, TypesAndShapes) {
  Random random(seed_of(50));
  std::vector<Type> types = tensor_core_types();
  types.push_back(Type::F32);
  for (Type type : types) {
    for (int round = 0; round < 4; ++round) {
      const bool blocks = quant::type_info(type).block_size == 256;
      const int64_t columns = blocks ? 256 * (1 + random.below(4)) : 32 * (1 + random.below(24));
      const int64_t rows = 1 + random.below(400), tokens = 9 + random.below(round < 2 ? 60 : 300);
      TestContext owner(gpu::linear_scratch_bytes(tokens, columns));
      TestMatrix first(owner.context, type, rows, columns, 1, 0.05f, random);
      TestMatrix second(owner.context, type, 2 * (rows / 2) + 2, columns, 1, 0.05f, random);
      const std::vector<float> x = normals(random, tokens * columns, round == 3 ? 1e4f : 1.0f);
      TestActivations activations(owner.context, x, tokens, columns);
      std::vector<ops::Linear> host(2), device(2);
      std::vector<std::vector<float>> start, expected;
      std::vector<std::unique_ptr<DeviceArray<float>>> outs;
      for (int i = 0; i < 2; ++i) {
        const TestMatrix& matrix = i == 0 ? first : second;
        const int64_t stride = matrix.host_view.rows + (i == 0 ? random.below(3) : 0);
        start.push_back(normals(random, tokens * stride));
        expected.push_back(start.back());
        outs.push_back(std::make_unique<DeviceArray<float>>(start.back()));
        host[i] = {matrix.host_view, nullptr, stride, random.below(2) == 0};
        device[i] = {matrix.device_view, outs.back()->data(), stride, host[i].add};
      }
      for (int i = 0; i < 2; ++i) host[i].out = expected[i].data();
      reference::linear({tokens, columns, const_cast<float*>(x.data())}, host);
      ASSERT_TRUE(gpu::linear_mma(owner.context, activations.view, device));
      owner.synchronize();
      for (int i = 0; i < 2; ++i) {
        const double error = test::nmse(outs[i]->values(), expected[i]);
        std::printf("  %s %lldx%lld tokens %lld add %d: NMSE %.2e\n",
                    std::string(quant::type_info(type).name).c_str(), (long long)host[i].weight.rows,
                    (long long)columns, (long long)tokens, host[i].add, error);
        EXPECT_LE(error, type == Type::F32 ? kExactError : kHalfError);
      }
    }
  }
}

// So many rows that tiles are as wide as they get; the first and last rows against the reference.
TEST(LinearMma, WideTiles) {
  Random random(seed_of(60));
  constexpr int64_t kColumns = 512, kTokens = 210, kSample = 140;
  for (const auto& [type, rows] :
       {std::pair(Type::Q4_K, int64_t(18001)), std::pair(Type::Q8_0, int64_t(17930)),
        std::pair(Type::MXFP4, int64_t(18432)), std::pair(Type::Q6_K, int64_t(9001))}) {
    SCOPED_TRACE(std::string(quant::type_info(type).name));
    TestContext owner(gpu::linear_scratch_bytes(kTokens, kColumns));
    const TestMatrix matrix(owner.context, type, rows, kColumns, 1, 0.05f, random);
    const std::vector<float> x = normals(random, kTokens * kColumns);
    TestActivations activations(owner.context, x, kTokens, kColumns);
    const DeviceArray<float> out(std::vector<float>(size_t(kTokens * rows), NAN));
    const ops::Linear call[] = {{matrix.device_view, out.data(), rows, false}};
    ASSERT_TRUE(gpu::linear_mma(owner.context, activations.view, call));
    owner.synchronize();
    const std::vector<float> found = out.values();
    EXPECT_EQ(std::count_if(found.begin(), found.end(), [](float v) { return std::isnan(v); }), 0);
    for (int64_t first : {int64_t(0), rows - kSample}) {
      std::vector<float> expected(size_t(kTokens * kSample)), got;
      const ops::Linear host[] = {{matrix.host_view.slice(first, kSample), expected.data(), kSample, false}};
      reference::linear({kTokens, kColumns, const_cast<float*>(x.data())}, host);
      for (int64_t t = 0; t < kTokens; ++t)
        got.insert(got.end(), found.begin() + t * rows + first, found.begin() + t * rows + first + kSample);
      EXPECT_LE(test::nmse(got, expected), kHalfError) << "rows from " << first;
    }
  }
}

// Route of few tokens against a plain one: ids, weights, the fused norm.
void expect_route(int32_t experts, int32_t top_k, int64_t hidden, int64_t tokens, Type type, bool fused,
                  bool shared, uint64_t number) {
  Random random(seed_of(number));
  TestContext owner(1 << 20);
  TestMatrix router(owner.context, type, experts, hidden, 1, 2 / std::sqrt(float(hidden)), random);
  const std::vector<float> x = normals(random, tokens * hidden, 3), weight = normals(random, hidden, 0.3f, 1);
  const std::vector<float> shared_router = normals(random, hidden, 1 / std::sqrt(float(hidden)));
  test::OwnedActivations normed(tokens, hidden);
  ops::Norm norm = {const_cast<float*>(x.data()), nullptr, weight.data(), 1e-6f, normed.view};
  reference::norm(norm);
  if (!fused) normed.values = x;

  TestActivations activations(owner.context, x, tokens, hidden);
  TestActivations target(owner.context, x, tokens, hidden);
  target.values.poison(), target.quants.poison(), target.scales.poison(), target.sums.poison();
  DeviceArray<float> device_weight(weight), device_shared(shared_router);
  DeviceArray<int32_t> ids(size_t(tokens * top_k));
  DeviceArray<float> weights(size_t(tokens * top_k)), shared_weight(static_cast<size_t>(tokens));
  DeviceArray<float> logits(size_t(tokens * (experts + 1)));
  ops::Moe op;
  op.expert_count = experts, op.top_k = top_k;
  op.x = fused ? target.view : activations.view;
  op.router = router.device_view;
  if (shared) op.shared_router = device_shared.data();
  const ops::Norm device_norm = {activations.rows.data(), nullptr, device_weight.data(), 1e-6f, target.view};
  for (int i = 0; i < 3; ++i) {  // the counter must come back to zero
    ids.poison(), weights.poison();
    ASSERT_TRUE(gpu::route_few(owner.context, op, fused ? &device_norm : nullptr,
                               {ids.data(), weights.data(), shared_weight.data()}, logits.data()));
    owner.synchronize();
  }
  const std::vector<int32_t> found = ids.values();
  const std::vector<float> found_weights = weights.values(), found_shared = shared_weight.values();
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = normed.values.data() + t * hidden;
    const std::vector<float> scores = reference::multiply(router.host_view, row);
    std::vector<int> order(static_cast<size_t>(experts));
    for (int e = 0; e < experts; ++e) order[size_t(e)] = e;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
    double sum = 0;
    for (int i = 0; i < top_k; ++i) sum += std::exp(double(scores[order[i]]) - scores[order[0]]);
    for (int i = 0; i < top_k; ++i) {
      const int id = found[size_t(t * top_k + i)];
      ASSERT_TRUE(id >= 0 && id < experts);
      EXPECT_NEAR(scores[size_t(id)], scores[size_t(order[i])], 2e-5 * (1 + std::fabs(scores[order[0]])));
      const double expected = std::exp(double(scores[order[i]]) - scores[order[0]]) / sum;
      EXPECT_NEAR(found_weights[size_t(t * top_k + i)], expected, 1e-4 * expected + 1e-7);
    }
    if (shared) {
      const double dot = reference::dot(shared_router.data(), row, hidden);
      EXPECT_NEAR(found_shared[size_t(t)], reference::sigmoid(dot), 1e-5);
    }
  }
  if (!fused) return;
  EXPECT_LE(test::nmse(target.values.values(), normed.values), kExactError);
  if (hidden % 32 == 0) {
    const std::vector<int8_t> quants = target.quants.values();
    int64_t off = 0;
    for (size_t i = 0; i < quants.size(); ++i) {
      EXPECT_LE(std::abs(quants[i] - normed.quants[i]), 1);
      off += quants[i] != normed.quants[i];
    }
    EXPECT_LE(off, int64_t(quants.size() / 100) + 1);
  }
}

TEST(RouteFew, Shapes) {
  expect_route(512, 10, 2048, 1, Type::F32, true, true, 60);
  expect_route(512, 10, 2048, 16, Type::F32, true, true, 61);
  expect_route(8, 2, 64, 3, Type::F32, false, true, 62);
  expect_route(60, 4, 100, 7, Type::F32, true, false, 63);
  expect_route(512, 32, 2052, 2, Type::F32, true, true, 64);
  expect_route(128, 8, 2048, 5, Type::F16, true, true, 65);
  expect_route(700, 8, 4096, 5, Type::BF16, true, true, 66);
  expect_route(16, 16, 36, 4, Type::F16, false, true, 67);
}

TEST(ChooseExperts, TiesGoToTheLowerIndex) {
  TestContext owner(1 << 20);
  const int32_t experts = 100, top_k = 5;
  std::vector<float> logits(2 * 100, 1.0f);
  logits[100 + 70] = logits[100 + 40] = 2.0f;
  DeviceArray<float> device_logits(logits), weights(10), shared(2);
  DeviceArray<int32_t> ids(10), counts(std::vector<int32_t>(100, 0));
  DeviceArray<uint16_t> keys(16);
  ops::Moe op;
  op.expert_count = experts, op.top_k = top_k, op.x.tokens = 2;
  gpu::choose_experts(owner.context, op, device_logits.data(), experts,
                      {ids.data(), weights.data(), shared.data()}, keys.data(), counts.data());
  owner.synchronize();
  EXPECT_EQ(ids.values(), (std::vector<int32_t>{0, 1, 2, 3, 4, 40, 70, 0, 1, 2}));
}

}  // namespace
}  // namespace dw
