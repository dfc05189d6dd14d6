// Repacking, embedding, matrix-vector and integer-dot products of every type against exact products of the
// dequantised weights.
#include "gpu/linear_support.h"

namespace dw {
namespace {

using quant::Type;
using test::DeviceArray;
using test::Errors;
using test::GpuActivations;
using test::GpuMatrix;

std::string type_name(const testing::TestParamInfo<Type>& info) {
  return std::string(quant::type_info(info.param).name);
}

class GpuLinear : public test::WithGpu<testing::TestWithParam<Type>> {
 protected:
  GpuLinear()
      : seed_(test::new_seed()),
        random_(seed_),
        trace_(__FILE__, __LINE__, "seed " + std::to_string(seed_)) {}

  int64_t random_columns() {
    const int block = int(quant::type_info(GetParam()).block_size);
    if (block == 1) return 1 + random_.below(700);
    return block * (1 + random_.below(block == 32 ? 70 : 9));
  }

  uint64_t seed_;
  Random random_;
  testing::ScopedTrace trace_;
};

constexpr float kGuard = -12345.625f;

// An output whose rows stand `pad` floats apart, guards between them; NaN inside unless it is added to.
struct Output {
  int64_t tokens, rows, stride;
  bool add;
  std::vector<float> before;
  DeviceArray<float> data;

  Output(int64_t token_count, int64_t row_count, bool adds, Random& random)
      : tokens(token_count), rows(row_count), stride(row_count + random.below(5)), add(adds) {
    before.resize(size_t(tokens * stride + 7), kGuard);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t n = 0; n < rows; ++n) before[size_t(t * stride + n)] = adds ? random.normal() : NAN;
    data = DeviceArray<float>(before);
  }
  // What the product added, as errors against weights and x, in every `step`-th row; the others are written.
  Errors errors(const GpuMatrix& w, const test::OwnedActivations& x, int64_t step = 1) const {
    const std::vector<float> after = data.values();
    Errors e;
    const bool quantised = !test::is_float(w.view.type);
    for (size_t i = 0; i < after.size(); ++i) {
      const int64_t t = int64_t(i) / stride, n = int64_t(i) % stride;
      if (t >= tokens || n >= rows) {
        EXPECT_EQ(after[i], kGuard) << "guard " << i;
        continue;
      }
      if (n % step != 0) {
        EXPECT_FALSE(std::isnan(after[i])) << "row " << n;
        continue;
      }
      double exact = 0, cpu = 0;
      for (int64_t k = 0; k < w.view.columns; ++k) {
        const size_t at = size_t(t * w.view.columns + k);
        const double weight = w.row(n)[k];
        exact += weight * x.values[at];
        cpu += weight * (quantised ? GpuActivations::rounded(x, at) : double(x.values[at]));
      }
      const double got = double(after[i]) - (add ? double(before[i]) : 0.0);
      e.device += (got - exact) * (got - exact);
      e.cpu += (cpu - exact) * (cpu - exact);
      e.power += exact * exact;
    }
    return e;
  }
};

ops::Linear linear_of(const GpuMatrix& w, const Output& out) {
  return {w.view, out.data.data(), out.stride, out.add};
}

TEST_P(GpuLinear, EmbedsTheDequantisedRows) {
  for (int round = 0; round < 4; ++round) {
    const int64_t rows = 1 + random_.below(50), columns = random_columns(), tokens = 1 + random_.below(9);
    const GpuMatrix table(gpu_->context, GetParam(), rows, columns, random_);
    std::vector<int32_t> ids(static_cast<size_t>(tokens));
    for (auto& id : ids) id = int32_t(random_.below(rows));
    const DeviceArray<int32_t> device_ids(ids);
    const DeviceArray<float> out(size_t(tokens * columns));
    ops::Embed op;
    op.table = table.view;
    op.tokens = tokens;
    op.out = out.data();
    gpu::embed(gpu_->context, op, device_ids.data());
    const std::vector<float> got = out.values();
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < columns; ++i) {
        // One rounding may be missing where scale * q + offset is fused.
        const float expected = table.row(ids[size_t(t)])[i];
        ASSERT_NEAR(got[size_t(t * columns + i)], expected, 1e-6 * (1 + std::fabs(expected)));
      }
  }
}

