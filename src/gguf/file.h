// Reading GGUF v2 and v3 files (specification: ggml docs/gguf.md), one file or a split set
// (NAME-00001-of-0000N.gguf; open any member). Input is untrusted: every length, offset, count and shape is
// checked against the file, and an Error names the field that is wrong.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/expected.h"
#include "base/mapped_file.h"
#include "quant/types.h"

namespace dw::gguf {

enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Integers keep their sign class, floats are widened, arrays are homogeneous (nested arrays as Array of
// Array).
struct Array;
using Value = std::variant<uint64_t, int64_t, double, bool, std::string, std::shared_ptr<const Array>>;
struct Array {
  ValueType element_type = ValueType::kUint8;
  // Exactly one of these is used, by element_type: unsigned, signed, float, bool, string, array.
  std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>, std::vector<bool>,
               std::vector<std::string>, std::vector<std::shared_ptr<const Array>>>
      values;
  size_t size() const;
};

struct MetadataEntry {
  std::string key;
  ValueType type;
  Value value;
};

struct TensorInfo {
  std::string name;
  quant::Type type = quant::Type::F32;
  uint32_t dimension_count = 0;
  std::array<uint64_t, 4> shape{1, 1, 1, 1};  // file order: shape[0] is the contiguous (input) dimension
  const std::byte* data = nullptr;            // into the mapped or read file
  uint64_t size_bytes = 0;
  uint32_t file_index = 0;   // which file of a split set
  uint64_t file_offset = 0;  // of the data, from the start of that file

  uint64_t element_count() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
};

struct OpenOptions {
  MappedFile::Mode mode = MappedFile::Mode::kMap;
  bool header_only =
      false;  // tensors may lie outside the file (inspecting a partial download); data == nullptr
  MappedFile::Progress progress = {};
};

class File {
 public:
  static Expected<File> open(const std::string& path, const OpenOptions& options = {});

  uint32_t version() const { return version_; }
  uint32_t alignment() const { return alignment_; }
  std::span<const std::string> paths() const { return paths_; }  // the files of the set, in order
  std::span<const MappedFile> maps() const { return maps_; }
  std::span<const MetadataEntry> metadata() const { return metadata_; }  // of the first file, in file order
  std::span<const TensorInfo> tensors() const { return tensors_; }       // of all files, in file order

  const TensorInfo* find_tensor(std::string_view name) const;  // nullptr when absent
  const MetadataEntry* find(std::string_view key) const;       // nullptr when absent

  // Typed look-ups: an Error when the key is present with another type or out of range, nullopt when absent.
  // Unsigned accepts every integer type that is >= 0; floats accept integers too.
  Expected<std::optional<uint64_t>> get_uint(std::string_view key) const;
  Expected<std::optional<double>> get_float(std::string_view key) const;
  Expected<std::optional<bool>> get_bool(std::string_view key) const;
  Expected<std::optional<std::string>> get_string(std::string_view key) const;
  const std::vector<std::string>* get_strings(std::string_view key) const;  // nullptr: absent or another type
  std::optional<std::vector<int64_t>> get_ints(
      std::string_view key) const;  // any integer (that fits) or bool array
  std::optional<std::vector<double>> get_floats(std::string_view key) const;  // float32 or float64 array

 private:
  Expected<void> build_indices();
  Error wrong_type(const MetadataEntry& entry, std::string_view wanted) const;
  const Array* find_array(std::string_view key) const;

  uint32_t version_ = 0;
  uint32_t alignment_ = 32;
  std::vector<std::string> paths_;
  std::vector<MappedFile> maps_;
  std::vector<MetadataEntry> metadata_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
  std::unordered_map<std::string_view, size_t> metadata_index_;
};

}  // namespace dw::gguf
