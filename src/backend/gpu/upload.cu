#include "backend/gpu/upload.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/gpu/ops.h"

namespace dw::gpu {
namespace {

constexpr int kCopyThreads = 8;
constexpr uint64_t kCopyPiece = 1 << 20;

int copy_threads() {
  return std::clamp(physical_core_count(), 1, kCopyThreads);
}

}  // namespace

Uploader::Uploader(Stream stream) : stream_(stream), pool_(copy_threads()) {
  for (Slice& slice : slices_) {
    void* memory = nullptr;
    check_runtime(allocate_pinned(&memory, kSliceBytes), "allocate page-locked memory");
    slice.pinned = static_cast<std::byte*>(memory);
    check_runtime(allocate_device(&memory, kSliceBytes), "allocate upload memory");
    slice.device = static_cast<std::byte*>(memory);
    check_runtime(DW_RUNTIME(EventCreateWithFlags)(&slice.done, DW_RUNTIME(EventDisableTiming)), "event");
  }
}

Uploader::~Uploader() {
  for (Slice& slice : slices_) {
    (void)DW_RUNTIME(EventDestroy)(slice.done);
    (void)free_pinned(slice.pinned);
    (void)free_device(slice.device);
  }
}

void Uploader::fill(std::byte* to, const std::byte* from, uint64_t bytes) {
  pool_.parallel_for(int64_t((bytes + kCopyPiece - 1) / kCopyPiece), [&](int64_t piece, int) {
    const uint64_t at = uint64_t(piece) * kCopyPiece;
    std::memcpy(to + at, from + at, size_t(std::min(kCopyPiece, bytes - at)));
  });
}

void Uploader::upload(Context& context, const ops::Matrix& host, std::byte* to) {
  const uint64_t file_stride = quant::row_bytes(host.type, uint64_t(host.columns));
  const uint64_t device_stride = device_row_bytes(host.type, host.columns);
  DW_CHECK(file_stride <= kSliceBytes, "a row is larger than an upload slice");
  const int64_t rows = host.rows * host.count;
  const int64_t slice_rows = int64_t(kSliceBytes / file_stride);
  for (int64_t row = 0; row < rows; row += slice_rows) {
    const int64_t count = std::min(slice_rows, rows - row);
    const uint64_t bytes = uint64_t(count) * file_stride;
    Slice& slice = slices_[next_];
    next_ ^= 1;
    check_runtime(DW_RUNTIME(EventSynchronize)(slice.done), "wait for an upload");
    fill(slice.pinned, host.data + uint64_t(row) * file_stride, bytes);
    check_runtime(copy(slice.device, slice.pinned, bytes, CopyKind::kToDevice, stream_), "upload");
    repack(context, host.type, host.columns, count, slice.device, to + uint64_t(row) * device_stride);
    check_runtime(DW_RUNTIME(EventRecord)(slice.done, stream_), "event");
  }
}

}  // namespace dw::gpu
