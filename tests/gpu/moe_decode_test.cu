// The experts of a few tokens against exact products of the dequantised weights.
#include "gpu/linear_support.h"

namespace dw {
namespace {

using quant::Type;
using test::DeviceArray;
using test::Errors;
using test::GpuActivations;
using test::GpuMatrix;

struct Shape {
  int64_t tokens, hidden, width;
  int32_t experts, top_k;
  Type gate, up, down, shared;
  bool has_shared, merged, shared_weighted;
};

double silu(double x) {
  return x / (1 + std::exp(-x));
}

// y = W x for the rows [first, first + rows) of a matrix; x rounded to int8 where asked and W is quantised.
std::vector<double> multiply(const GpuMatrix& w, int64_t first, int64_t rows, const std::vector<float>& x,
                             bool round) {
  test::OwnedActivations a(1, int64_t(x.size()));
  a.values = x;
  a.view.values = a.values.data();
  reference::quantize(a.view);
  const bool rounded = round && !test::is_float(w.view.type);
  std::vector<double> y(static_cast<size_t>(rows));
  for (int64_t n = 0; n < rows; ++n)
    for (size_t k = 0; k < x.size(); ++k)
      y[size_t(n)] += double(w.row(first + n)[k]) * (rounded ? GpuActivations::rounded(a, k) : double(x[k]));
  return y;
}

struct Problem {
  Shape s;
  GpuMatrix gate, up, gate_up, down, shared_gate, shared_up, shared_down;
  GpuActivations x;
  std::vector<int32_t> ids;
  std::vector<float> weights, shared_weight, before;

  Problem(gpu::Context& context, const Shape& shape, Random& random)
      : s(shape), x(shape.tokens, shape.hidden, &random) {
    if (s.merged) {
      gate_up = GpuMatrix(context, s.gate, 2 * s.width, s.hidden, random, s.experts);
    } else {
      gate = GpuMatrix(context, s.gate, s.width, s.hidden, random, s.experts);
      up = GpuMatrix(context, s.up, s.width, s.hidden, random, s.experts);
    }
    down = GpuMatrix(context, s.down, s.hidden, s.width, random, s.experts);
    if (s.has_shared) {
      shared_gate = GpuMatrix(context, s.shared, s.width, s.hidden, random);
      shared_up = GpuMatrix(context, s.shared, s.width, s.hidden, random);
      shared_down = GpuMatrix(context, s.shared, s.hidden, s.width, random);
    }
    for (int64_t i = 0; i < s.tokens * s.top_k; ++i) {
      ids.push_back(int32_t(random.below(s.experts)));
      weights.push_back(random.uniform(0.02f, 0.5f));
    }
    for (int64_t t = 0; t < s.tokens; ++t) shared_weight.push_back(random.uniform(0.1f, 0.9f));
    before = test::normals(random, s.tokens * s.hidden);
  }

  void add_expert(const GpuMatrix& g, int64_t g_row, const GpuMatrix& u, int64_t u_row, const GpuMatrix& d,
                  int64_t d_row, double weight, const std::vector<float>& input, bool round,
                  std::vector<double>& y) const {
    const auto a = multiply(g, g_row, s.width, input, round), b = multiply(u, u_row, s.width, input, round);
    std::vector<float> inner(static_cast<size_t>(s.width));
    for (size_t i = 0; i < inner.size(); ++i) inner[i] = float(silu(a[i]) * b[i]);
    const auto out = multiply(d, d_row, s.hidden, inner, round);
    for (size_t i = 0; i < y.size(); ++i) y[i] += weight * out[i];
  }

