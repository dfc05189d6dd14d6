#include "gguf/header_parser.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>

namespace dw::gguf {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr int kMaxArrayDepth = 8;
constexpr uint64_t kMaxNameBytes = 65535;     // the specification's limit for keys
constexpr uint64_t kMaxTensors = 1ull << 24;  // 16.7 million; the largest published models have thousands
constexpr uint64_t kMaxElements = 1ull << 62;
// A value takes more memory than its bytes in the file; this bounds what a hostile file can ask for.
constexpr uint64_t kMetadataBudgetBytes = 2ull << 30;
constexpr uint64_t kEntryCostBytes = 160;
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // a one-letter name and one dimension
constexpr uint64_t kLeastEntryBytes = 8 + 1 + 4 + 1;

struct ValueTypeInfo {
  std::string_view name;
  uint32_t file_bytes;    // the least a value of this type takes in the file
  uint32_t memory_bytes;  // of an array element in memory
};
constexpr ValueTypeInfo kValueTypes[] = {
    {"uint8", 1, 8},  {"int8", 1, 8},    {"uint16", 2, 8},  {"int16", 2, 8},   {"uint32", 4, 8},
    {"int32", 4, 8},  {"float32", 4, 8}, {"bool", 1, 1},    {"string", 8, 32}, {"array", 12, 160},
    {"uint64", 8, 8}, {"int64", 8, 8},   {"float64", 8, 8},
};
constexpr uint32_t kValueTypeCount = std::size(kValueTypes);

bool multiply(uint64_t a, uint64_t b, uint64_t& out) {
  return !__builtin_mul_overflow(a, b, &out);
}
bool add(uint64_t a, uint64_t b, uint64_t& out) {
  return !__builtin_add_overflow(a, b, &out);
}

class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> file, std::string_view path, const HeaderOptions& options)
      : file_(file), path_(path), options_(options) {}

  bool parse();
  Header take_header() { return std::move(header_); }
  Error take_error() { return std::move(error_); }

 private:
  // What is being read, for messages.
  enum class Place { kHeader, kEntry, kTensor };

  template <class... Pieces>
  bool fail(const Pieces&... pieces) {
    error_ = make_error(path_, ": ", describe_place(), pieces...);
    return false;
  }
  std::string describe_place() const;
  void set_place(Place place, uint64_t index) {
    place_ = place;
    index_ = index;
    name_.clear();
  }

  uint64_t remaining() const { return file_.size() - position_; }
  bool charge(uint64_t bytes);
  template <class T>
  bool read(T& out, std::string_view what);
  bool read_string(std::string& out, std::string_view what);
  bool read_name(std::string& out, std::string_view what);

  bool read_preamble();
  bool read_metadata();
  bool read_value_type(ValueType& out, std::string_view what);
  bool read_value(ValueType type, Value& out);
  bool read_array(int depth, std::shared_ptr<const Array>& out);
  bool read_array_values(int depth, uint64_t count, Array& array);
  template <class Stored, class Kept>
  bool read_numbers(uint64_t count, Array& array);
  bool read_bools(uint64_t count, Array& array);
  bool read_strings(uint64_t count, Array& array);
  bool read_alignment();
  bool read_tensors();
  bool read_tensor(TensorInfo& tensor);
  bool read_shape(TensorInfo& tensor);
  bool size_tensor(TensorInfo& tensor);
  bool place_tensors();
  bool check_overlaps();

  std::span<const std::byte> file_;
  std::string_view path_;
  HeaderOptions options_;
  uint64_t position_ = 0;
  uint64_t tensor_count_ = 0, entry_count_ = 0;
  uint64_t budget_ = kMetadataBudgetBytes;
  Place place_ = Place::kHeader;
  uint64_t index_ = 0;
  std::string name_;
  Header header_;
  Error error_;
};

std::string HeaderParser::describe_place() const {
  if (place_ == Place::kHeader) return "";
  std::string text = place_ == Place::kEntry ? "metadata entry " : "tensor ";
  text += std::to_string(index_);
  if (!name_.empty()) text += " " + quoted(name_);
  return text + ": ";
}

bool HeaderParser::charge(uint64_t bytes) {
  if (bytes > budget_)
    return fail("the metadata need more than ", kMetadataBudgetBytes,
                " bytes of memory; no model has that much");
  budget_ -= bytes;
  return true;
}

template <class T>
bool HeaderParser::read(T& out, std::string_view what) {
  if (remaining() < sizeof(T))
    return fail("the file ends inside the ", what, " (at byte ", position_, " of ", file_.size(),
                "); is the download complete?");
  std::memcpy(&out, file_.data() + position_, sizeof(T));
  position_ += sizeof(T);
  return true;
}

