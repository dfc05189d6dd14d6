// Writing GGUF v3. The file is written beside its final name and renamed into place by finish(), so that a
// killed process leaves no half file under the final name.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/expected.h"
#include "gguf/file.h"

namespace dw::gguf {

class Writer {
 public:
  explicit Writer(std::string path, uint32_t alignment = 32);
  ~Writer();  // removes the temporary file unless finish() succeeded
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void add(std::string_view key, uint32_t value);
  void add(std::string_view key, int32_t value);
  void add(std::string_view key, uint64_t value);
  void add(std::string_view key, float value);
  void add(std::string_view key, bool value);
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, const char* value) { add(key, std::string_view(value)); }
  void add(std::string_view key, const std::vector<std::string>& values);
  void add(std::string_view key, const std::vector<int32_t>& values);
  void add(std::string_view key, const std::vector<float>& values);
  void add(const MetadataEntry& entry);  // copies an entry of another file, type and all

  // Declares a tensor; data follow in the same order through write_data. shape: file order (contiguous
  // first).
  void declare_tensor(std::string_view name, quant::Type type, std::span<const uint64_t> shape);
  // Writes the header. Call after all add / declare_tensor.
  Expected<void> begin();
  // Appends bytes to the data of the current tensor; a tensor's data may come in several pieces.
  Expected<void> write_data(std::span<const std::byte> bytes);
  // Checks that every tensor is complete, flushes to disk and renames into place.
  Expected<void> finish();

 private:
  struct Declared {
    std::string name;
    quant::Type type;
    std::vector<uint64_t> shape;
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
  };
  std::string path_, temporary_path_;
  uint32_t alignment_;
  std::FILE* stream_ = nullptr;
  std::vector<std::byte> metadata_bytes_;
  uint64_t metadata_count_ = 0;
  std::vector<Declared> tensors_;
  size_t current_ = 0;          // tensor being written
  uint64_t current_bytes_ = 0;  // of it, so far
  uint64_t data_bytes_ = 0;     // size of the data section
  bool finished_ = false;
};

}  // namespace dw::gguf