TEST_P(GpuLinear, MultipliesFewTokens) {
  for (int64_t tokens = 1; tokens <= gpu::kGemvTokens; ++tokens)
    for (int round = 0; round < 2; ++round) {
      const int64_t rows = 1 + random_.below(round == 0 ? 40 : 700), columns = random_columns();
      SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(rows) + " x " +
                   std::to_string(columns));
      const GpuMatrix w(gpu_->context, GetParam(), rows, columns, random_);
      const GpuActivations x(tokens, columns, &random_);
      const Output out(tokens, rows, random_.below(2) != 0, random_);
      const ops::Linear call[] = {linear_of(w, out)};
      gpu::gemv(gpu_->context, x.view, call, nullptr);
      const Errors errors = out.errors(w, x.host);
      if (errors.power > 0) test::expect_accurate(errors, !test::is_float(GetParam()));
      if (HasFatalFailure()) return;
    }
}

// So many rows that all multiprocessors have some: kernels that take several rows together.
TEST_P(GpuLinear, MultipliesFewTokensWithManyRows) {
  for (int64_t least : {4096, 8192}) {
    const int64_t rows = least + random_.below(100), columns = 1024;
    const GpuMatrix w(gpu_->context, GetParam(), rows, columns, random_);
    for (int64_t tokens : {1, 2, 3, 8}) {
      SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(rows) + " rows");
      const GpuActivations x(tokens, columns, &random_);
      const Output out(tokens, rows, random_.below(2) != 0, random_);
      const ops::Linear call[] = {linear_of(w, out)};
      gpu::gemv(gpu_->context, x.view, call, nullptr);
      test::expect_accurate(out.errors(w, x.host, 13), !test::is_float(GetParam()));
      if (HasFailure()) return;
    }
  }
}

