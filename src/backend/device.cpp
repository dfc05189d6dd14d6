#include "backend/device.h"

namespace dw {
namespace {

// Where the parts of an Activations lie in its buffer; each begins on a cache line.
struct Layout {
  uint64_t quants = 0, scales = 0, sums = 0, end = 0;

  Layout(int64_t tokens, int64_t columns) {
    const uint64_t count = uint64_t(tokens) * uint64_t(columns);
    quants = align(count * sizeof(float));
    if (columns % 32 != 0) {
      end = quants;
      return;
    }
    scales = align(quants + count);
    sums = align(scales + count / 32 * sizeof(float));
    end = align(sums + count / 16 * sizeof(int16_t));
  }
  static uint64_t align(uint64_t offset) { return (offset + 63) / 64 * 64; }
};

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) device_->free_memory(data_, size_);
}

uint64_t ActivationBuffer::size_bytes(int64_t tokens, int64_t columns) {
  return Layout(tokens, columns).end;
}

Expected<ActivationBuffer> ActivationBuffer::allocate(Device& device, int64_t tokens, int64_t columns) {
  const Layout layout(tokens, columns);
  Expected<Buffer> memory = device.allocate(layout.end);
  if (!memory) return memory.error();
  ActivationBuffer result;
  result.memory = std::move(*memory);
  auto* base = result.memory.as<std::byte>();
  result.view.tokens = tokens;
  result.view.columns = columns;
  result.view.values = reinterpret_cast<float*>(base);
  if (columns % 32 == 0) {
    result.view.quants = reinterpret_cast<int8_t*>(base + layout.quants);
    result.view.scales = reinterpret_cast<float*>(base + layout.scales);
    result.view.sums = reinterpret_cast<int16_t*>(base + layout.sums);
  }
  return result;
}

ops::Activations ActivationBuffer::rows(int64_t tokens) const {
  DW_CHECK(tokens <= view.tokens, "more rows asked for than the buffer holds");
  ops::Activations result = view;
  result.tokens = tokens;
  return result;
}

}  // namespace dw
