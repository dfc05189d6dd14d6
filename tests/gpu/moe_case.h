// A random mixture of experts on both sides, for tests against the reference.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "gpu/moe_support.h"
#include "kernels/reference/math.h"
#include "kernels/reference/reference.h"

namespace dw::moe_test {

using quant::Type;
using test::normals;

inline constexpr double kHalfError = 1e-5;     // tensor cores, f16 or bf16 values
inline constexpr double kExactError = 1e-9;    // fp32
inline constexpr double kIntegerError = 2e-4;  // int8 activations, twice in a row

inline uint64_t seed_of(uint64_t number) {
  const char* text = std::getenv("DELTAWING_SEED");
  const uint64_t seed = (text != nullptr ? std::strtoull(text, nullptr, 10) : 20261123) + number;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

inline std::vector<Type> tensor_core_types() {
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
inline void run_reference(const ops::Moe& op) {
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
inline double moe_error(MoeData& data) {
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

}  // namespace dw::moe_test
