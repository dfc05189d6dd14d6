#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "backend/device.h"

namespace dw {
namespace {

TEST(ReferenceDevice, MemoryIsZeroedAlignedAndCopied) {
  const std::unique_ptr<Device> device = make_reference_device();
  EXPECT_EQ(device->name(), "reference");
  EXPECT_GE(device->memory().total_bytes, device->memory().free_bytes);
  EXPECT_GT(device->memory().free_bytes, 0u);
  for (uint64_t size : {0, 1, 63, 64, 1000}) {
    Expected<Buffer> buffer = device->allocate(size);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(buffer->size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
    std::vector<char> host(size, 'x');
    device->copy_to_host(host.data(), buffer->data(), size);
    EXPECT_EQ(host, std::vector<char>(size, 0));
    std::fill(host.begin(), host.end(), 'y');
    device->copy_to_device(buffer->data(), host.data(), size);
    std::vector<char> back(size);
    device->copy_to_host(back.data(), buffer->data(), size);
    EXPECT_EQ(back, host);
    device->fill_zero(buffer->data(), size);
    device->copy_to_host(back.data(), buffer->data(), size);
    EXPECT_EQ(back, std::vector<char>(size, 0));
  }
}

TEST(ReferenceDevice, TooMuchMemoryIsAnErrorWithTheSize) {
  const std::unique_ptr<Device> device = make_reference_device();
  const Expected<Buffer> buffer = device->allocate(~uint64_t(0));
  ASSERT_FALSE(buffer);
  EXPECT_NE(buffer.error().message.find("cannot allocate"), std::string::npos);
}

TEST(ReferenceDevice, BuffersMove) {
  const std::unique_ptr<Device> device = make_reference_device();
  Buffer a = std::move(*device->allocate(64));
  void* data = a.data();
  Buffer b = std::move(a);
  EXPECT_EQ(b.data(), data);
  Buffer c = std::move(*device->allocate(32));
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
  EXPECT_EQ(c.size_bytes(), 64u);
}

TEST(ReferenceDevice, ImportKeepsTheMatrixAndRefusesIntegers) {
  const std::unique_ptr<Device> device = make_reference_device();
  const float values[64] = {};
  const ops::Matrix matrix{quant::Type::F32, reinterpret_cast<const std::byte*>(values), 2, 32, 1};
  const Expected<ops::Matrix> imported = device->import(matrix);
  ASSERT_TRUE(imported);
  EXPECT_EQ(imported->data, matrix.data);
  EXPECT_FALSE(device->import({quant::Type::I32, matrix.data, 2, 32, 1}));
}

TEST(ActivationBuffer, PartsDoNotOverlapAndLieInTheBuffer) {
  const std::unique_ptr<Device> device = make_reference_device();
  for (int64_t columns : {32, 96, 40}) {
    const Expected<ActivationBuffer> buffer = ActivationBuffer::allocate(*device, 5, columns);
    ASSERT_TRUE(buffer);
    const ops::Activations view = buffer->view;
    const auto* begin = buffer->memory.as<std::byte>();
    const auto offset = [&](const void* part) {
      return uint64_t(static_cast<const std::byte*>(part) - begin);
    };
    EXPECT_EQ(view.tokens, 5);
    EXPECT_EQ(view.columns, columns);
    EXPECT_EQ(buffer->memory.size_bytes(), ActivationBuffer::size_bytes(5, columns));
    EXPECT_EQ(offset(view.values), 0u);
    if (columns % 32 != 0) {
      EXPECT_EQ(view.quants, nullptr);
      EXPECT_GE(buffer->memory.size_bytes(), uint64_t(5 * columns * 4));
      continue;
    }
    EXPECT_GE(offset(view.quants), uint64_t(5 * columns * 4));
    EXPECT_GE(offset(view.scales), offset(view.quants) + uint64_t(5 * columns));
    EXPECT_GE(offset(view.sums), offset(view.scales) + uint64_t(5 * columns / 32 * 4));
    EXPECT_GE(buffer->memory.size_bytes(), offset(view.sums) + uint64_t(5 * columns / 16 * 2));
    EXPECT_EQ(buffer->rows(3).tokens, 3);
    EXPECT_EQ(buffer->rows(3).sums, view.sums);
  }
}

TEST(ReferenceDevice, RunsAnOpThroughTheContract) {
  const std::unique_ptr<Device> device = make_reference_device();
  Expected<ActivationBuffer> out = ActivationBuffer::allocate(*device, 1, 32);
  ASSERT_TRUE(out);
  std::vector<float> x(32, 2.0f), weight(32, 3.0f);
  device->norm({x.data(), nullptr, weight.data(), 0.0f, out->view});
  device->synchronize();
  EXPECT_FLOAT_EQ(out->view.values[31], 3.0f);
  EXPECT_EQ(out->view.quants[31], 127);
  device->pack(x.data(), out->view);
  EXPECT_EQ(out->view.values[31], 2.0f);
  EXPECT_EQ(out->view.scales[0], 2.0f / 127.0f);
}

}  // namespace
}  // namespace dw
