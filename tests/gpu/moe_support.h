// Shared by the GPU tests and benchmarks of matrices and experts: device memory, weights in both layouts, a
// context.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "gpu/device_array.h"
#include "kernels/gpu/moe_route.h"
#include "kernels/random_blocks.h"
#include "kernels/reference_support.h"
#include "quant/iq_tables.h"

namespace dw::moe_test {

using test::DeviceArray;
using test::random_weights;

// The context of tests: its scratch, counters and tables live here.
struct TestContext {
  explicit TestContext(uint64_t scratch_bytes) : scratch(scratch_bytes), counters(size_t(gpu::kCounters)) {
    counters.set(std::vector<uint32_t>(size_t(gpu::kCounters), 0));
    gpu::check_runtime(cudaStreamCreate(&context.stream), "cudaStreamCreate");
    context.limits = test::device_limits();
    context.scratch = scratch.data();
    context.scratch_bytes = scratch_bytes;
    context.counters = counters.data();
    context.tables.iq2xxs = grid(quant::kIq2xxsGrid);
    context.tables.iq2xs = grid(quant::kIq2xsGrid);
    context.tables.iq2s = grid(quant::kIq2sGrid);
    context.tables.iq3xxs = grid(quant::kIq3xxsGrid);
    context.tables.iq3s = grid(quant::kIq3sGrid);
    context.tables.iq1 = grid(quant::kIq1Grid);
  }
  void synchronize() { gpu::check_runtime(cudaStreamSynchronize(context.stream), "cudaStreamSynchronize"); }

  DeviceArray<std::byte> scratch;
  DeviceArray<uint32_t> counters;
  gpu::Context context;

 private:
  template <class Grid>
  const typename Grid::value_type* grid(const Grid& values) {
    typename Grid::value_type* data = nullptr;
    const size_t bytes = values.size() * sizeof(values[0]);
    gpu::check_runtime(cudaMalloc(&data, bytes), "cudaMalloc");
    gpu::check_runtime(cudaMemcpy(data, values.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    return data;
  }
};

// Random weights in the file's layout on the host and in the device's. `count` matrices repeat the first
// `distinct`. Values have about the given deviation.
struct TestMatrix {
  std::vector<std::byte> file;
  DeviceArray<std::byte> device;
  ops::Matrix host_view, device_view;

  TestMatrix(gpu::Context& context, quant::Type type, int64_t rows, int64_t columns, int64_t count,
             float deviation, Random& random, int64_t distinct = 0)
      : device(size_t(count * rows) * gpu::device_row_bytes(type, columns)) {
    if (distinct == 0) distinct = count;
    file = make_values(type, rows * distinct, columns, deviation, random);
    const uint64_t row_bytes = gpu::device_row_bytes(type, columns);
    DeviceArray<std::byte> staging(file);
    const uint64_t matrix = uint64_t(rows) * quant::row_bytes(type, uint64_t(columns));
    for (int64_t first = 0; first < count; first += distinct) {
      const int64_t here = std::min(distinct, count - first);
      gpu::repack(context, type, columns, rows * here, staging.data(),
                  device.data() + uint64_t(first * rows) * row_bytes);
    }
    gpu::check_runtime(cudaStreamSynchronize(context.stream), "repack");
    (void)matrix;
    host_view = {type, file.data(), rows, columns, distinct, 0};
    device_view = {type, device.data(), rows, columns, count, row_bytes};
  }

 private:
  static std::vector<std::byte> make_values(quant::Type type, int64_t rows, int64_t columns, float deviation,
                                            Random& random) {
    const quant::TypeInfo& info = quant::type_info(type);
    const int64_t row_bytes = int64_t(quant::row_bytes(type, uint64_t(columns)));
    if (info.quantize == nullptr || info.block_size == 1) {
      std::vector<std::byte> data = random_weights(type, rows, columns, random);
      if (info.block_size == 1) {
        std::vector<float> row(static_cast<size_t>(columns));
        for (int64_t r = 0; r < rows; ++r) {
          for (float& v : row) v = deviation * random.normal();
          info.quantize(row.data(), data.data() + r * row_bytes, columns, nullptr);
        }
      }
      return data;
    }
    // A small pool of quantised rows, drawn at random: quantising every row would take minutes.
    const int64_t pool_rows = std::min<int64_t>(rows, 64);
    std::vector<std::byte> pool(static_cast<size_t>(pool_rows * row_bytes));
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t r = 0; r < pool_rows; ++r) {
      for (float& v : row) v = deviation * random.normal();
      info.quantize(row.data(), pool.data() + r * row_bytes, columns, nullptr);
    }
    if (pool_rows == rows) return pool;
    std::vector<std::byte> data(static_cast<size_t>(rows * row_bytes));
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(data.data() + r * row_bytes, pool.data() + random.below(pool_rows) * row_bytes,
                  size_t(row_bytes));
    return data;
  }
};

// Activations on the device; quantised by pack().
struct TestActivations {
  DeviceArray<float> values, scales, rows;
  DeviceArray<int8_t> quants;
  DeviceArray<int16_t> sums;
  ops::Activations view;

  TestActivations(gpu::Context& context, const std::vector<float>& data, int64_t tokens, int64_t columns)
      : values(data.size()),
        scales(data.size() / 32 + 1),
        rows(data),
        quants(data.size()),
        sums(data.size() / 16 + 1) {
    view = {tokens, columns, values.data(), nullptr, nullptr, nullptr};
    if (columns % 32 == 0) view.quants = quants.data(), view.scales = scales.data(), view.sums = sums.data();
    gpu::pack(context, rows.data(), view);
  }
};

}  // namespace dw::moe_test
