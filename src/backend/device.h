// A Device runs the ops of kernels/ops.h on one kind of hardware. The contract: an op call may return before
// the work is done (a device with a stream); calls execute in order; synchronize() waits. All memory an op
// touches belongs to the device, except pointers marked `host` in ops.h, which the device copies before it
// returns. Results are the same for any number of threads, and a token's result does not depend on the other
// sequences of its batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/expected.h"
#include "kernels/ops.h"
#include "kernels/work_record.h"

namespace dw {

class Device;

// Device memory, freed with the object. Contents start as zero.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, void* data, uint64_t size_bytes) : device_(device), data_(data), size_(size_bytes) {}
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  uint64_t size_bytes() const { return size_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  uint64_t size_ = 0;
};

struct MemoryInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;         // "cpu"
  virtual std::string description() const = 0;  // "AMD EPYC, avx512, 2 threads"
  virtual MemoryInfo memory() const = 0;
  // Bytes a second that a plain read of the device's memory reaches, measured now (below a second); 0: not
  // known.
  virtual double measure_bandwidth() { return 0; }

  virtual Expected<Buffer> allocate(uint64_t size_bytes) = 0;
  virtual void free_memory(void* data, uint64_t size_bytes) = 0;
  virtual void copy_to_device(void* to, const void* from, uint64_t size_bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, uint64_t size_bytes) = 0;  // waits
  virtual void copy_on_device(void* to, const void* from, uint64_t size_bytes) = 0;
  virtual void fill_zero(void* data, uint64_t size_bytes) = 0;
  virtual void synchronize() = 0;

  // Brings a weight that lies in host memory (valid as long as the model) into the device's layout.
  virtual Expected<ops::Matrix> import(const ops::Matrix& host) = 0;
  // Bytes of the device's memory that import(host) takes.
  virtual uint64_t import_bytes(const ops::Matrix& host) const {
    return host.matrix_bytes() * uint64_t(host.count);
  }

  // Allocates the working memory of the largest call there will be (sizes count, not data).
  virtual void reserve(const ops::Moe& largest) = 0;
  virtual void reserve(const ops::DeltaMixer&) {}
  virtual void reserve(const ops::Attention&) {}
  virtual void reserve(const ops::TopLogits&) {}
  virtual void reserve_linear(int64_t tokens, int64_t columns) { (void)tokens, (void)columns; }

  // Says which batch the next ops belong to, so that a device can bring its ids, spans, pages and rows over
  // at once. Ops given other host arrays still work, slower.
  virtual void begin_batch(const ops::Batch&) {}
  // The layer the next ops belong to, for records of work; -1: none.
  virtual void begin_layer(int32_t) {}
  // Runs a pass: the ops that `issue` calls for the batch of begin_batch(). A device may keep what was issued
  // under `key` and the batch's shape, and issue that again without calling `issue`. So `issue` must depend
  // on nothing but key, the batch's shape and memory that stays where it is, and must not wait.
  virtual void run_pass(uint64_t key, const std::function<void()>& issue) {
    (void)key;
    issue();
  }

  // Between the two calls the device notes the work of every launch, those of passes it issues again
  // included. take: the notes in the order of the launches; none from a device that does not launch kernels.
  virtual void start_work_log() {}
  virtual std::vector<WorkRecord> take_work_log() { return {}; }

  // Says that imported weights lie in a mapped file which memory cannot hold. A device that reads experts
  // there asks for the chosen ones ahead of their use; other devices have nothing to do.
  virtual void expect_absent_experts() {}

  virtual void embed(const ops::Embed& op) = 0;
  virtual void norm(const ops::Norm& op) = 0;
  // Copies fp32 rows into activations and fills their quantised part.
  virtual void pack(const float* rows, const ops::Activations& out) = 0;
  // Several matrices with one input, so that a device can run them as one launch.
  virtual void linear(const ops::Activations& x, std::span<const ops::Linear> outputs) = 0;
  virtual void delta_mixer(const ops::DeltaMixer& op) = 0;
  // Tokens a chunk of the delta rule that prefill is fastest with here, as measured.
  virtual int32_t default_delta_chunk() const { return 32; }
  virtual void attention(const ops::Attention& op) = 0;
  virtual void moe(const ops::Moe& op) = 0;
  // The most candidates that top_logits() can give; 0: the device has no such op, and whoever wants the best
  // tokens reads all logits.
  virtual int32_t most_top_logits() const { return 0; }
  virtual void top_logits(const ops::TopLogits&) {}
  // A norm and what reads its output, so that a device can run them as one. norm.rows == nullptr.
  virtual void norm_linear(const ops::Norm& norm_op, std::span<const ops::Linear> outputs) {
    norm(norm_op);
    linear(norm_op.out, outputs);
  }
  virtual void norm_moe(const ops::Norm& norm_op, const ops::Moe& op) {
    norm(norm_op);
    moe(op);
  }
};

// An Activations with room for `tokens` rows, backed by one Buffer.
struct ActivationBuffer {
  ops::Activations view;
  Buffer memory;
  static uint64_t size_bytes(int64_t tokens, int64_t columns);
  static Expected<ActivationBuffer> allocate(Device& device, int64_t tokens, int64_t columns);
  ops::Activations rows(int64_t tokens) const;  // the first `tokens` rows
};

// kernels/reference behind the contract: dequantised weights, plain loops. The oracle of the other devices.
std::unique_ptr<Device> make_reference_device();

}  // namespace dw
