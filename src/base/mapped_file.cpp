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
  const uint64_t page = uint64_t(::sysconf(_SC_PAGESIZE));
  const uint64_t begin = offset / page * page;
  const uint64_t end = std::min<uint64_t>(size_, offset + size_bytes);
  ::madvise(const_cast<std::byte*>(data_) + begin, size_t(end - begin), MADV_WILLNEED);
}

void MappedFile::swap(MappedFile& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mode_, other.mode_);
}

}  // namespace dw
