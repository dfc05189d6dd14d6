// matmul_rows of every type and level against the fp64 product of the dequantised weights and the quantised
// activations; bit-identity over token counts, token order and row splits; and the error that the
// activations' rounding adds to that of the weights.
#include "kernels/cpu/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <random>

#include "base/check.h"
#include "kernels/cpu/matmul_panel.h"
#include "kernels/random_blocks.h"

namespace dw {
namespace {

using quant::Type;

const Type kTypes[] = {Type::F32,   Type::F16,     Type::BF16,  Type::Q8_0,   Type::Q4_0,    Type::Q4_1,
                       Type::Q5_0,  Type::Q5_1,    Type::Q2_K,  Type::Q3_K,   Type::Q4_K,    Type::Q5_K,
                       Type::Q6_K,  Type::Q8_K,    Type::IQ1_S, Type::IQ1_M,  Type::IQ2_XXS, Type::IQ2_XS,
                       Type::IQ2_S, Type::IQ3_XXS, Type::IQ3_S, Type::IQ4_NL, Type::IQ4_XS,  Type::MXFP4};

std::vector<CpuLevel> available_levels() {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512})
    if (level <= detect_cpu_level()) levels.push_back(level);
  return levels;
}

struct Activations {
  std::vector<float> values;
  std::vector<int8_t> quants;
  std::vector<float> scales;
  std::vector<int16_t> sums;
  ops::Activations view;

  Activations(CpuLevel level, int64_t tokens, int64_t columns, Random& random)
      : values(size_t(tokens * columns)),
        quants(values.size()),
        scales(size_t(tokens * (columns / 32))),
        sums(size_t(tokens * (columns / 16))) {
    for (auto& value : values) value = random.normal();
    if (columns % 32 == 0)
      for (int64_t t = 0; t < tokens; ++t)
        cpu::quantize_activations(level, values.data() + t * columns, columns, quants.data() + t * columns,
                                  scales.data() + t * (columns / 32), sums.data() + t * (columns / 16));
    view = {tokens, columns, values.data(), quants.data(), scales.data(), sums.data()};
  }

  // What the product must use: the quantised values where the weights are quantised, with their residual (in
  // whole numbers of scale / 254) where the type has two planes.
  double at(Type type, int64_t token, int64_t column) const {
    const int64_t i = token * view.columns + column;
    if (!cpu::uses_quantized_activations(type)) return values[size_t(i)];
    const float d = scales[size_t(i / 32)], first = d * float(quants[size_t(i)]);
    if (cpu::planes_of(type) == 1 || d == 0) return double(quants[size_t(i)]) * d;
    const float rest = values[size_t(i)] - first;
    const float second = std::nearbyint(std::clamp(rest * (254.0f / d), -127.0f, 127.0f));
    return double(quants[size_t(i)]) * d + double(second) * (d / 254.0f);
  }
};