bool HeaderParser::read_string(std::string& out, std::string_view what) {
  uint64_t length = 0;
  if (!read(length, what)) return false;
  if (length > remaining())
    return fail("the ", what, " claims ", length, " bytes, but only ", remaining(),
                " bytes follow in the file");
  if (!charge(length)) return false;
  out.assign(reinterpret_cast<const char*>(file_.data() + position_), length);
  position_ += length;
  return true;
}

// A key or tensor name: 1 .. 65535 bytes of UTF-8.
bool HeaderParser::read_name(std::string& out, std::string_view what) {
  uint64_t length = 0;
  if (!read(length, what)) return false;
  if (length == 0) return fail("the ", what, " is empty");
  if (length > kMaxNameBytes)
    return fail("the ", what, " claims ", length, " bytes; the format allows ", kMaxNameBytes);
  if (length > remaining())
    return fail("the ", what, " claims ", length, " bytes, but only ", remaining(),
                " bytes follow in the file");
  out.assign(reinterpret_cast<const char*>(file_.data() + position_), length);
  position_ += length;
  if (!is_valid_utf8(out)) return fail("the ", what, " ", quoted(out), " is not valid UTF-8");
  return true;
}

bool HeaderParser::parse() {
  return read_preamble() && read_metadata() && read_alignment() && read_tensors() && place_tensors() &&
         check_overlaps();
}

bool HeaderParser::read_preamble() {
  uint32_t magic = 0, version = 0;
  if (!read(magic, "magic number")) return false;
  if (magic != kMagic) return fail("not a GGUF file (it does not begin with the letters GGUF)");
  if (!read(version, "version")) return false;
  if (version != 0 && (version & 0xffff) == 0)
    return fail("this is a big-endian GGUF file; convert it to little-endian (gguf-convert-endian)");
  if (version == 1)
    return fail("GGUF version 1 is not supported; convert the model again (versions 2 and 3 are read)");
  if (version != 2 && version != 3)
    return fail("GGUF version ", version, " is not known to this program (versions 2 and 3 are read)");
  header_.version = version;
  if (!read(tensor_count_, "tensor count") || !read(entry_count_, "metadata count")) return false;
  if (entry_count_ > remaining() / kLeastEntryBytes)
    return fail("the metadata count is ", entry_count_, ", more than fit into the ", remaining(),
                " bytes that follow");
  if (tensor_count_ > remaining() / kLeastTensorBytes)
    return fail("the tensor count is ", tensor_count_, ", more than fit into the ", remaining(),
                " bytes that follow");
  if (tensor_count_ > kMaxTensors)
    return fail("the tensor count is ", tensor_count_, "; at most ", kMaxTensors, " are supported");
  return true;
}

bool HeaderParser::read_metadata() {
  for (uint64_t i = 0; i < entry_count_; ++i) {
    set_place(Place::kEntry, i);
    if (!charge(kEntryCostBytes)) return false;
    MetadataEntry& entry = header_.metadata.emplace_back();
    if (!read_name(entry.key, "key")) return false;
    name_ = entry.key;
    if (!read_value_type(entry.type, "value type") || !read_value(entry.type, entry.value)) return false;
  }
  return true;
}

bool HeaderParser::read_value_type(ValueType& out, std::string_view what) {
  uint32_t number = 0;
  if (!read(number, what)) return false;
  if (number >= kValueTypeCount)
    return fail("the ", what, " is ", number, ", which the format does not define");
  out = ValueType(number);
  return true;
}

template <class Kept, class Stored>
Value widen(Stored stored) {
  return Value(Kept(stored));
}

bool HeaderParser::read_value(ValueType type, Value& out) {
  const auto number = [&]<class Stored, class Kept>(Stored stored, Kept) {
    if (!read(stored, "value")) return false;
    out = widen<Kept>(stored);
    return true;
  };
  switch (type) {
    case ValueType::kUint8:
      return number(uint8_t{}, uint64_t{});
    case ValueType::kUint16:
      return number(uint16_t{}, uint64_t{});
    case ValueType::kUint32:
      return number(uint32_t{}, uint64_t{});
    case ValueType::kUint64:
      return number(uint64_t{}, uint64_t{});
    case ValueType::kInt8:
      return number(int8_t{}, int64_t{});
    case ValueType::kInt16:
      return number(int16_t{}, int64_t{});
    case ValueType::kInt32:
      return number(int32_t{}, int64_t{});
    case ValueType::kInt64:
      return number(int64_t{}, int64_t{});
    case ValueType::kFloat32:
      return number(float{}, double{});
    case ValueType::kFloat64:
      return number(double{}, double{});
    case ValueType::kBool: {
      uint8_t byte = 0;
      if (!read(byte, "value")) return false;
      if (byte > 1) return fail("the bool value is ", int(byte), "; it must be 0 or 1");
      out = byte == 1;
      return true;
    }
    case ValueType::kString: {
      std::string text;
      if (!read_string(text, "string")) return false;
      out = std::move(text);
      return true;
    }
    case ValueType::kArray: {
      std::shared_ptr<const Array> array;
      if (!read_array(1, array)) return false;
      out = std::move(array);
      return true;
    }
  }
  return fail("the value type is unknown");
}

