// Shared by the tests and the benchmark of the GPU delta mixer: device memory between guards, a case with
// random inputs, and a run of it through the reference or through a plan of the GPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "base/random.h"
#include "gpu/device_array.h"
#include "kernels/gpu/delta.h"
#include "kernels/reference/reference.h"

namespace dw::test {

struct DeltaCase {
  int32_t k_heads = 2, v_heads = 4, k_dim = 128, v_dim = 128, taps = 4;
  std::vector<int32_t> lengths;
  std::vector<int32_t> slots;  // of the sequences; a permutation
  std::vector<float> conv_weight, dt_bias, a, norm;
  std::vector<float> qkv, z, ba;         // [all tokens, *]
  std::vector<float> conv_state, state;  // [slots, *]

  int64_t channels() const { return 2 * int64_t(k_heads) * k_dim + int64_t(v_heads) * v_dim; }
  int64_t tokens() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t(0)); }
  int64_t width() const { return int64_t(v_heads) * v_dim; }
  int64_t conv_cells() const { return (taps - 1) * channels(); }
  int64_t state_cells() const { return int64_t(v_heads) * k_dim * v_dim; }
};

inline std::vector<float> gaussians(Random& random, int64_t count, float deviation = 1, float mean = 0) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = mean + deviation * random.normal();
  return values;
}

inline DeltaCase make_delta_case(Random& random, std::vector<int32_t> lengths, int32_t k_heads = 2,
                                 int32_t v_heads = 4, int32_t k_dim = 128, int32_t v_dim = 128,
                                 int32_t taps = 4) {
  DeltaCase c;
  c.k_heads = k_heads, c.v_heads = v_heads, c.k_dim = k_dim, c.v_dim = v_dim, c.taps = taps;
  c.lengths = std::move(lengths);
  c.slots.resize(c.lengths.size());
  std::iota(c.slots.begin(), c.slots.end(), 0);
  for (size_t i = c.slots.size(); i > 1; --i)
    std::swap(c.slots[i - 1], c.slots[size_t(random.below(int64_t(i)))]);
  const int64_t sequences = int64_t(c.lengths.size());
  c.conv_weight = gaussians(random, c.channels() * c.taps, 0.5f);
  c.dt_bias = gaussians(random, c.v_heads, 0.5f);
  for (int32_t h = 0; h < c.v_heads; ++h) c.a.push_back(-std::exp(random.uniform(-5.0f, 1.0f)));
  c.norm = gaussians(random, c.v_dim, 0.2f, 1.0f);
  c.qkv = gaussians(random, c.tokens() * c.channels());
  c.z = gaussians(random, c.tokens() * c.width());
  c.ba = gaussians(random, c.tokens() * 2 * c.v_heads);
  c.conv_state = gaussians(random, sequences * c.conv_cells(), 0.5f);
  c.state = gaussians(random, sequences * c.state_cells(), 0.5f);
  return c;
}

struct DeltaResult {
  std::vector<float> out, state, conv_state;
  std::string trouble;  // empty: guards whole, the quantised part as ops.h has it
};

// The op of a case without its pointers to device or result memory.
inline ops::DeltaMixer delta_op(const DeltaCase& c, int64_t tokens) {
  ops::DeltaMixer op;
  op.k_heads = c.k_heads, op.v_heads = c.v_heads, op.k_dim = c.k_dim, op.v_dim = c.v_dim;
  op.conv_taps = c.taps;
  op.tokens = tokens;
  op.out.tokens = tokens;
  op.out.columns = c.width();
  return op;
}

inline DeltaResult run_reference(const DeltaCase& c) {
  DeltaResult r{std::vector<float>(size_t(c.tokens() * c.width())), c.state, c.conv_state, {}};
  std::vector<ops::Span> spans;
  int32_t first = 0;
  for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++])
    spans.push_back({c.slots[s], first, c.lengths[s], 0, nullptr});
  ops::DeltaMixer op = delta_op(c, c.tokens());
  op.spans = spans;
  op.qkv = c.qkv.data(), op.z = c.z.data(), op.ba = c.ba.data();
  op.conv_weight = c.conv_weight.data(), op.dt_bias = c.dt_bias.data(), op.a = c.a.data();
  op.norm = c.norm.data();
  op.conv_state = r.conv_state.data(), op.state = r.state.data();
  op.out.values = r.out.data();
  std::vector<int8_t> quants(r.out.size());
  std::vector<float> scales(r.out.size() / 32 + 1);
  std::vector<int16_t> sums(r.out.size() / 16 + 1);
  if (c.width() % 32 == 0)
    op.out.quants = quants.data(), op.out.scales = scales.data(), op.out.sums = sums.data();
  reference::delta_mixer(op);
  return r;
}

