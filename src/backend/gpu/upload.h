// Weights from host memory (a mapped file, mostly) to the device: slices pass through two page-locked buffers
// that several threads fill, and a kernel rewrites each slice into the device's layout. So the file is read,
// copied and repacked at the same time.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "kernels/gpu/runtime.h"

namespace dw::gpu {

class Uploader {
 public:
  explicit Uploader(Stream stream);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // All rows of all experts of `host`; to: rows * count rows of device_row_bytes(). Returns when `host` has
  // been read; the device may still be at work on the context's stream.
  void upload(Context& context, const ops::Matrix& host, std::byte* to);

 private:
  static constexpr uint64_t kSliceBytes = 32 << 20;
  void fill(std::byte* to, const std::byte* from, uint64_t bytes);

  Stream stream_;
  ThreadPool pool_;
  struct Slice {
    std::byte* pinned = nullptr;
    std::byte* device = nullptr;
    Event done = nullptr;
  };
  Slice slices_[2];
  int next_ = 0;
};

}  // namespace dw::gpu
