#include "gguf/file.h"

#include <cstdio>

#include "gguf/header_parser.h"

namespace dw::gguf {
namespace {

constexpr char kSplitNumber[] = "split.no";
constexpr char kSplitCount[] = "split.count";
constexpr char kSplitTensors[] = "split.tensors.count";
constexpr char kArchitecture[] = "general.architecture";

struct Part {
  std::string path;
  MappedFile map;
  Header header;
};

const MetadataEntry* find_entry(const Header& header, std::string_view key) {
  for (const MetadataEntry& entry : header.metadata)
    if (entry.key == key) return &entry;
  return nullptr;
}

std::optional<uint64_t> as_uint(const Value& value) {
  if (const auto* number = std::get_if<uint64_t>(&value)) return *number;
  if (const auto* number = std::get_if<int64_t>(&value); number != nullptr && *number >= 0)
    return uint64_t(*number);
  return std::nullopt;
}

// An unsigned metadata value of one part; absent: nullopt.
Expected<std::optional<uint64_t>> part_uint(const Part& part, std::string_view key) {
  const MetadataEntry* entry = find_entry(part.header, key);
  if (entry == nullptr) return std::optional<uint64_t>();
  const std::optional<uint64_t> number = as_uint(entry->value);
  if (!number) return make_error(part.path, ": metadata '", key, "' is not a non-negative integer");
  return number;
}

Expected<Part> open_part(const std::string& path, const OpenOptions& options) {
  Part part;
  part.path = path;
  auto map = MappedFile::open(path, options.mode, options.progress);
  if (!map) return map.error();
  part.map = std::move(*map);
  auto header = parse_header(part.map.bytes(), path, {.allow_missing_data = options.header_only});
  if (!header) return header.error();
  part.header = std::move(*header);
  return part;
}

struct SplitName {
  std::string prefix;   // all before "-00001-of-00003.gguf"
  uint32_t number = 0;  // from 1
  uint32_t count = 0;
  std::string path_of(uint32_t part_number) const {
    char tail[48];
    std::snprintf(tail, sizeof tail, "-%05u-of-%05u.gguf", part_number, count);
    return prefix + tail;
  }
};

std::optional<SplitName> parse_split_name(const std::string& path) {
  constexpr std::string_view kPattern = "-#####-of-#####.gguf";
  if (path.size() < kPattern.size()) return std::nullopt;
  SplitName name{.prefix = path.substr(0, path.size() - kPattern.size())};
  const std::string_view tail = std::string_view(path).substr(name.prefix.size());
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const bool digit = tail[i] >= '0' && tail[i] <= '9';
    if (kPattern[i] == '#' ? !digit : tail[i] != kPattern[i]) return std::nullopt;
    if (digit) {
      uint32_t& number = i < 6 ? name.number : name.count;
      number = number * 10 + uint32_t(tail[i] - '0');
    }
  }
  return name;
}

// That part is number `index` (from 0) of the set that `first` begins.
Expected<void> check_membership(const Part& part, const Part& first, uint64_t index, uint64_t count) {
  auto number = part_uint(part, kSplitNumber);
  if (!number) return number.error();
  auto part_count = part_uint(part, kSplitCount);
  if (!part_count) return part_count.error();
  if (part_count->value_or(1) != count)
    return make_error(part.path, ": metadata '", kSplitCount, "' is ", part_count->value_or(1),
                      ", but the set has ", count, " files");
  if (!*number) return make_error(part.path, ": metadata '", kSplitNumber, "' is missing");
  if (**number != index)
    return make_error(part.path, ": metadata '", kSplitNumber, "' is ", **number, ", but its name says part ",
                      index + 1, " of ", count, " (number ", index, "); was the file renamed?");
  auto total = part_uint(part, kSplitTensors);
  if (!total) return total.error();
  auto first_total = part_uint(first, kSplitTensors);
  if (!first_total) return first_total.error();
  if (*total != *first_total)
    return make_error(part.path, ": metadata '", kSplitTensors, "' differs from that of ", first.path,
                      "; the files belong to different models");
  const MetadataEntry* architecture = find_entry(part.header, kArchitecture);
  const MetadataEntry* first_architecture = find_entry(first.header, kArchitecture);
  if (architecture != nullptr && first_architecture != nullptr &&
      architecture->value != first_architecture->value)
    return make_error(part.path, ": metadata '", kArchitecture, "' differs from that of ", first.path,
                      "; the files belong to different models");
  return {};
}

// The files of the set that `opened` belongs to, in order.
Expected<std::vector<Part>> open_set(Part opened, const OpenOptions& options) {
  auto count = part_uint(opened, kSplitCount);
  if (!count) return count.error();
  std::vector<Part> parts;
  if (count->value_or(1) <= 1) {
    parts.push_back(std::move(opened));
    return parts;
  }
  const std::optional<SplitName> name = parse_split_name(opened.path);
  if (!name)
    return make_error(opened.path, ": this is one of ", **count,
                      " files of a split model, but its name does not end in -00001-of-0000N.gguf, so that "
                      "the others cannot be found; give the files their original names");
  if (name->count != **count)
    return make_error(opened.path, ": metadata '", kSplitCount, "' is ", **count, ", but the name says ",
                      name->count, " files");
  if (name->number < 1 || name->number > name->count)
    return make_error(opened.path, ": the name says part ", name->number, " of ", name->count);
  for (uint32_t i = 1; i <= name->count; ++i) {
    if (i == name->number) {
      parts.push_back(std::move(opened));
    } else {
      auto part = open_part(name->path_of(i), options);
      if (!part)
        return make_error("part ", i, " of ", name->count, " of the split model: ", part.error().message);
      parts.push_back(std::move(*part));
    }
    if (auto ok = check_membership(parts.back(), parts.front(), i - 1, name->count); !ok) return ok.error();
  }
  return parts;
}

Expected<void> check_tensor_total(const Part& first, uint64_t tensor_count) {
  auto total = part_uint(first, kSplitTensors);
  if (!total) return total.error();
  if (*total && **total != tensor_count)
    return make_error(first.path, ": metadata '", kSplitTensors, "' is ", **total, ", but the files hold ",
                      tensor_count, " tensors");
  return {};
}

}  // namespace