bool HeaderParser::read_array(int depth, std::shared_ptr<const Array>& out) {
  if (depth > kMaxArrayDepth) return fail("arrays are nested more than ", kMaxArrayDepth, " deep");
  auto array = std::make_shared<Array>();
  uint64_t count = 0;
  if (!read_value_type(array->element_type, "array's element type") || !read(count, "array's length"))
    return false;
  const ValueTypeInfo& info = kValueTypes[uint32_t(array->element_type)];
  if (count > remaining() / info.file_bytes)
    return fail("the array claims ", count, " elements of type ", info.name, ", but only ", remaining(),
                " bytes follow in the file");
  if (!charge(count * info.memory_bytes)) return false;
  if (!read_array_values(depth, count, *array)) return false;
  out = std::move(array);
  return true;
}

bool HeaderParser::read_array_values(int depth, uint64_t count, Array& array) {
  switch (array.element_type) {
    case ValueType::kUint8:
      return read_numbers<uint8_t, uint64_t>(count, array);
    case ValueType::kUint16:
      return read_numbers<uint16_t, uint64_t>(count, array);
    case ValueType::kUint32:
      return read_numbers<uint32_t, uint64_t>(count, array);
    case ValueType::kUint64:
      return read_numbers<uint64_t, uint64_t>(count, array);
    case ValueType::kInt8:
      return read_numbers<int8_t, int64_t>(count, array);
    case ValueType::kInt16:
      return read_numbers<int16_t, int64_t>(count, array);
    case ValueType::kInt32:
      return read_numbers<int32_t, int64_t>(count, array);
    case ValueType::kInt64:
      return read_numbers<int64_t, int64_t>(count, array);
    case ValueType::kFloat32:
      return read_numbers<float, double>(count, array);
    case ValueType::kFloat64:
      return read_numbers<double, double>(count, array);
    case ValueType::kBool:
      return read_bools(count, array);
    case ValueType::kString:
      return read_strings(count, array);
    case ValueType::kArray: {
      auto& values = array.values.emplace<std::vector<std::shared_ptr<const Array>>>();
      for (uint64_t i = 0; i < count; ++i)
        if (!read_array(depth + 1, values.emplace_back())) return false;
      return true;
    }
  }
  return fail("the array's element type is unknown");
}

// The caller has checked that count elements lie in the file.
template <class Stored, class Kept>
bool HeaderParser::read_numbers(uint64_t count, Array& array) {
  auto& values = array.values.emplace<std::vector<Kept>>();
  values.resize(count);
  for (uint64_t i = 0; i < count; ++i) {
    Stored stored;
    std::memcpy(&stored, file_.data() + position_ + i * sizeof(Stored), sizeof(Stored));
    values[i] = Kept(stored);
  }
  position_ += count * sizeof(Stored);
  return true;
}

bool HeaderParser::read_bools(uint64_t count, Array& array) {
  auto& values = array.values.emplace<std::vector<bool>>();
  values.resize(count);
  for (uint64_t i = 0; i < count; ++i) {
    const auto byte = uint8_t(file_[position_ + i]);
    if (byte > 1) return fail("element ", i, " of the bool array is ", int(byte), "; it must be 0 or 1");
    values[i] = byte == 1;
  }
  position_ += count;
  return true;
}

bool HeaderParser::read_strings(uint64_t count, Array& array) {
  auto& values = array.values.emplace<std::vector<std::string>>();
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i)
    if (!read_string(values.emplace_back(), "array's string")) return false;
  return true;
}

bool HeaderParser::read_alignment() {
  for (uint64_t i = 0; i < header_.metadata.size(); ++i) {
    const MetadataEntry& entry = header_.metadata[i];
    if (entry.key != "general.alignment") continue;
    set_place(Place::kEntry, i);
    name_ = entry.key;
    if (entry.type != ValueType::kUint32)
      return fail("the alignment must be a uint32, not ", value_type_name(entry.type));
    const uint64_t alignment = std::get<uint64_t>(entry.value);
    if (!std::has_single_bit(alignment) || alignment < 8)
      return fail("the alignment ", alignment, " is not a power of two of at least 8");
    header_.alignment = uint32_t(alignment);
  }
  return true;
}

bool HeaderParser::read_tensors() {
  header_.tensors.reserve(tensor_count_);
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    set_place(Place::kTensor, i);
    if (!read_tensor(header_.tensors.emplace_back())) return false;
  }
  return true;
}

