// Fuzzes gguf::File::open with whole files: it must return a File whose tensors lie inside the input, or an
// Error.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "gguf/file.h"

namespace {

uint64_t touch(const dw::gguf::File& file, size_t size) {
  uint64_t sum = 0;
  for (const auto& tensor : file.tensors()) {
    if (tensor.file_offset > size || tensor.size_bytes > size - tensor.file_offset) std::abort();
    if (file.find_tensor(tensor.name) != &tensor) std::abort();
    sum += uint64_t(tensor.data[0]) + uint64_t(tensor.data[tensor.size_bytes - 1]);
  }
  for (const auto& entry : file.metadata()) {
    if (file.find(entry.key) != &entry) std::abort();
    sum += file.get_uint(entry.key).has_value() + file.get_float(entry.key).has_value();
    sum += file.get_bool(entry.key).has_value() + file.get_string(entry.key).has_value();
    sum += file.get_strings(entry.key) != nullptr;
    sum += file.get_ints(entry.key).has_value() + file.get_floats(entry.key).has_value();
  }
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int fd = ::memfd_create("input", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (fd < 0 || ::ftruncate(fd, 0) != 0) std::abort();
  if (::pwrite(fd, data, size, 0) != ssize_t(size)) std::abort();
  if (const auto file = dw::gguf::File::open(path)) {
    volatile uint64_t sink = touch(*file, size);
    (void)sink;
  } else if (file.error().message.find(path) == std::string::npos) {
    std::abort();  // every error names the file
  }
  const auto header_only = dw::gguf::File::open(path, {.header_only = true});
  if (header_only && header_only->version() < 2) std::abort();
  return 0;
}
