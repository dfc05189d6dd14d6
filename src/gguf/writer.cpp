#include "gguf/writer.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>

#include "base/units.h"
#include "gguf/header_parser.h"

namespace dw::gguf {
namespace {

constexpr uint32_t kVersion = 3;
constexpr size_t kStreamBufferBytes = 1u << 20;
constexpr size_t kMaxNameBytes = 65535;

void put_bytes(std::vector<std::byte>& out, const void* data, size_t size) {
  const size_t at = out.size();
  out.resize(at + size);
  if (size > 0) std::memcpy(out.data() + at, data, size);
}
template <class T>
requires std::is_arithmetic_v<T>
void put(std::vector<std::byte>& out, T value) {
  put_bytes(out, &value, sizeof value);
}
void put(std::vector<std::byte>& out, std::string_view text) {
  put(out, uint64_t(text.size()));
  put_bytes(out, text.data(), text.size());
}

// False when value does not fit Stored.
template <class Stored, class Kept>
bool put_checked(std::vector<std::byte>& out, Kept value) {
  if constexpr (std::is_integral_v<Stored>) {
    if (value < Kept(std::numeric_limits<Stored>::min()) || value > Kept(std::numeric_limits<Stored>::max()))
      return false;
  }
  put(out, Stored(value));
  return true;
}

// Calls visit(Stored{}, Kept{}) for a number type; false for string, bool and array.
template <class Visit>
bool visit_number_type(ValueType type, const Visit& visit) {
  switch (type) {
    case ValueType::kUint8:
      return visit(uint8_t{}, uint64_t{});
    case ValueType::kUint16:
      return visit(uint16_t{}, uint64_t{});
    case ValueType::kUint32:
      return visit(uint32_t{}, uint64_t{});
    case ValueType::kUint64:
      return visit(uint64_t{}, uint64_t{});
    case ValueType::kInt8:
      return visit(int8_t{}, int64_t{});
    case ValueType::kInt16:
      return visit(int16_t{}, int64_t{});
    case ValueType::kInt32:
      return visit(int32_t{}, int64_t{});
    case ValueType::kInt64:
      return visit(int64_t{}, int64_t{});
    case ValueType::kFloat32:
      return visit(float{}, double{});
    case ValueType::kFloat64:
      return visit(double{}, double{});
    case ValueType::kBool:
    case ValueType::kString:
    case ValueType::kArray:
      break;
  }
  return false;
}

bool encode_array(std::vector<std::byte>& out, const Array& array);

bool encode_value(std::vector<std::byte>& out, ValueType type, const Value& value) {
  if (const auto* flag = std::get_if<bool>(&value)) {
    put(out, uint8_t(*flag));
    return type == ValueType::kBool;
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    put(out, std::string_view(*text));
    return type == ValueType::kString;
  }
  if (const auto* array = std::get_if<std::shared_ptr<const Array>>(&value))
    return type == ValueType::kArray && *array != nullptr && encode_array(out, **array);
  return visit_number_type(type, [&]<class Stored, class Kept>(Stored, Kept) {
    const auto* number = std::get_if<Kept>(&value);
    return number != nullptr && put_checked<Stored>(out, *number);
  });
}

bool encode_array(std::vector<std::byte>& out, const Array& array) {
  const ValueType type = array.element_type;
  put(out, uint32_t(type));
  put(out, uint64_t(array.size()));
  if (const auto* flags = std::get_if<std::vector<bool>>(&array.values)) {
    for (const bool flag : *flags) put(out, uint8_t(flag));
    return type == ValueType::kBool;
  }
  if (const auto* texts = std::get_if<std::vector<std::string>>(&array.values)) {
    for (const std::string& text : *texts) put(out, std::string_view(text));
    return type == ValueType::kString;
  }
  if (const auto* arrays = std::get_if<std::vector<std::shared_ptr<const Array>>>(&array.values)) {
    for (const auto& inner : *arrays)
      if (inner == nullptr || !encode_array(out, *inner)) return false;
    return type == ValueType::kArray;
  }
  return visit_number_type(type, [&]<class Stored, class Kept>(Stored, Kept) {
    const auto* numbers = std::get_if<std::vector<Kept>>(&array.values);
    if (numbers == nullptr) return false;
    return std::all_of(numbers->begin(), numbers->end(),
                       [&](Kept number) { return put_checked<Stored>(out, number); });
  });
}

template <class T>
std::vector<std::byte> encode_scalar(T value) {
  std::vector<std::byte> out;
  put(out, value);
  return out;
}

template <class T>
std::vector<std::byte> encode_list(ValueType element_type, const std::vector<T>& values) {
  std::vector<std::byte> out;
  put(out, uint32_t(element_type));
  put(out, uint64_t(values.size()));
  for (const T& value : values) put(out, value);
  return out;
}

uint64_t align_up(uint64_t value, uint32_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Writer::Writer(std::string path, uint32_t alignment) : path_(std::move(path)), alignment_(alignment) {
  DW_CHECK(std::has_single_bit(alignment) && alignment >= 8,
           "the alignment must be a power of two of at least 8");
  temporary_path_ = path_ + ".part-" + std::to_string(::getpid());
  if (alignment != 32) {
    const std::vector<std::byte> value = encode_scalar(alignment);
    put(metadata_bytes_, std::string_view("general.alignment"));
    put(metadata_bytes_, uint32_t(ValueType::kUint32));
    put_bytes(metadata_bytes_, value.data(), value.size());
    metadata_count_ = 1;
  }
}

Writer::~Writer() {
  discard();
}

void Writer::discard() {
  if (stream_ == nullptr) return;
  std::fclose(stream_);
  stream_ = nullptr;
  if (!unnamed_) ::unlink(temporary_path_.c_str());
}

void Writer::note_error(Error error) {
  if (first_error_.message.empty()) first_error_ = std::move(error);
}

void Writer::add_encoded(std::string_view key, ValueType type, std::span<const std::byte> value) {
  DW_CHECK(stream_ == nullptr, "Writer::add after begin");
  if (key == "general.alignment") return;
  if (key.empty() || key.size() > kMaxNameBytes || !is_valid_utf8(key))
    note_error(make_error(path_, ": the metadata key ", quoted(key), " is not 1 to 65535 bytes of UTF-8"));
  if (!keys_.emplace(key).second)
    note_error(make_error(path_, ": the metadata key ", quoted(key), " was added twice"));
  put(metadata_bytes_, key);
  put(metadata_bytes_, uint32_t(type));
  put_bytes(metadata_bytes_, value.data(), value.size());
  ++metadata_count_;
}

void Writer::add(std::string_view key, uint32_t value) {
  add_encoded(key, ValueType::kUint32, encode_scalar(value));
}
void Writer::add(std::string_view key, int32_t value) {
  add_encoded(key, ValueType::kInt32, encode_scalar(value));
}
void Writer::add(std::string_view key, uint64_t value) {
  add_encoded(key, ValueType::kUint64, encode_scalar(value));
}
void Writer::add(std::string_view key, float value) {
  add_encoded(key, ValueType::kFloat32, encode_scalar(value));
}
void Writer::add(std::string_view key, bool value) {
  add_encoded(key, ValueType::kBool, encode_scalar(uint8_t(value)));
}
void Writer::add(std::string_view key, std::string_view value) {
  add_encoded(key, ValueType::kString, encode_scalar(value));
}
void Writer::add(std::string_view key, const std::vector<std::string>& values) {
  add_encoded(key, ValueType::kArray, encode_list(ValueType::kString, values));
}
void Writer::add(std::string_view key, const std::vector<int32_t>& values) {
  add_encoded(key, ValueType::kArray, encode_list(ValueType::kInt32, values));
}
void Writer::add(std::string_view key, const std::vector<float>& values) {
  add_encoded(key, ValueType::kArray, encode_list(ValueType::kFloat32, values));
}
void Writer::add(const MetadataEntry& entry) {
  std::vector<std::byte> value;
  if (!encode_value(value, entry.type, entry.value))
    note_error(make_error(path_, ": the value of metadata key ", quoted(entry.key), " does not fit its type ",
                          value_type_name(entry.type)));
  add_encoded(entry.key, entry.type, value);
}

void Writer::declare_tensor(std::string_view name, quant::Type type, std::span<const uint64_t> shape) {
  DW_CHECK(stream_ == nullptr, "Writer::declare_tensor after begin");
  const auto refuse = [&](const auto&... why) {
    note_error(make_error(path_, ": tensor ", quoted(name), " ", why...));
  };
  const quant::TypeInfo* info = quant::find_type(type);
  if (info == nullptr) return refuse("has the unknown type ", uint32_t(type));
  if (name.empty() || name.size() > kMaxNameBytes || !is_valid_utf8(name))
    return refuse("has a name that is not 1 to 65535 bytes of UTF-8");
  if (!tensor_names_.emplace(name).second) return refuse("was declared twice");
  if (shape.empty() || shape.size() > 4)
    return refuse("has ", shape.size(), " dimensions; 1 to 4 are possible");
  uint64_t elements = 1;
  for (const uint64_t size : shape)
    if (size == 0 || __builtin_mul_overflow(elements, size, &elements) || elements >= 1ull << 56)
      return refuse("has a dimension of ", size, "; its size is not possible");
  if (shape[0] % info->block_size != 0)
    return refuse("has rows of ", shape[0], " elements, not a multiple of the ", info->block_size,
                  " in a block of type ", info->name);
  Declared declared{std::string(name),
                    type,
                    {shape.begin(), shape.end()},
                    data_bytes_,
                    elements / info->block_size * info->block_bytes};
  if (__builtin_add_overflow(data_bytes_, align_up(declared.size_bytes, alignment_), &data_bytes_))
    return refuse("makes the file larger than 2^64 bytes");
  tensors_.push_back(std::move(declared));
}

std::vector<std::byte> Writer::encode_header() const {
  std::vector<std::byte> out;
  put_bytes(out, "GGUF", 4);
  put(out, kVersion);
  put(out, uint64_t(tensors_.size()));
  put(out, metadata_count_);
  put_bytes(out, metadata_bytes_.data(), metadata_bytes_.size());
  for (const Declared& tensor : tensors_) {
    put(out, std::string_view(tensor.name));
    put(out, uint32_t(tensor.shape.size()));
    for (const uint64_t size : tensor.shape) put(out, size);
    put(out, uint32_t(tensor.type));
    put(out, tensor.offset);
  }
  out.resize(align_up(out.size(), alignment_));
  return out;
}

Error Writer::system_error(std::string_view what) const {
  return make_error("cannot ", what, " ", path_, ": ", std::strerror(errno));
}

Expected<void> Writer::open_temporary() {
  int fd = ::open(folder_of(path_).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
  if (fd >= 0) {
    // finish() gives the file its name through this path.
    const std::string proc_path = "/proc/self/fd/" + std::to_string(fd);
    unnamed_ = ::access(proc_path.c_str(), F_OK) == 0;
    if (!unnamed_) ::close(fd);
  }
  if (!unnamed_) fd = ::open(temporary_path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return system_error("create a file for");
  stream_ = ::fdopen(fd, "wb");
  if (stream_ == nullptr) {
    const Error error = system_error("open a stream for");
    ::close(fd);
    if (!unnamed_) ::unlink(temporary_path_.c_str());
    return error;
  }
  std::setvbuf(stream_, nullptr, _IOFBF, kStreamBufferBytes);
  return {};
}

Expected<void> Writer::check_free_space() const {
  struct statvfs info {};
  if (::fstatvfs(::fileno(stream_), &info) != 0) return {};  // not every file system can say
  const uint64_t free_bytes = uint64_t(info.f_bavail) * info.f_frsize;
  if (free_bytes < file_bytes())
    return make_error("not enough space for ", path_, ": ", format_bytes(file_bytes()), " needed, ",
                      format_bytes(free_bytes), " free in ", folder_of(path_));
  return {};
}

Expected<void> Writer::begin() {
  DW_CHECK(stream_ == nullptr, "Writer::begin called twice");
  if (!first_error_.message.empty()) return first_error_;
  const std::vector<std::byte> header = encode_header();
  header_bytes_ = header.size();
  if (auto ok = open_temporary(); !ok) return ok;
  if (auto ok = check_free_space(); !ok) {
    discard();
    return ok;
  }
  return write_bytes(header);
}

Expected<void> Writer::write_bytes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  if (std::fwrite(bytes.data(), 1, bytes.size(), stream_) != bytes.size()) return system_error("write");
  return {};
}

Expected<void> Writer::write_data(std::span<const std::byte> bytes) {
  DW_CHECK(stream_ != nullptr, "Writer::write_data before begin");
  if (bytes.empty()) return {};
  if (current_ == tensors_.size()) return make_error(path_, ": data for more tensors than were declared");
  const Declared& tensor = tensors_[current_];
  if (bytes.size() > tensor.size_bytes - current_bytes_)
    return make_error(path_, ": tensor ", quoted(tensor.name), " has ", tensor.size_bytes, " bytes, but ",
                      current_bytes_ + bytes.size(), " were given");
  if (auto ok = write_bytes(bytes); !ok) return ok;
  current_bytes_ += bytes.size();
  if (current_bytes_ < tensor.size_bytes) return {};
  ++current_;
  current_bytes_ = 0;
  const std::vector<std::byte> padding(align_up(tensor.size_bytes, alignment_) - tensor.size_bytes);
  return write_bytes(padding);
}

Expected<void> Writer::finish() {
  DW_CHECK(stream_ != nullptr, "Writer::finish before begin");
  if (current_ != tensors_.size())
    return make_error(path_, ": tensor ", quoted(tensors_[current_].name), " has only ", current_bytes_,
                      " of ", tensors_[current_].size_bytes, " bytes");
  const int fd = ::fileno(stream_);
  if (std::fflush(stream_) != 0 || ::fsync(fd) != 0) return system_error("write");
  if (unnamed_) {
    const std::string proc_path = "/proc/self/fd/" + std::to_string(fd);
    ::unlink(temporary_path_.c_str());  // of a killed process with our number
    if (::linkat(AT_FDCWD, proc_path.c_str(), AT_FDCWD, temporary_path_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return system_error("give a name to");
    unnamed_ = false;
  }
  if (std::rename(temporary_path_.c_str(), path_.c_str()) != 0) return system_error("rename a file to");
  const int closed = std::fclose(stream_);
  stream_ = nullptr;
  if (closed != 0) return system_error("close");
  // The rename itself must survive a power cut, too.
  if (const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  return {};
}

}  // namespace dw::gguf
