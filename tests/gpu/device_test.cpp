// Memory, norm and pack on the GPU.
#include "gpu/support.h"

namespace dw {
namespace {

using test::gpu;

TEST(GpuDevice, MemoryIsZeroedAndCopied) {
  for (uint64_t size : {0, 1, 63, 64, 1000, 1 << 20}) {
    Expected<Buffer> buffer = gpu()->allocate(size);
    ASSERT_TRUE(buffer);
    std::vector<char> host(size, 'x');
    gpu()->copy_to_host(host.data(), buffer->data(), size);
    EXPECT_EQ(host, std::vector<char>(size, 0));
    std::fill(host.begin(), host.end(), 'y');
    gpu()->copy_to_device(buffer->data(), host.data(), size);
    std::vector<char> back(size);
    gpu()->copy_to_host(back.data(), buffer->data(), size);
    EXPECT_EQ(back, host);
  }
}

TEST(GpuDevice, TooMuchMemoryIsAnErrorAndTheDeviceGoesOn) {
  const Expected<Buffer> buffer = gpu()->allocate(uint64_t(1) << 46);
  ASSERT_FALSE(buffer);
  EXPECT_NE(buffer.error().message.find("cannot allocate 64.00 TiB"), std::string::npos)
      << buffer.error().message;
  EXPECT_TRUE(gpu()->allocate(4096));
}

TEST(GpuDevice, NoSuchDeviceIsAnError) {
  GpuOptions options;
  options.index = 1000;
  const auto device = make_gpu_device(options);
  ASSERT_FALSE(device);
  EXPECT_NE(device.error().message.find("there is no GPU 1000"), std::string::npos);
}

TEST(GpuNorm, IsTheReferences) {
  const uint64_t seed = 20261123;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  Random random(seed);
  const auto reference = make_reference_device();
  for (const int64_t columns : {32, 40, 96, 128, 512, 2048, 5120}) {
    for (const int64_t tokens : {1, 3, 17}) {
      const std::vector<float> x = test::normals(random, tokens * columns, 3.0f);
      const std::vector<float> weight = test::normals(random, columns, 0.3f, 1.0f);
      std::vector<int32_t> rows;
      for (int64_t t = 0; t < tokens; ++t) rows.push_back(int32_t(random.below(uint32_t(tokens))));
      for (const bool select : {false, true}) {
        test::OwnedActivations expected(tokens, columns);
        ops::Norm op{x.data(), select ? rows.data() : nullptr, weight.data(), 1e-6f, expected.view};
        reference->norm(op);
        const test::OnGpu<float> device_x(x), device_weight(weight);
        const test::CheckedActivations out(tokens, columns);
        op.x = device_x.data();
        op.weight = device_weight.data();
        op.out = out.view;
        gpu()->norm(op);
        EXPECT_LE(test::nmse(out.values.values(), expected.values), 1e-12) << tokens << " x " << columns;
        out.check(std::to_string(tokens) + " x " + std::to_string(columns));
      }
    }
  }
}

TEST(GpuPack, CopiesAndQuantises) {
  Random random(7);
  for (const int64_t columns : {40, 64, 4096}) {
    std::vector<float> x = test::normals(random, 5 * columns);
    std::fill_n(x.begin(), 32, 0.0f);
    const test::OnGpu<float> device_x(x);
    const test::CheckedActivations out(5, columns);
    gpu()->pack(device_x.data(), out.view);
    EXPECT_EQ(out.values.values(), x);
    out.check(std::to_string(columns));
  }
}

}  // namespace
}  // namespace dw
