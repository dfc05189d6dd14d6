// Helpers of the gguf tests: a scratch folder and a builder of hand-made (also broken) GGUF headers.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/file.h"

namespace dw::gguf::test {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dw-gguf-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path(std::string_view name) const { return path_ + "/" + std::string(name); }
  std::string write(std::string_view name, std::string_view bytes) const {
    const std::string full = path(name);
    std::ofstream(full, std::ios::binary) << bytes;
    return full;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      list.push_back(entry.path().filename().string());
    return list;
  }

 private:
  std::string path_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Appends pieces of a GGUF file, right or wrong, to a string of bytes.
class Builder {
 public:
  template <class T>
  Builder& raw(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Builder& text(std::string_view value) {
    raw(uint64_t(value.size()));
    bytes_ += value;
    return *this;
  }
  Builder& preamble(uint64_t tensor_count, uint64_t entry_count, uint32_t version = 3) {
    bytes_ += "GGUF";
    return raw(version).raw(tensor_count).raw(entry_count);
  }
  Builder& key(std::string_view name, ValueType type) { return text(name).raw(uint32_t(type)); }
  Builder& array(ValueType element_type, uint64_t count) { return raw(uint32_t(element_type)).raw(count); }
  Builder& tensor(std::string_view name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
    text(name).raw(uint32_t(shape.size()));
    for (const uint64_t size : shape) raw(size);
    return raw(type).raw(offset);
  }
  Builder& align(size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  Builder& zeros(size_t count) {
    bytes_.append(count, '\0');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

}  // namespace dw::gguf::test