// The output with guard words around it and between the rows.
class GuardedOutput {
 public:
  GuardedOutput(int64_t tokens, int64_t rows, float initial)
      : tokens_(tokens),
        rows_(rows),
        stride_(rows + 5),
        data_(size_t(kMargin * 2 + tokens * stride_), kGuard) {
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t n = 0; n < rows; ++n) at(t, n) = initial;
  }
  float& at(int64_t token, int64_t row) { return data_[size_t(kMargin + token * stride_ + row)]; }
  float* begin() { return data_.data() + kMargin; }
  int64_t stride() const { return stride_; }
  bool guards_intact() const {
    for (size_t i = 0; i < data_.size(); ++i) {
      const int64_t at = int64_t(i) - kMargin;
      const bool inside = at >= 0 && at < tokens_ * stride_ && at % stride_ < rows_;
      if (!inside && std::memcmp(&data_[i], &kGuard, sizeof kGuard) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kMargin = 32;
  static constexpr float kGuard = -12345.625f;
  int64_t tokens_, rows_, stride_;
  std::vector<float> data_;
};

class Matmul : public testing::TestWithParam<std::tuple<Type, CpuLevel>> {
 protected:
  Type type() const { return std::get<0>(GetParam()); }
  CpuLevel level() const { return std::get<1>(GetParam()); }
  // The column counts to try: one to many blocks.
  std::vector<int64_t> column_counts() const {
    switch (quant::type_info(type()).block_size) {
      case 1:
        return {1, 5, 16, 31, 64, 100, 512, 2048};
      case 32:
        return {32, 64, 96, 256, 288, 480, 2048};
      default:
        return {256, 512, 768, 2048};
    }
  }
};

// A copy of the weights that ends where readable memory ends, as a mapped file may.
class WeightsAtPageEnd {
 public:
  explicit WeightsAtPageEnd(const std::vector<std::byte>& weights) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    const size_t pages = (weights.size() + page - 1) / page * page;
    size_ = pages + page;
    void* address = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    DW_CHECK(address != MAP_FAILED, "mmap");
    base_ = static_cast<std::byte*>(address);
    DW_CHECK(mprotect(base_ + pages, page, PROT_NONE) == 0, "mprotect");
    data_ = base_ + pages - weights.size();
    std::memcpy(data_, weights.data(), weights.size());
  }
  ~WeightsAtPageEnd() { munmap(base_, size_); }
  WeightsAtPageEnd(const WeightsAtPageEnd&) = delete;
  WeightsAtPageEnd& operator=(const WeightsAtPageEnd&) = delete;
  const std::byte* data() const { return data_; }

 private:
  std::byte* base_;
  std::byte* data_;
  size_t size_;
};

struct Problem {
  WeightsAtPageEnd weights;
  Activations x;
  cpu::MatmulCall call;

  Problem(Type type, CpuLevel level, int64_t rows, int64_t columns, int64_t tokens, Random& random)
      : weights(test::random_weights(type, rows, columns, random)), x(level, tokens, columns, random) {
    call.weight = {type, weights.data(), rows, columns, 1};
    call.x = x.view;
    call.token_count = tokens;
  }
  std::vector<float> dequantized() const {
    std::vector<float> out(size_t(call.weight.rows * call.weight.columns));
    quant::type_info(call.weight.type).dequantize(weights.data(), out.data(), int64_t(out.size()));
    return out;
  }
};

void expect_product(const Problem& problem, GuardedOutput& out, float initial) {
  const auto& call = problem.call;
  const int64_t columns = call.weight.columns;
  const std::vector<float> weights = problem.dequantized();
  double worst = 0;
  for (int64_t i = 0; i < call.token_count; ++i) {
    const int64_t token = call.token_rows ? call.token_rows[i] : i;
    for (int64_t n = 0; n < call.weight.rows; ++n) {
      double expected = initial, magnitude = std::fabs(initial);
      for (int64_t k = 0; k < columns; ++k) {
        const double term =
            double(weights[size_t(n * columns + k)]) * problem.x.at(call.weight.type, token, k);
        expected += term;
        magnitude += std::fabs(term);
      }
      const double error = std::fabs(out.at(i, n) - expected) / (magnitude + 1e-30);
      if (!(error <= worst)) worst = error;
      ASSERT_LE(error, 1e-5) << "row " << n << " token " << i << " columns " << columns << ": "
                             << out.at(i, n) << " instead of " << expected;
    }
  }
}

uint64_t new_seed() {
  return std::random_device{}();
}

TEST_P(Matmul, EqualsTheProductOfTheDequantizedWeights) {
  const uint64_t seed = new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (int64_t columns : column_counts())
    for (int64_t tokens : {1, 2, 3, 7, 8, 16, 33}) {
      const int64_t rows = 1 + random.below(40);
      Problem problem(type(), level(), rows, columns, tokens, random);
      const bool add = random.below(2) != 0;
      const float initial = add ? 3.0f : NAN;  // NaN: a value that is read although it must not be shows
      GuardedOutput out(tokens, rows, initial);
      problem.call.out = out.begin();
      problem.call.out_stride = out.stride();
      problem.call.add = add;
      cpu::matmul_rows(level(), problem.call, 0, rows);
      ASSERT_TRUE(out.guards_intact());
      expect_product(problem, out, add ? initial : 0.0f);
      if (HasFatalFailure()) return;
    }
}

TEST_P(Matmul, EveryRowCountAndTokenOrder) {
  const uint64_t seed = new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const int64_t columns = quant::type_info(type()).block_size == 256 ? 256 : 160;
  for (int64_t rows = 1; rows <= 40; ++rows) {
    Problem problem(type(), level(), rows, columns, 11, random);
    std::vector<int32_t> token_rows;
    for (int i = 0; i < 5; ++i) token_rows.push_back(int32_t(random.below(11)));
    problem.call.token_rows = token_rows.data();
    problem.call.token_count = 5;
    GuardedOutput out(5, rows, NAN);
    problem.call.out = out.begin();
    problem.call.out_stride = out.stride();
    cpu::matmul_rows(level(), problem.call, 0, rows);
    ASSERT_TRUE(out.guards_intact());
    expect_product(problem, out, 0.0f);
    if (HasFatalFailure()) return;
  }
}

TEST_P(Matmul, IsTheSameBitForBitHoweverTheWorkIsCut) {
  const uint64_t seed = new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const int64_t columns = quant::type_info(type()).block_size == 256 ? 2048 : 2016, rows = 83, tokens = 150;
  Problem problem(type(), level(), rows, columns, tokens, random);
  GuardedOutput whole(tokens, rows, NAN);
  problem.call.out = whole.begin();
  problem.call.out_stride = whole.stride();
  cpu::matmul_rows(level(), problem.call, 0, rows);
  for (int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 23, 64, 150}) {
    GuardedOutput part(tokens, rows, NAN);
    for (int64_t begin = 0; begin < tokens; begin += count) {
      std::vector<int32_t> token_rows;
      for (int64_t t = begin; t < std::min(begin + count, tokens); ++t) token_rows.push_back(int32_t(t));
      auto call = problem.call;
      call.token_rows = token_rows.data();
      call.token_count = int64_t(token_rows.size());
      call.out = &part.at(begin, 0);
      const int64_t cut = 16 * (1 + random.below(5));
      cpu::matmul_rows(level(), call, 0, cut);
      cpu::matmul_rows(level(), call, cut, rows);
    }
    ASSERT_TRUE(part.guards_intact());
    for (int64_t t = 0; t < tokens; ++t)
      ASSERT_EQ(std::memcmp(&part.at(t, 0), &whole.at(t, 0), size_t(rows) * sizeof(float)), 0)
          << "token " << t << " in calls of " << count << " tokens";
  }
}

