// A read-only view of a whole file, memory-mapped or read into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/expected.h"

namespace dw {

class MappedFile {
 public:
  enum class Mode { kMap, kRead };  // kRead copies the file into anonymous memory (--no-mmap)
  // Called while reading with (bytes done, bytes in all).
  using Progress = std::function<void(uint64_t, uint64_t)>;

  // Errors: cannot open, not a regular file, empty, mapping refused, read failed.
  static Expected<MappedFile> open(const std::string& path, Mode mode = Mode::kMap,
                                   const Progress& progress = {});

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    swap(other);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  bool is_mapped() const { return mode_ == Mode::kMap; }
  // Asks the kernel to read the range ahead (no effect in kRead mode).
  void prefetch(uint64_t offset, uint64_t size_bytes) const;
  // Tells the kernel that pages are used in no order, so that a fault reads what was asked for and not its
  // neighbours (no effect in kRead mode).
  void expect_random_access() const;
  // Reads the range into memory and waits for it; with `keep`, asks that it stay there (mlock). Returns
  // whether it will stay: false without `keep`, or where the limit on locked memory forbids it.
  bool load(uint64_t offset, uint64_t size_bytes, bool keep) const;

 private:
  void swap(MappedFile& other) noexcept;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  Mode mode_ = Mode::kMap;
};

// Asks the kernel to begin reading the pages of a range of a mapped file; returns before they are there. Has
// no effect on other memory. Costs a look at each page even when all are present.
void fetch_pages(const void* data, uint64_t size_bytes);

}  // namespace dw
