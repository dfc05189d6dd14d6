#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace dw {
namespace {

constexpr uint64_t kReadStepBytes = 64u << 20;
// The kernel cuts one request to read ahead at the larger of the device's read-ahead and its largest
// transfer, and drops the rest in silence. This is the least of either that is usual; so each request goes to
// the end of the range, and the next one begins this much later. Pages that are there or on their way are
// skipped.
constexpr uint64_t kFetchStepBytes = 128u << 10;

struct PageRange {
  std::byte* begin;
  size_t size_bytes;
};

PageRange whole_pages(const void* data, uint64_t size_bytes) {
  const auto page = uintptr_t(::sysconf(_SC_PAGESIZE));
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = address / page * page;
  return {reinterpret_cast<std::byte*>(begin), size_t(address + size_bytes - begin)};
}

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Expected<void> read_all(int fd, std::byte* out, uint64_t size, const std::string& path,
                        const MappedFile::Progress& progress) {
  uint64_t done = 0;
  while (done < size) {
    const ssize_t got = ::read(fd, out + done, size_t(std::min(kReadStepBytes, size - done)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return make_error("cannot read ", path, ": ", std::strerror(errno));
    if (got == 0) return make_error(path, " became shorter while it was read");
    done += uint64_t(got);
    if (progress) progress(done, size);
  }
  return {};
}

}  // namespace

Expected<MappedFile> MappedFile::open(const std::string& path, Mode mode, const Progress& progress) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return make_error("cannot open ", path, ": ", std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) return make_error("cannot stat ", path, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return make_error(path, " is not a regular file");
  if (info.st_size <= 0) return make_error(path, " is empty");

  MappedFile result;
  result.size_ = size_t(info.st_size);
  result.mode_ = mode;
  const int protection = mode == Mode::kMap ? PROT_READ : PROT_READ | PROT_WRITE;
  const int flags = mode == Mode::kMap ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
  void* data = ::mmap(nullptr, result.size_, protection, flags, mode == Mode::kMap ? file.fd : -1, 0);
  if (data == MAP_FAILED) {
    result.size_ = 0;
    return make_error("cannot map ", path, " (", uint64_t(info.st_size), " bytes): ", std::strerror(errno));
  }
  result.data_ = static_cast<const std::byte*>(data);
  if (mode == Mode::kRead) {
    ::madvise(data, result.size_, MADV_HUGEPAGE);
    if (auto read = read_all(file.fd, static_cast<std::byte*>(data), result.size_, path, progress); !read)
      return read.error();
  }
  return result;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::prefetch(uint64_t offset, uint64_t size_bytes) const {
  if (mode_ != Mode::kMap || offset >= size_) return;
  fetch_pages(data_ + offset, std::min<uint64_t>(size_ - offset, size_bytes));
}

void MappedFile::expect_random_access() const {
  if (mode_ == Mode::kMap) ::madvise(const_cast<std::byte*>(data_), size_, MADV_RANDOM);
}

bool MappedFile::load(uint64_t offset, uint64_t size_bytes, bool keep) const {
  if (mode_ != Mode::kMap || offset >= size_) return false;
  const uint64_t size = std::min<uint64_t>(size_ - offset, size_bytes);
  fetch_pages(data_ + offset, size);
  const PageRange range = whole_pages(data_ + offset, size);
  // mlock would bring the pages in too, but does nothing under AddressSanitizer.
  ::madvise(range.begin, range.size_bytes, MADV_POPULATE_READ);
  return keep && ::mlock(range.begin, range.size_bytes) == 0;
}

void fetch_pages(const void* data, uint64_t size_bytes) {
  const PageRange range = whole_pages(data, size_bytes);
  for (size_t at = 0; at < range.size_bytes; at += kFetchStepBytes)
    ::madvise(range.begin + at, range.size_bytes - at, MADV_WILLNEED);
}

void MappedFile::swap(MappedFile& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mode_, other.mode_);
}

}  // namespace dw
