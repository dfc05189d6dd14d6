// Writing GGUF v3. Where the file system can, the data go to a file without a name, so that a killed process
// leaves nothing behind; elsewhere to a temporary file beside the final name. finish() renames into place, so
// that the final name only ever names a whole file (the one that was there before stays until then).
#pragma once

#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
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

  // A mistake in add or declare_tensor (a key twice, a value that does not fit its type, a row that is no
  // whole number of blocks) is reported by begin(). The writer itself writes general.alignment; add skips
  // that key.
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
  // Checks the declarations and the free space, writes the header. Call after all add / declare_tensor.
  Expected<void> begin();
  // Appends bytes to the data of the current tensor; a tensor's data may come in several pieces.
  Expected<void> write_data(std::span<const std::byte> bytes);
  // Checks that every tensor is complete, flushes to disk and renames into place.
  Expected<void> finish();

  uint64_t file_bytes() const { return header_bytes_ + data_bytes_; }  // of the whole file, after begin()

 private:
  struct Declared {
    std::string name;
    quant::Type type;
    std::vector<uint64_t> shape;
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
  };
  void add_encoded(std::string_view key, ValueType type, std::span<const std::byte> value);
  void note_error(Error error);
  Expected<void> open_temporary();
  Expected<void> check_free_space() const;
  std::vector<std::byte> encode_header() const;
  Expected<void> write_bytes(std::span<const std::byte> bytes);
  Error system_error(std::string_view what) const;
  void discard();

  std::string path_, temporary_path_;
  uint32_t alignment_;
  std::FILE* stream_ = nullptr;
  bool unnamed_ = false;  // the temporary file has no name yet
  std::vector<std::byte> metadata_bytes_;
  uint64_t metadata_count_ = 0;
  std::unordered_set<std::string> keys_, tensor_names_;
  std::vector<Declared> tensors_;
  size_t current_ = 0;          // tensor being written
  uint64_t current_bytes_ = 0;  // of it, so far
  uint64_t header_bytes_ = 0;
  uint64_t data_bytes_ = 0;  // size of the data section
  Error first_error_;        // of the declarations; empty message: none
};

}  // namespace dw::gguf
