// Parses the header of one GGUF file: metadata entries and tensor descriptions, all of them checked against
// the size of the file. Private to the gguf room; everyone else opens a gguf::File.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/expected.h"
#include "gguf/file.h"

namespace dw::gguf {

struct Header {
  uint32_t version = 0;
  uint32_t alignment = 32;
  std::vector<MetadataEntry> metadata;
  std::vector<TensorInfo> tensors;  // data, file_index not set
};

struct HeaderOptions {
  bool allow_missing_data = false;  // tensors may lie beyond the end of the file
};

// path is only used in messages.
Expected<Header> parse_header(std::span<const std::byte> file, std::string_view path,
                              const HeaderOptions& options);

// "'text'" with control characters and broken UTF-8 escaped, cut at 96 bytes: names from untrusted files.
std::string quoted(std::string_view text);

bool is_valid_utf8(std::string_view text);

std::string_view value_type_name(ValueType type);  // "uint32", "string", ...

}  // namespace dw::gguf
