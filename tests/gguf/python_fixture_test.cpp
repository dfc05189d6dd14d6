// Reads a file of the `gguf` Python package (tools/oracle/make_gguf_fixtures.py) that holds every metadata
// and tensor type.
#include <bit>
#include <limits>
#include <map>

#include "gguf_test_util.h"

namespace dw::gguf::test {
namespace {

const std::string kPath = DW_TEST_DATA "/gguf/python_all_types.gguf";

// The CRC-32 of zlib.
uint32_t crc32(const std::byte* data, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= uint32_t(data[i]);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

template <class T>
const T& scalar(const File& file, const std::string& key, ValueType type) {
  const MetadataEntry* entry = file.find(key);
  EXPECT_NE(entry, nullptr) << key;
  EXPECT_EQ(entry->type, type) << key;
  return std::get<T>(entry->value);
}

template <class T>
const std::vector<T>& list(const File& file, const std::string& key, ValueType element_type) {
  const auto& array = *scalar<std::shared_ptr<const Array>>(file, key, ValueType::kArray);
  EXPECT_EQ(array.element_type, element_type) << key;
  return std::get<std::vector<T>>(array.values);
}

using U = uint64_t;
using I = int64_t;

TEST(GgufPythonFixture, EveryScalar) {
  const auto file = File::open(kPath);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->alignment(), 64u);
  EXPECT_EQ(scalar<std::string>(*file, "general.architecture", ValueType::kString), "qwen3next");
  EXPECT_EQ(scalar<U>(*file, "t.uint8", ValueType::kUint8), U(255));
  EXPECT_EQ(scalar<I>(*file, "t.int8", ValueType::kInt8), I(-128));
  EXPECT_EQ(scalar<U>(*file, "t.uint16", ValueType::kUint16), U(65535));
  EXPECT_EQ(scalar<I>(*file, "t.int16", ValueType::kInt16), I(-32768));
  EXPECT_EQ(scalar<U>(*file, "t.uint32", ValueType::kUint32), U(UINT32_MAX));
  EXPECT_EQ(scalar<I>(*file, "t.int32", ValueType::kInt32), I(INT32_MIN));
  EXPECT_EQ(scalar<U>(*file, "t.uint64", ValueType::kUint64), UINT64_MAX);
  EXPECT_EQ(scalar<I>(*file, "t.int64", ValueType::kInt64), INT64_MIN);
  EXPECT_EQ(scalar<double>(*file, "t.float32", ValueType::kFloat32), double(0.1f));
  EXPECT_EQ(scalar<double>(*file, "t.float64", ValueType::kFloat64), 0.1);
  EXPECT_TRUE(scalar<bool>(*file, "t.bool.true", ValueType::kBool));
  EXPECT_FALSE(scalar<bool>(*file, "t.bool.false", ValueType::kBool));
  EXPECT_EQ(scalar<std::string>(*file, "t.string", ValueType::kString), "Grüße, 世界 🎉");
}

TEST(GgufPythonFixture, EveryArray) {
  const auto file = File::open(kPath);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(list<U>(*file, "a.uint8", ValueType::kUint8), (std::vector<U>{0, 255}));
  EXPECT_EQ(list<I>(*file, "a.int8", ValueType::kInt8), (std::vector<I>{-128, 127}));
  EXPECT_EQ(list<U>(*file, "a.uint16", ValueType::kUint16), (std::vector<U>{0, 65535}));
  EXPECT_EQ(list<I>(*file, "a.int16", ValueType::kInt16), (std::vector<I>{-32768, 32767}));
  EXPECT_EQ(list<U>(*file, "a.uint32", ValueType::kUint32), (std::vector<U>{0, UINT32_MAX}));
  EXPECT_EQ(list<I>(*file, "a.int32", ValueType::kInt32), (std::vector<I>{INT32_MIN, INT32_MAX}));
  EXPECT_EQ(list<U>(*file, "a.uint64", ValueType::kUint64), (std::vector<U>{0, UINT64_MAX}));
  EXPECT_EQ(list<I>(*file, "a.int64", ValueType::kInt64), (std::vector<I>{INT64_MIN, INT64_MAX}));
  EXPECT_EQ(list<double>(*file, "a.float32", ValueType::kFloat32), (std::vector<double>{0.1f, -2.5}));
  EXPECT_EQ(list<double>(*file, "a.float64", ValueType::kFloat64), (std::vector<double>{0.1, -1e300}));
  EXPECT_EQ(list<bool>(*file, "a.bool", ValueType::kBool), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(list<std::string>(*file, "a.string", ValueType::kString),
            (std::vector<std::string>{"", "abc", "ü"}));
  const auto& nested = list<std::shared_ptr<const Array>>(*file, "a.nested", ValueType::kArray);
  ASSERT_EQ(nested.size(), 2u);
  EXPECT_EQ(std::get<std::vector<I>>(nested[0]->values), (std::vector<I>{1, 2, 3}));
  EXPECT_EQ(std::get<std::vector<I>>(nested[1]->values), (std::vector<I>{4}));
}

TEST(GgufPythonFixture, EveryTensorType) {
  const auto file = File::open(kPath);
  ASSERT_TRUE(file) << file.error().message;
  std::map<std::string, uint32_t> sums;
  std::ifstream stream(DW_TEST_DATA "/gguf/python_all_types.crc32");
  for (std::string name, sum; stream >> name >> sum;) sums[name] = uint32_t(std::stoul(sum, nullptr, 16));
  EXPECT_EQ(sums.size(), quant::all_types().size() - 1);  // all but Q8_1: see the script
  ASSERT_EQ(file->tensors().size(), sums.size());
  for (const TensorInfo& tensor : file->tensors()) {
    const quant::TypeInfo& info = quant::type_info(tensor.type);
    EXPECT_EQ(tensor.name, info.name);
    EXPECT_EQ(tensor.shape, (std::array<uint64_t, 4>{info.block_size, 3, 2, 1})) << tensor.name;
    EXPECT_EQ(tensor.size_bytes, 6u * info.block_bytes);
    EXPECT_EQ(crc32(tensor.data, tensor.size_bytes), sums[tensor.name]) << tensor.name;
  }
}

}  // namespace
}  // namespace dw::gguf::test