size_t Array::size() const {
  return std::visit([](const auto& list) { return list.size(); }, values);
}

Expected<File> File::open(const std::string& path, const OpenOptions& options) {
  auto opened = open_part(path, options);
  if (!opened) return opened.error();
  auto parts = open_set(std::move(*opened), options);
  if (!parts) return parts.error();

  File file;
  size_t tensor_count = 0;
  for (const Part& part : *parts) tensor_count += part.header.tensors.size();
  if (parts->size() > 1)
    if (auto ok = check_tensor_total(parts->front(), tensor_count); !ok) return ok.error();
  file.version_ = parts->front().header.version;
  file.alignment_ = parts->front().header.alignment;
  file.metadata_ = std::move(parts->front().header.metadata);
  file.tensors_.reserve(tensor_count);
  for (Part& part : *parts) {
    for (TensorInfo& tensor : part.header.tensors) {
      tensor.file_index = uint32_t(file.maps_.size());
      if (!options.header_only) tensor.data = part.map.bytes().data() + tensor.file_offset;
      file.tensors_.push_back(std::move(tensor));
    }
    file.paths_.push_back(std::move(part.path));
    file.maps_.push_back(std::move(part.map));
  }
  if (auto ok = file.build_indices(); !ok) return ok.error();
  return file;
}

// The views point into metadata_ and tensors_, whose elements stay where they are when a File moves.
Expected<void> File::build_indices() {
  metadata_index_.reserve(metadata_.size());
  for (size_t i = 0; i < metadata_.size(); ++i)
    if (!metadata_index_.emplace(metadata_[i].key, i).second)
      return make_error(paths_.front(), ": metadata entry ", i, ": the key ", quoted(metadata_[i].key),
                        " occurs twice");
  tensor_index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i)
    if (!tensor_index_.emplace(tensors_[i].name, i).second)
      return make_error(paths_[tensors_[i].file_index], ": tensor ", i, ": the name ",
                        quoted(tensors_[i].name), " occurs twice");
  return {};
}

const TensorInfo* File::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const MetadataEntry* File::find(std::string_view key) const {
  const auto found = metadata_index_.find(key);
  return found == metadata_index_.end() ? nullptr : &metadata_[found->second];
}

Error File::wrong_type(const MetadataEntry& entry, std::string_view wanted) const {
  return make_error(paths_.front(), ": metadata ", quoted(entry.key), " must be ", wanted,
                    ", but is of type ", value_type_name(entry.type));
}

Expected<std::optional<uint64_t>> File::get_uint(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::optional<uint64_t>();
  if (const std::optional<uint64_t> number = as_uint(entry->value)) return number;
  if (const auto* negative = std::get_if<int64_t>(&entry->value))
    return make_error(paths_.front(), ": metadata ", quoted(key), " is ", *negative,
                      ", but must not be negative");
  return wrong_type(*entry, "an integer");
}

Expected<std::optional<double>> File::get_float(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::optional<double>();
  if (const auto* number = std::get_if<double>(&entry->value)) return std::optional(*number);
  if (const auto* number = std::get_if<uint64_t>(&entry->value)) return std::optional(double(*number));
  if (const auto* number = std::get_if<int64_t>(&entry->value)) return std::optional(double(*number));
  return wrong_type(*entry, "a number");
}

Expected<std::optional<bool>> File::get_bool(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::optional<bool>();
  if (const auto* value = std::get_if<bool>(&entry->value)) return std::optional(*value);
  return wrong_type(*entry, "a bool");
}

Expected<std::optional<std::string>> File::get_string(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return std::optional<std::string>();
  if (const auto* value = std::get_if<std::string>(&entry->value)) return std::optional(*value);
  return wrong_type(*entry, "a string");
}

const Array* File::find_array(std::string_view key) const {
  const MetadataEntry* entry = find(key);
  if (entry == nullptr) return nullptr;
  const auto* array = std::get_if<std::shared_ptr<const Array>>(&entry->value);
  return array == nullptr ? nullptr : array->get();
}

const std::vector<std::string>* File::get_strings(std::string_view key) const {
  const Array* array = find_array(key);
  return array == nullptr ? nullptr : std::get_if<std::vector<std::string>>(&array->values);
}

std::optional<std::vector<int64_t>> File::get_ints(std::string_view key) const {
  const Array* array = find_array(key);
  if (array == nullptr) return std::nullopt;
  if (const auto* list = std::get_if<std::vector<int64_t>>(&array->values)) return *list;
  if (const auto* list = std::get_if<std::vector<bool>>(&array->values))
    return std::vector<int64_t>(list->begin(), list->end());
  const auto* list = std::get_if<std::vector<uint64_t>>(&array->values);
  if (list == nullptr) return std::nullopt;
  for (const uint64_t value : *list)
    if (value > uint64_t(INT64_MAX)) return std::nullopt;
  return std::vector<int64_t>(list->begin(), list->end());
}

std::optional<std::vector<double>> File::get_floats(std::string_view key) const {
  const Array* array = find_array(key);
  if (array == nullptr) return std::nullopt;
  const auto* list = std::get_if<std::vector<double>>(&array->values);
  return list == nullptr ? std::nullopt : std::optional(*list);
}

}  // namespace dw::gguf