TEST_P(GpuLinear, MultipliesManyTokens) {
  for (int64_t tokens : {9, 64, 65, 150}) {
    const int64_t rows = 1 + random_.below(200), columns = random_columns();
    SCOPED_TRACE(std::to_string(tokens) + " tokens, " + std::to_string(rows) + " x " +
                 std::to_string(columns));
    const GpuMatrix w(gpu_->context, GetParam(), rows, columns, random_);
    const GpuActivations x(tokens, columns, &random_);
    const Output out(tokens, rows, random_.below(2) != 0, random_);
    gpu::gemm_dot4(gpu_->context, x.view, linear_of(w, out));
    test::expect_accurate(out.errors(w, x.host), !test::is_float(GetParam()));
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GpuLinear, testing::ValuesIn(test::all_matrix_types()), type_name);

class GpuGemv : public test::WithGpu<testing::Test> {};

void expect_normed(const GpuActivations& got, const std::vector<float>& expected) {
  const std::vector<float> values = got.values.values(), scales = got.scales.values();
  const std::vector<int8_t> quants = got.quants.values();
  const std::vector<int16_t> sums = got.sums.values();
  ASSERT_LE(test::nmse(values, expected), 1e-12);
  test::OwnedActivations host(got.view.tokens, got.view.columns);
  host.values = values;
  host.view.values = host.values.data();
  reference::quantize(host.view);
  ASSERT_EQ(quants, host.quants);
  ASSERT_EQ(scales, host.scales);
  ASSERT_EQ(sums, host.sums);
}

// Up to four matrices of different types, and the norm in front of them.
TEST_F(GpuGemv, SeveralMatricesBehindOneNorm) {
  const uint64_t seed = test::new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const std::vector<Type> types = test::all_matrix_types();
  for (int round = 0; round < 24; ++round) {
    const int64_t tokens = 1 + round % gpu::kGemvTokens, columns = 256 * (1 + random.below(9));
    const size_t count = size_t(1 + random.below(gpu::kMaxOutputs));
    const auto x = test::normals(random, tokens * columns, 3.0f);
    const auto weight = test::normals(random, columns, 0.2f, 1.0f);
    const DeviceArray<float> device_x(x), device_weight(weight);
    GpuActivations normed(tokens, columns, nullptr);
    ops::Norm norm;
    norm.x = device_x.data();
    norm.weight = device_weight.data();
    norm.out = normed.view;
    std::vector<GpuMatrix> matrices;
    std::vector<Output> outputs;
    std::vector<ops::Linear> calls;
    for (size_t i = 0; i < count; ++i) {
      const Type type = types[size_t(random.below(int64_t(types.size())))];
      matrices.emplace_back(gpu_->context, type, 1 + random.below(300), columns, random);
      outputs.emplace_back(tokens, matrices.back().view.rows, random.below(2) != 0, random);
    }
    for (size_t i = 0; i < count; ++i) calls.push_back(linear_of(matrices[i], outputs[i]));
    gpu::gemv(gpu_->context, normed.view, calls, &norm);
    test::OwnedActivations expected(tokens, columns);
    ops::Norm host = norm;
    host.x = x.data();
    host.weight = weight.data();
    host.out = expected.view;
    reference::norm(host);
    expect_normed(normed, expected.values);
    for (size_t i = 0; i < count; ++i) {
      SCOPED_TRACE(std::string(quant::type_info(matrices[i].view.type).name) + ", " + std::to_string(tokens) +
                   " tokens");
      test::expect_accurate(outputs[i].errors(matrices[i], expected), !test::is_float(matrices[i].view.type));
    }
    if (HasFatalFailure()) return;
  }
}

// Whole blocks of 256 columns, as models have them: rows enough for several rounds of a block's waves,
// outputs of two types side by side, with and without a norm, added or not.
TEST_F(GpuGemv, ManyRowsOfWholeBlocks) {
  const uint64_t seed = test::new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const std::vector<Type> types = {Type::Q4_K, Type::Q6_K, Type::Q5_K,   Type::Q8_0, Type::Q2_K,
                                   Type::Q3_K, Type::Q4_0, Type::IQ4_XS, Type::MXFP4};
  int round = 0;
  for (const int64_t columns : {1024, 2048, 4096, 3072})
    for (const int64_t tokens : {1, 2, 3, 8})
      for (const bool with_norm : {false, true}) {
        const auto x = test::normals(random, tokens * columns, 3.0f);
        const auto weight = test::normals(random, columns, 0.2f, 1.0f);
        const DeviceArray<float> device_x(x), device_weight(weight);
        const GpuActivations given(tokens, columns, &random);
        GpuActivations normed(tokens, columns, nullptr);
        ops::Norm norm;
        norm.x = device_x.data(), norm.weight = device_weight.data(), norm.out = normed.view;
        std::vector<GpuMatrix> matrices;
        std::vector<Output> outputs;
        for (int i = 0; i < 2; ++i) {
          const Type type = types[size_t(round++) % types.size()];
          matrices.emplace_back(gpu_->context, type, 1 + random.below(i == 0 ? 3000 : 70), columns, random);
          outputs.emplace_back(tokens, matrices.back().view.rows, random.below(2) != 0, random);
        }
        const ops::Linear calls[] = {linear_of(matrices[0], outputs[0]), linear_of(matrices[1], outputs[1])};
        gpu::gemv(gpu_->context, with_norm ? normed.view : given.view, calls, with_norm ? &norm : nullptr);
        test::OwnedActivations expected(tokens, columns);
        if (with_norm) {
          ops::Norm host = norm;
          host.x = x.data(), host.weight = weight.data(), host.out = expected.view;
          reference::norm(host);
          expect_normed(normed, expected.values);
        }
        for (size_t i = 0; i < 2; ++i) {
          SCOPED_TRACE(std::string(quant::type_info(matrices[i].view.type).name) + ", " +
                       std::to_string(tokens) + " tokens, " + std::to_string(matrices[i].view.rows) + " x " +
                       std::to_string(columns));
          test::expect_accurate(outputs[i].errors(matrices[i], with_norm ? expected : given.host), true);
        }
        if (HasFatalFailure()) return;
      }
}

// Integer tensor cores: any count of tokens, the last of them few, outputs of two types side by side.
TEST_F(GpuGemv, TilesOfTokens) {
  const uint64_t seed = test::new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const std::vector<Type> types = {Type::Q4_K, Type::Q6_K, Type::Q5_K, Type::Q8_0};
  int round = 0;
  for (const int64_t columns : {256, 2048, 4096, 2560})
    for (const int64_t tokens : {1, 5, 8, 9, 16, 31, 32, 50}) {
      const GpuActivations x(tokens, columns, &random);
      std::vector<GpuMatrix> matrices;
      std::vector<Output> outputs;
      for (int i = 0; i < 2; ++i) {
        const Type type = types[size_t(round++ % 3 + i) % types.size()];
        matrices.emplace_back(gpu_->context, type, 1 + random.below(i == 0 ? 900 : 70), columns, random);
        outputs.emplace_back(tokens, matrices.back().view.rows, random.below(2) != 0, random);
      }
      const ops::Linear calls[] = {linear_of(matrices[0], outputs[0]), linear_of(matrices[1], outputs[1])};
      const bool fits = gpu::gemv_tile(gpu_->context, x.view, calls);
      if (gpu_->context.limits.architecture < 900) {
        ASSERT_FALSE(fits);
        return;
      }
      ASSERT_TRUE(fits) << tokens << " tokens, " << columns << " columns";
      for (size_t i = 0; i < 2; ++i) {
        SCOPED_TRACE(std::string(quant::type_info(matrices[i].view.type).name) + ", " +
                     std::to_string(tokens) + " tokens, " + std::to_string(matrices[i].view.rows) + " x " +
                     std::to_string(columns));
        test::expect_accurate(outputs[i].errors(matrices[i], x.host), true);
      }
      if (HasFatalFailure()) return;
    }
}

// More rows than lie in shared memory at once.
TEST_F(GpuGemv, RowsThroughARing) {
  const uint64_t seed = test::new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (const Type type : {Type::Q4_K, Type::Q6_K})
    for (const int64_t tokens : {1, 4, 12}) {
      SCOPED_TRACE(std::string(quant::type_info(type).name) + ", " + std::to_string(tokens) + " tokens");
      const GpuMatrix w(gpu_->context, type, 30011, 1024, random);
      const GpuActivations x(tokens, 1024, &random);
      const Output out(tokens, w.view.rows, false, random);
      const ops::Linear call[] = {linear_of(w, out)};
      gpu::linear(gpu_->context, x.view, call, nullptr);
      test::expect_accurate(out.errors(w, x.host), true);
      if (HasFatalFailure()) return;
    }
}

// Equal bits whatever else is computed beside a row, and from run to run.
TEST_F(GpuGemv, RunsAreEqual) {
  const uint64_t seed = test::new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const GpuMatrix w(gpu_->context, Type::Q4_K, 512, 2048, random);
  const GpuActivations x(1, 2048, &random);
  std::vector<float> first;
  for (int run = 0; run < 3; ++run) {
    const DeviceArray<float> out(512);
    const ops::Linear call[] = {{w.view, out.data(), 0, false}};
    gpu::gemv(gpu_->context, x.view, call, nullptr);
    if (run == 0) first = out.values();
    ASSERT_EQ(out.values(), first);
  }
}

}  // namespace
}  // namespace dw
