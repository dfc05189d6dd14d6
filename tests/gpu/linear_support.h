// Shared by the tests of the GPU kernels: device memory that is poisoned when made, uploads, a context, and
// random matrices in both layouts with their dequantised values.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>

#include "gpu/device_array.h"
#include "kernels/gpu/internal.h"
#include "kernels/random_blocks.h"
#include "kernels/reference/reference.h"
#include "kernels/reference_support.h"
#include "quant/iq_tables.h"

namespace dw::test {

inline uint64_t new_seed() {
  return std::random_device{}();
}

// A context on its own stream, overlapping launches as the device does.
class GpuContext {
 public:
  GpuContext()
      : iq2xxs_(quant::kIq2xxsGrid),
        iq2xs_(quant::kIq2xsGrid),
        iq2s_(quant::kIq2sGrid),
        iq3xxs_(quant::kIq3xxsGrid),
        iq3s_(quant::kIq3sGrid),
        iq1_(quant::kIq1Grid) {
    gpu::check_runtime(cudaStreamCreate(&context.stream), "cudaStreamCreate");
    context.limits = device_limits();
    context.tables = {iq2xxs_.data(), iq2xs_.data(), iq2s_.data(), iq3xxs_.data(), iq3s_.data(), iq1_.data()};
  }
  ~GpuContext() { cudaStreamDestroy(context.stream); }

  gpu::Context context;

 private:
  DeviceArray<uint64_t> iq2xxs_, iq2xs_, iq2s_;
  DeviceArray<uint32_t> iq3xxs_, iq3s_;
  DeviceArray<uint64_t> iq1_;
};

// A fixture with a context. Base: testing::Test or TestWithParam.
template <class Base>
class WithGpu : public Base {
 protected:
  void SetUp() override { gpu_ = std::make_unique<GpuContext>(); }
  std::unique_ptr<GpuContext> gpu_;
};

// A random matrix (or `count` of them): the file's bytes, the device's copy, and its values.
struct GpuMatrix {
  std::vector<std::byte> file;
  std::vector<float> values;  // [count * rows, columns]
  DeviceArray<std::byte> data;
  ops::Matrix view;  // device

  GpuMatrix() = default;
  GpuMatrix(gpu::Context& context, quant::Type type, int64_t rows, int64_t columns, Random& random,
            int64_t count = 1)
      : file(random_weights(type, rows * count, columns, random)), values(size_t(rows * count * columns)) {
    quant::type_info(type).dequantize(file.data(), values.data(), int64_t(values.size()));
    const uint64_t stride = gpu::device_row_bytes(type, columns);
    const DeviceArray<std::byte> staged(file);
    data = DeviceArray<std::byte>(size_t(rows * count) * stride);
    gpu::repack(context, type, columns, rows * count, staged.data(), data.data());
    gpu::check_runtime(cudaStreamSynchronize(context.stream), "repack");
    view = {type, data.data(), rows, columns, count, stride};
  }
  const float* row(int64_t r) const { return values.data() + r * view.columns; }
};

// Activations on the device with a host copy (quantised as ops.h says).
struct GpuActivations {
  OwnedActivations host;
  DeviceArray<float> values, scales;
  DeviceArray<int8_t> quants;
  DeviceArray<int16_t> sums;
  ops::Activations view;

  // Filled with random values, or poison.
  GpuActivations(int64_t tokens, int64_t columns, Random* random) : host(tokens, columns) {
    const size_t count = size_t(tokens * columns);
    values = DeviceArray<float>(count);
    view = {tokens, columns, values.data(), nullptr, nullptr, nullptr};
    if (columns % 32 == 0) {
      quants = DeviceArray<int8_t>(count);
      scales = DeviceArray<float>(count / 32);
      sums = DeviceArray<int16_t>(count / 16);
      view.quants = quants.data(), view.scales = scales.data(), view.sums = sums.data();
    }
    if (random == nullptr) return;
    // Rows of different size; now and then a group of zeros.
    for (size_t i = 0; i < count; ++i)
      host.values[i] = (i / 32) % 13 == 5 ? 0.0f : random->normal() * float(1 + i / size_t(columns) % 3);
    reference::quantize(host.view);
    values.set(host.values);
    if (view.quants == nullptr) return;
    quants.set(host.quants);
    scales.set(host.scales);
    sums.set(host.sums);
  }
  // The value that the CPU multiplies with quantised weights.
  static double rounded(const OwnedActivations& x, size_t i) {
    return double(x.quants[i]) * double(x.scales[i / 32]);
  }
};

inline const std::vector<quant::Type>& float_types() {
  static const std::vector<quant::Type> types = {quant::Type::F32, quant::Type::F16, quant::Type::BF16};
  return types;
}
inline const std::vector<quant::Type>& quantised_types() {
  using enum quant::Type;
  static const std::vector<quant::Type> types = {Q8_0,   Q4_0,  Q4_1,    Q5_0,  Q5_1,   Q2_K,   Q3_K,
                                                 Q4_K,   Q5_K,  Q6_K,    Q8_K,  IQ1_S,  IQ1_M,  IQ2_XXS,
                                                 IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_NL, IQ4_XS, MXFP4};
  return types;
}
inline std::vector<quant::Type> all_matrix_types() {
  std::vector<quant::Type> types = float_types();
  types.insert(types.end(), quantised_types().begin(), quantised_types().end());
  return types;
}
inline bool is_float(quant::Type type) {
  return quant::type_info(type).block_size == 1;
}

// Squared errors against the exact product, of the device and of the CPU's way (activations rounded to int8
// where weights are quantised, everything else exact).
struct Errors {
  double device = 0, cpu = 0, power = 0;
  double device_nmse() const { return device / power; }
  double cpu_nmse() const { return cpu / power; }
};
// The lines of issue 3: fp32 paths NMSE <= 1e-9, quantised paths <= 1.1 times the CPU's error.
inline void expect_accurate(const Errors& errors, bool quantised) {
  ASSERT_GT(errors.power, 0);
  ASSERT_LE(errors.device_nmse(), quantised ? 1.1 * errors.cpu_nmse() + 1e-12 : 1e-9)
      << "the CPU's way: " << errors.cpu_nmse();
}

}  // namespace dw::test