  std::vector<double> expected(int64_t token, bool round) const {
    const auto first = x.host.values.begin() + token * s.hidden;
    const std::vector<float> input(first, first + s.hidden);
    std::vector<double> y(static_cast<size_t>(s.hidden));
    for (int64_t i = token * s.top_k; i < (token + 1) * s.top_k; ++i) {
      const int64_t e = ids[size_t(i)];
      if (s.merged)
        add_expert(gate_up, e * 2 * s.width, gate_up, (e * 2 + 1) * s.width, down, e * s.hidden,
                   weights[size_t(i)], input, round, y);
      else
        add_expert(gate, e * s.width, up, e * s.width, down, e * s.hidden, weights[size_t(i)], input, round,
                   y);
    }
    if (s.has_shared)
      add_expert(shared_gate, 0, shared_up, 0, shared_down, 0,
                 s.shared_weighted ? double(shared_weight[size_t(token)]) : 1.0, input, round, y);
    return y;
  }

  Errors run(gpu::Context& context) const {
    const DeviceArray<float> out(before), device_weights(weights), device_shared(shared_weight);
    const DeviceArray<int32_t> device_ids(ids);
    const DeviceArray<float> hidden(size_t(s.tokens * (s.top_k + 1) * s.width));
    ops::Moe op;
    op.expert_count = s.experts;
    op.top_k = s.top_k;
    op.x = x.view;
    op.gate = gate.view, op.up = up.view, op.gate_up = gate_up.view, op.down = down.view;
    op.shared_gate = shared_gate.view, op.shared_up = shared_up.view, op.shared_down = shared_down.view;
    op.out = out.data();
    gpu::moe_decode(
        context, op,
        {device_ids.data(), device_weights.data(), s.shared_weighted ? device_shared.data() : nullptr},
        hidden.data());
    const std::vector<float> after = out.values();
    Errors e;
    for (int64_t t = 0; t < s.tokens; ++t) {
      const auto exact = expected(t, false), cpu = expected(t, true);
      for (int64_t i = 0; i < s.hidden; ++i) {
        const size_t at = size_t(t * s.hidden + i);
        const double got = double(after[at]) - double(before[at]);
        e.device += (got - exact[size_t(i)]) * (got - exact[size_t(i)]);
        e.cpu += (cpu[size_t(i)] - exact[size_t(i)]) * (cpu[size_t(i)] - exact[size_t(i)]);
        e.power += exact[size_t(i)] * exact[size_t(i)];
      }
    }
    return e;
  }
};

class GpuMoeDecode : public test::WithGpu<testing::TestWithParam<Type>> {};

TEST_P(GpuMoeDecode, AddsTheWeightedExperts) {
  const uint64_t seed = test::new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const std::vector<Type> types = test::all_matrix_types();
  for (int round = 0; round < 6; ++round) {
    const auto any = [&] { return types[size_t(random.below(int64_t(types.size())))]; };
    Shape s = {};
    s.tokens = 1 + random.below(4);
    s.hidden = round % 4 < 2 ? 1024 : 256 * (1 + random.below(3));  // whole waves, or not
    s.width = 256 * (1 + random.below(3));
    s.experts = int32_t(2 + random.below(5));
    s.top_k = int32_t(1 + random.below(4));
    s.has_shared = round % 3 != 2;
    s.merged = round % 2 == 1;
    s.shared_weighted = random.below(2) != 0;
    s.gate = s.up = s.down = s.shared = GetParam();
    if (round >= 2) s.shared = any(), s.down = any();
    if (round >= 4) s.up = any();
    const Problem problem(gpu_->context, s, random);
    SCOPED_TRACE("round " + std::to_string(round) + " down " + std::string(quant::type_info(s.down).name) +
                 " shared " + std::string(quant::type_info(s.shared).name));
    const bool quantised = !test::is_float(s.gate) || !test::is_float(s.down) ||
                           (s.has_shared && !test::is_float(s.shared)) ||
                           (!s.merged && !test::is_float(s.up));
    test::expect_accurate(problem.run(gpu_->context), quantised);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GpuMoeDecode, testing::ValuesIn(test::all_matrix_types()),
                         [](const testing::TestParamInfo<Type>& info) {
                           return std::string(quant::type_info(info.param).name);
                         });

}  // namespace
}  // namespace dw