// Rounding the activations may add a tenth to the error that rounding the weights makes.
class MatmulRounding : public Matmul {};

TEST_P(MatmulRounding, ErrorIsThatOfTheWeights) {
  const quant::TypeInfo& info = quant::type_info(type());
  const uint64_t seed = new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const int64_t rows = 256, columns = 2048, tokens = 5;
  std::vector<float> weights(size_t(rows * columns)), rounded(weights.size());
  for (auto& weight : weights) weight = 0.02f * random.normal();
  std::vector<std::byte> blocks(size_t(rows) * quant::row_bytes(type(), uint64_t(columns)));
  info.quantize(weights.data(), blocks.data(), rows * columns, nullptr);
  info.dequantize(blocks.data(), rounded.data(), rows * columns);
  const Activations x(level(), tokens, columns, random);
  std::vector<float> out(size_t(tokens * rows));
  cpu::MatmulCall call;
  call.weight = {type(), blocks.data(), rows, columns, 1};
  call.x = x.view;
  call.token_count = tokens;
  call.out = out.data();
  call.out_stride = rows;
  cpu::matmul_rows(level(), call, 0, rows);
  double error = 0, of_weights = 0, power = 0;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t n = 0; n < rows; ++n) {
      double exact = 0, reference = 0;
      for (int64_t k = 0; k < columns; ++k) {
        const double value = x.values[size_t(t * columns + k)];
        exact += weights[size_t(n * columns + k)] * value;
        reference += rounded[size_t(n * columns + k)] * value;
      }
      const double result = out[size_t(t * rows + n)];
      error += (result - exact) * (result - exact);
      of_weights += (reference - exact) * (reference - exact);
      power += exact * exact;
    }
  std::printf("%s: NMSE %.2e, of the weights alone %.2e, ratio %.3f\n", info.name.data(), error / power,
              of_weights / power, error / of_weights);
  EXPECT_LE(error, 1.1 * of_weights);
}

