#include <cstring>

#include "backend/device.h"
#include "backend/host_memory.h"
#include "kernels/reference/reference.h"

namespace dw {
namespace {

class ReferenceDevice final : public Device {
 public:
  std::string name() const override { return "reference"; }
  std::string description() const override { return "reference implementation, plain loops, 1 thread"; }
  MemoryInfo memory() const override { return host_memory_info(); }

  Expected<Buffer> allocate(uint64_t size_bytes) override {
    Expected<void*> data = allocate_host_memory(size_bytes);
    if (!data) return data.error();
    return Buffer(this, *data, size_bytes);
  }
  void free_memory(void* data, uint64_t) override { free_host_memory(data); }
  void copy_to_device(void* to, const void* from, uint64_t size_bytes) override {
    copy_on_device(to, from, size_bytes);
  }
  void copy_to_host(void* to, const void* from, uint64_t size_bytes) override {
    copy_on_device(to, from, size_bytes);
  }
  void copy_on_device(void* to, const void* from, uint64_t size_bytes) override {
    if (size_bytes > 0) std::memmove(to, from, size_t(size_bytes));
  }
  void fill_zero(void* data, uint64_t size_bytes) override {
    if (size_bytes > 0) std::memset(data, 0, size_t(size_bytes));
  }
  void synchronize() override {}

  Expected<ops::Matrix> import(const ops::Matrix& host) override {
    const quant::TypeInfo* type = quant::find_type(host.type);
    if (type == nullptr || type->dequantize == nullptr) {
      return make_error("the reference device cannot use weights of type ",
                        type ? type->name : std::string_view("unknown"));
    }
    return host;
  }

  void reserve(const ops::Moe&) override {}

  void embed(const ops::Embed& op) override { reference::embed(op); }
  void norm(const ops::Norm& op) override { reference::norm(op); }
  void pack(const float* rows, const ops::Activations& out) override {
    copy_on_device(out.values, rows, uint64_t(out.tokens * out.columns) * sizeof(float));
    reference::quantize(out);
  }
  void linear(const ops::Activations& x, std::span<const ops::Linear> outputs) override {
    reference::linear(x, outputs);
  }
  void delta_mixer(const ops::DeltaMixer& op) override { reference::delta_mixer(op); }
  void attention(const ops::Attention& op) override { reference::attention(op); }
  void moe(const ops::Moe& op) override { reference::moe(op); }
};

}  // namespace

std::unique_ptr<Device> make_reference_device() {
  return std::make_unique<ReferenceDevice>();
}

}  // namespace dw