// What is wrong with the quantised part of `values`; empty: nothing.
inline std::string check_quants(const std::vector<float>& values, const std::vector<int8_t>& quants,
                                const std::vector<float>& scales, const std::vector<int16_t>& sums) {
  for (size_t group = 0; group < values.size() / 32; ++group) {
    const float* x = values.data() + 32 * group;
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f;
    if (!(scales[group] == scale)) return "scale of group " + std::to_string(group);
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (int i = 16 * half; i < 16 * half + 16; ++i) {
        const int quant = scale == 0 ? 0 : int(std::nearbyint(x[i] / scale));
        if (quants[32 * group + size_t(i)] != quant) return "quant of group " + std::to_string(group);
        sum += quant;
      }
      if (sums[2 * group + size_t(half)] != sum) return "sum of group " + std::to_string(group);
    }
  }
  return {};
}

// Rows [begin, begin + count) of every sequence, clipped to its length.
inline void run_gpu_piece(const DeltaCase& c, int32_t begin, int32_t count, const gpu::DeltaPlan& plan,
                          gpu::Context& context, DeviceArray<float>& state, DeviceArray<float>& conv_state,
                          DeltaResult& r) {
  std::vector<gpu::SpanEntry> spans;
  std::vector<float> qkv, z, ba;
  std::vector<int32_t> row_span;
  std::vector<int64_t> origin;
  int32_t longest = 0;
  int64_t first = 0;
  for (size_t s = 0; s < c.lengths.size(); first += c.lengths[s++]) {
    const int32_t end = std::min(c.lengths[s], begin + count);
    if (begin >= end) continue;
    longest = std::max(longest, end - begin);
    spans.push_back({c.slots[s], int32_t(origin.size()), end - begin, begin, 0});
    for (int64_t row = first + begin; row < first + end; ++row) {
      origin.push_back(row);
      row_span.push_back(int32_t(spans.size()) - 1);
    }
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
      to.insert(to.end(), from.begin() + (first + begin) * width, from.begin() + (first + end) * width);
    };
    append(qkv, c.qkv, c.channels());
    append(z, c.z, c.width());
    append(ba, c.ba, 2 * c.v_heads);
  }
  const int64_t tokens = int64_t(origin.size());
  const size_t cells = size_t(tokens * c.width());
  DeviceArray<gpu::SpanEntry> device_spans(spans);
  DeviceArray<int32_t> device_row_span(row_span);
  DeviceArray<float> device_qkv(qkv), device_z(z), device_ba(ba), weight(c.conv_weight), bias(c.dt_bias),
      a(c.a), norm(c.norm), values(cells), scales(cells / 32);
  DeviceArray<int8_t> quants(cells);
  DeviceArray<int16_t> sums(cells / 16);
  ops::DeltaMixer op = delta_op(c, tokens);
  op.chunk = plan.chunk;
  op.qkv = device_qkv.data(), op.z = device_z.data(), op.ba = device_ba.data();
  op.conv_weight = weight.data(), op.dt_bias = bias.data(), op.a = a.data(), op.norm = norm.data();
  op.conv_state = conv_state.data(), op.state = state.data();
  op.out.values = values.data();
  const bool quantised = c.width() % 32 == 0;
  if (quantised) op.out.quants = quants.data(), op.out.scales = scales.data(), op.out.sums = sums.data();
  DeviceArray<std::byte> scratch(gpu::delta_scratch_bytes(op, plan));
  context.scratch = scratch.data();
  context.scratch_bytes = gpu::delta_scratch_bytes(op, plan);
  context.batch = {device_spans.data(),
                   device_row_span.data(),
                   nullptr,
                   int32_t(spans.size()),
                   int32_t(tokens),
                   longest,
                   1 << 20};
  gpu::run_delta(context, op, plan);
  gpu::check_runtime(cudaDeviceSynchronize(), "delta mixer");
  if (!values.guards_intact() || !quants.guards_intact() || !scales.guards_intact() ||
      !sums.guards_intact() || !scratch.guards_intact())
    r.trouble = "wrote outside";
  const std::vector<float> got = values.values();
  if (quantised) {
    const std::string wrong = check_quants(got, quants.values(), scales.values(), sums.values());
    if (!wrong.empty()) r.trouble = wrong;
  }
  for (size_t i = 0; i < origin.size(); ++i)
    std::copy_n(got.begin() + int64_t(i) * c.width(), c.width(), r.out.begin() + origin[i] * c.width());
}

inline DeltaResult run_gpu(const DeltaCase& c, const gpu::Limits& limits, const gpu::DeltaPlan& plan,
                           int32_t piece = 1 << 20) {
  gpu::Context context;
  context.limits = limits;
  DeltaResult r{std::vector<float>(size_t(c.tokens() * c.width())), {}, {}, {}};
  DeviceArray<float> state(c.state), conv_state(c.conv_state);
  const int32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
  for (int32_t begin = 0; begin < longest; begin += piece)
    run_gpu_piece(c, begin, piece, plan, context, state, conv_state, r);
  if (!state.guards_intact() || !conv_state.guards_intact()) r.trouble = "wrote outside the states";
  r.state = state.values();
  r.conv_state = conv_state.values();
  return r;
}

inline double nmse_of(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double error = 0, power = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = double(a[i]) - double(b[i]);
    if (!std::isfinite(difference)) return INFINITY;
    error += difference * difference;
    power += double(b[i]) * double(b[i]);
  }
  return power == 0 ? (error == 0 ? 0 : INFINITY) : error / power;
}

}  // namespace dw::test