bool HeaderParser::read_tensor(TensorInfo& tensor) {
  if (!read_name(tensor.name, "name")) return false;
  name_ = tensor.name;
  uint32_t type = 0;
  if (!read_shape(tensor) || !read(type, "type")) return false;
  tensor.type = quant::Type(type);
  if (!size_tensor(tensor)) return false;
  if (!read(tensor.file_offset, "offset")) return false;
  if (tensor.file_offset % header_.alignment != 0)
    return fail("its data offset ", tensor.file_offset, " is not a multiple of the alignment ",
                header_.alignment);
  return true;
}

bool HeaderParser::read_shape(TensorInfo& tensor) {
  if (!read(tensor.dimension_count, "number of dimensions")) return false;
  if (tensor.dimension_count < 1 || tensor.dimension_count > 4)
    return fail("it has ", tensor.dimension_count, " dimensions; 1 to 4 are possible");
  uint64_t elements = 1;
  for (uint32_t d = 0; d < tensor.dimension_count; ++d) {
    uint64_t& size = tensor.shape[d];
    if (!read(size, "shape")) return false;
    if (size == 0) return fail("dimension ", d, " is 0");
    if (!multiply(elements, size, elements) || elements > kMaxElements)
      return fail("dimension ", d, " is ", size, "; the tensor would have more than 2^62 elements");
  }
  return true;
}

bool HeaderParser::size_tensor(TensorInfo& tensor) {
  const quant::TypeInfo* info = quant::find_type(tensor.type);
  if (info == nullptr)
    return fail("its type number ", uint32_t(tensor.type), " is not known to this program");
  if (tensor.shape[0] % info->block_size != 0)
    return fail("its rows have ", tensor.shape[0], " elements, not a multiple of the ", info->block_size,
                " in a block of type ", info->name);
  const uint64_t blocks = tensor.element_count() / info->block_size;
  if (!multiply(blocks, info->block_bytes, tensor.size_bytes))
    return fail("its ", tensor.element_count(), " elements of type ", info->name,
                " take more than 2^64 bytes");
  return true;
}

// Turns offsets into the data section into offsets into the file.
bool HeaderParser::place_tensors() {
  const uint64_t mask = header_.alignment - 1ull;
  const uint64_t data_start = (position_ + mask) & ~mask;
  for (uint64_t i = 0; i < tensor_count_; ++i) {
    TensorInfo& tensor = header_.tensors[i];
    set_place(Place::kTensor, i);
    uint64_t begin = 0, end = 0;
    if (!add(data_start, tensor.file_offset, begin) || !add(begin, tensor.size_bytes, end)) {
      name_ = tensor.name;
      return fail("its data offset ", tensor.file_offset, " plus its ", tensor.size_bytes,
                  " bytes pass 2^64");
    }
    if (end > file_.size() && !options_.allow_missing_data) {
      name_ = tensor.name;
      return fail("its data end at byte ", end, ", but the file has only ", file_.size(),
                  " bytes; is the download complete?");
    }
    tensor.file_offset = begin;
  }
  return true;
}

bool HeaderParser::check_overlaps() {
  const std::vector<TensorInfo>& tensors = header_.tensors;
  std::vector<uint32_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto before = [&](uint32_t a, uint32_t b) { return tensors[a].file_offset < tensors[b].file_offset; };
  if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& first = tensors[order[i - 1]];
    const TensorInfo& second = tensors[order[i]];
    if (first.file_offset + first.size_bytes <= second.file_offset) continue;
    set_place(Place::kTensor, order[i]);
    name_ = second.name;
    return fail("its data overlap those of tensor ", order[i - 1], " ", quoted(first.name));
  }
  return true;
}

// Length of the UTF-8 sequence at the front of text, 0 when it is not one.
size_t utf8_sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return uint32_t(uint8_t(text[i])); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  uint32_t code = lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return code < kLeast[length] || code > 0x10ffff || surrogate ? 0 : length;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string quoted(std::string_view text) {
  constexpr size_t kMaxShown = 96;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  while (!text.empty()) {
    const size_t length = utf8_sequence_length(text);
    if (out.size() + length > kMaxShown) {
      out += "...";
      break;
    }
    const auto byte = uint8_t(text[0]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return out + "'";
}

std::string_view value_type_name(ValueType type) {
  return uint32_t(type) < kValueTypeCount ? kValueTypes[uint32_t(type)].name : "unknown";
}

Expected<Header> parse_header(std::span<const std::byte> file, std::string_view path,
                              const HeaderOptions& options) {
  HeaderParser parser(file, path, options);
  if (!parser.parse()) return parser.take_error();
  return parser.take_header();
}

}  // namespace dw::gguf