std::string name_of(const testing::TestParamInfo<std::tuple<Type, CpuLevel>>& parameter) {
  const auto [type, level] = parameter.param;
  return std::string(quant::type_info(type).name) + "_" + std::string(cpu_level_name(level));
}
// The types that round weights and can be written.
std::vector<Type> rounding_types() {
  std::vector<Type> types;
  for (Type type : kTypes)
    if (const auto& info = quant::type_info(type); info.quantize != nullptr && info.block_size > 1)
      types.push_back(type);
  return types;
}
INSTANTIATE_TEST_SUITE_P(WritableTypes, MatmulRounding,
                         testing::Combine(testing::ValuesIn(rounding_types()),
                                          testing::ValuesIn(available_levels())),
                         name_of);
INSTANTIATE_TEST_SUITE_P(AllTypes, Matmul,
                         testing::Combine(testing::ValuesIn(kTypes), testing::ValuesIn(available_levels())),
                         name_of);

TEST(MatmulTypes, TheTestCoversEveryTypeThatCanBeDequantized) {
  for (const auto& info : quant::all_types()) {
    if (info.dequantize == nullptr) continue;
    EXPECT_THAT(kTypes, testing::Contains(info.type)) << info.name;
  }
}

TEST(QuantizeActivations, LevelsAgreeAndFollowTheFormula) {
  const uint64_t seed = new_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  const int64_t columns = 32 * 64;
  std::vector<float> x(static_cast<size_t>(columns));
  for (int64_t i = 0; i < columns; ++i)
    x[size_t(i)] = random.normal() * std::exp2(float(i / 32 % 40) - 20.0f) * float(i / 32 != 3);
  for (int i = 0; i < 32; ++i)
    x[size_t(5 * 32 + i)] = 1e-45f * float(i * 7);  // scales below the normal floats
  std::vector<int8_t> first;
  for (CpuLevel level : available_levels()) {
    std::vector<int8_t> quants(x.size());
    std::vector<float> scales(x.size() / 32);
    std::vector<int16_t> sums(x.size() / 16);
    cpu::quantize_activations(level, x.data(), columns, quants.data(), scales.data(), sums.data());
    for (size_t b = 0; b < scales.size(); ++b) {
      float largest = 0;
      for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[32 * b + i]));
      ASSERT_EQ(scales[b], largest / 127.0f);
      for (size_t i = 0; i < 32 && b != 5; ++i)
        ASSERT_NEAR(quants[32 * b + i] * scales[b], x[32 * b + i], 0.5001f * scales[b]);
      for (size_t half = 0; half < 2; ++half) {
        int sum = 0;
        for (size_t i = 0; i < 16; ++i) sum += quants[32 * b + 16 * half + i];
        ASSERT_EQ(sums[2 * b + half], sum);
      }
    }
    if (first.empty()) first = quants;
    ASSERT_EQ(quants, first) << cpu_level_name(level);
  }
}

}  // namespace
}  // namespace dw
