// Writer: round trips of every type, and what is left on disk when it stops half-way.
#include "gguf/writer.h"

#include <signal.h>
#include <sys/wait.h>

#include "gguf_test_util.h"

namespace dw::gguf::test {
namespace {

constexpr std::array<uint64_t, 1> kEight = {8};

template <class T>
std::shared_ptr<const Array> make_array(ValueType type, std::vector<T> values) {
  auto array = std::make_shared<Array>();
  array->element_type = type;
  array->values = std::move(values);
  return array;
}

std::vector<MetadataEntry> every_entry() {
  std::vector<MetadataEntry> list;
  const auto unsigned_entry = [&](ValueType type, uint64_t largest) {
    const std::string name = "unsigned." + std::to_string(uint32_t(type));
    list.push_back({name, type, largest});
    list.push_back({name + ".list", ValueType::kArray, make_array<uint64_t>(type, {0, 1, largest})});
  };
  const auto signed_entry = [&](ValueType type, int64_t least, int64_t largest) {
    const std::string name = "signed." + std::to_string(uint32_t(type));
    list.push_back({name, type, least});
    list.push_back({name + ".list", ValueType::kArray, make_array<int64_t>(type, {least, -1, largest})});
  };
  unsigned_entry(ValueType::kUint8, UINT8_MAX);
  unsigned_entry(ValueType::kUint16, UINT16_MAX);
  unsigned_entry(ValueType::kUint32, UINT32_MAX);
  unsigned_entry(ValueType::kUint64, UINT64_MAX);
  signed_entry(ValueType::kInt8, INT8_MIN, INT8_MAX);
  signed_entry(ValueType::kInt16, INT16_MIN, INT16_MAX);
  signed_entry(ValueType::kInt32, INT32_MIN, INT32_MAX);
  signed_entry(ValueType::kInt64, INT64_MIN, INT64_MAX);
  list.push_back({"float32", ValueType::kFloat32, double(1.1f)});
  list.push_back({"float64", ValueType::kFloat64, 1.1});
  list.push_back({"float64.list", ValueType::kArray, make_array<double>(ValueType::kFloat64, {1e300, -0.0})});
  list.push_back({"bool", ValueType::kBool, true});
  list.push_back({"bool.list", ValueType::kArray, make_array<bool>(ValueType::kBool, {true, false, true})});
  list.push_back({"string", ValueType::kString, std::string("a\0b\xff", 4)});
  list.push_back({"string.list", ValueType::kArray, make_array<std::string>(ValueType::kString, {"", "x"})});
  list.push_back({"empty.list", ValueType::kArray, make_array<int64_t>(ValueType::kInt32, {})});
  const auto inner = make_array<uint64_t>(ValueType::kUint8, {1, 2});
  const auto middle = make_array<std::shared_ptr<const Array>>(ValueType::kArray, {inner, inner});
  list.push_back({"nested", ValueType::kArray,
                  make_array<std::shared_ptr<const Array>>(ValueType::kArray, {middle, middle, middle})});
  return list;
}

void expect_same(const Value& a, const Value& b);
void expect_same_array(const Array& a, const Array& b) {
  EXPECT_EQ(a.element_type, b.element_type);
  ASSERT_EQ(a.values.index(), b.values.index());
  const auto* nested = std::get_if<std::vector<std::shared_ptr<const Array>>>(&a.values);
  if (nested == nullptr) {
    EXPECT_EQ(a.values, b.values);
    return;
  }
  const auto& other = std::get<std::vector<std::shared_ptr<const Array>>>(b.values);
  ASSERT_EQ(nested->size(), other.size());
  for (size_t i = 0; i < other.size(); ++i) expect_same_array(*(*nested)[i], *other[i]);
}
void expect_same(const Value& a, const Value& b) {
  ASSERT_EQ(a.index(), b.index());
  if (const auto* array = std::get_if<std::shared_ptr<const Array>>(&a))
    expect_same_array(**array, *std::get<std::shared_ptr<const Array>>(b));
  else
    EXPECT_EQ(a, b);
}

TEST(GgufWriter, RoundTripOfEveryMetadataType) {
  const TempFolder folder;
  const std::string path = folder.path("all.gguf");
  const std::vector<MetadataEntry> entries = every_entry();
  Writer writer(path);
  for (const MetadataEntry& entry : entries) writer.add(entry);
  ASSERT_TRUE(writer.begin());
  ASSERT_TRUE(writer.finish());
  const auto file = File::open(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->metadata().size(), entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(file->metadata()[i].key, entries[i].key);
    EXPECT_EQ(file->metadata()[i].type, entries[i].type);
    expect_same(file->metadata()[i].value, entries[i].value);
  }
}

TEST(GgufWriter, RoundTripOfEveryTensorTypeAndAlignment) {
  for (const uint32_t alignment : {8u, 32u, 64u, 4096u}) {
    const TempFolder folder;
    const std::string path = folder.path("tensors.gguf");
    Writer writer(path, alignment);
    std::vector<std::vector<std::byte>> data;
    for (const quant::TypeInfo& info : quant::all_types()) {
      const std::array<uint64_t, 4> shape = {info.block_size * 3ull, 5, 1, 2};
      writer.declare_tensor(info.name, info.type, shape);
      data.emplace_back(30 * info.block_bytes, std::byte(data.size() + 1));
    }
    ASSERT_TRUE(writer.begin());
    for (const auto& bytes : data) {  // in two pieces
      ASSERT_TRUE(writer.write_data(std::span(bytes).first(7)));
      ASSERT_TRUE(writer.write_data(std::span(bytes).subspan(7)));
    }
    ASSERT_TRUE(writer.finish());
    EXPECT_EQ(writer.file_bytes(), std::filesystem::file_size(path));
    const auto file = File::open(path);
    ASSERT_TRUE(file) << file.error().message;
    EXPECT_EQ(file->alignment(), alignment);
    ASSERT_EQ(file->tensors().size(), data.size());
    for (size_t i = 0; i < data.size(); ++i) {
      const TensorInfo& tensor = file->tensors()[i];
      EXPECT_EQ(tensor.type, quant::all_types()[i].type);
      EXPECT_EQ(tensor.dimension_count, 4u);
      EXPECT_EQ(tensor.file_offset % alignment, 0u);
      ASSERT_EQ(tensor.size_bytes, data[i].size());
      EXPECT_EQ(std::memcmp(tensor.data, data[i].data(), data[i].size()), 0);
    }
  }
}

TEST(GgufWriter, TypedLookUps) {
  const TempFolder folder;
  const std::string path = folder.path("typed.gguf");
  Writer writer(path);
  writer.add("u32", uint32_t(7));
  writer.add("i32", int32_t(-7));
  writer.add("u64", uint64_t(1) << 40);
  writer.add("f32", 0.5f);
  writer.add("flag", true);
  writer.add("text", "words");
  writer.add("strings", std::vector<std::string>{"a", "b"});
  writer.add("ints", std::vector<int32_t>{-1, 2});
  writer.add("floats", std::vector<float>{0.25f, 2.f});
  writer.add("general.alignment", uint32_t(4096));  // the writer's own business
  ASSERT_TRUE(writer.begin());
  ASSERT_TRUE(writer.finish());
  const auto file = File::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->alignment(), 32u);
  EXPECT_EQ(*file->get_uint("u32").value(), 7u);
  EXPECT_EQ(*file->get_uint("u64").value(), uint64_t(1) << 40);
  EXPECT_FALSE(file->get_uint("none").value().has_value());
  EXPECT_NE(file->get_uint("i32").error().message.find("'i32' is -7, but must not be negative"),
            std::string::npos);
  EXPECT_NE(file->get_uint("text").error().message.find("must be an integer, but is of type string"),
            std::string::npos);
  EXPECT_EQ(*file->get_float("f32").value(), 0.5);
  EXPECT_EQ(*file->get_float("i32").value(), -7.0);
  EXPECT_FALSE(file->get_float("flag"));
  EXPECT_EQ(*file->get_bool("flag").value(), true);
  EXPECT_FALSE(file->get_bool("u32"));
  EXPECT_EQ(*file->get_string("text").value(), "words");
  EXPECT_FALSE(file->get_string("strings"));
  EXPECT_EQ(*file->get_strings("strings"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(file->get_strings("ints"), nullptr);
  EXPECT_EQ(*file->get_ints("ints"), (std::vector<int64_t>{-1, 2}));
  EXPECT_FALSE(file->get_ints("floats"));
  EXPECT_EQ(*file->get_floats("floats"), (std::vector<double>{0.25, 2.0}));
}

TEST(GgufWriter, WrongDeclarationsAreReportedByBegin) {
  const auto expect_begin_error = [](const std::string& piece, const auto& declare) {
    const TempFolder folder;
    Writer writer(folder.path("bad.gguf"));
    declare(writer);
    const auto begun = writer.begin();
    ASSERT_FALSE(begun) << piece;
    EXPECT_NE(begun.error().message.find(piece), std::string::npos) << begun.error().message;
    EXPECT_TRUE(folder.names().empty());
  };
  const auto declare = [](quant::Type type, std::vector<uint64_t> shape) {
    return [type, shape](Writer& writer) { writer.declare_tensor("t", type, shape); };
  };
  expect_begin_error("'k' was added twice", [](Writer& w) { w.add("k", true), w.add("k", true); });
  expect_begin_error("does not fit its type uint8", [](Writer& w) {
    w.add(MetadataEntry{"k", ValueType::kUint8, uint64_t(256)});
  });
  expect_begin_error("does not fit its type string", [](Writer& w) {
    w.add(MetadataEntry{"k", ValueType::kString, uint64_t(1)});
  });
  expect_begin_error("not 1 to 65535 bytes of UTF-8", [](Writer& w) { w.add("\xff", true); });
  expect_begin_error("'t' was declared twice", [](Writer& w) {
    w.declare_tensor("t", quant::Type::F32, kEight), w.declare_tensor("t", quant::Type::F32, kEight);
  });
  expect_begin_error("has 0 dimensions", declare(quant::Type::F32, {}));
  expect_begin_error("has 5 dimensions", declare(quant::Type::F32, {1, 1, 1, 1, 1}));
  expect_begin_error("has a dimension of 0", declare(quant::Type::F32, {4, 0}));
  expect_begin_error("has a dimension of", declare(quant::Type::F32, {uint64_t(1) << 40, uint64_t(1) << 40}));
  expect_begin_error("not a multiple of the 256", declare(quant::Type::Q4_K, {64}));
  expect_begin_error("unknown type 4", declare(quant::Type(4), {8}));
  expect_begin_error("not enough space", declare(quant::Type::F32, {uint64_t(1) << 50}));
}

TEST(GgufWriter, DataMustMatchTheDeclaration) {
  const TempFolder folder;
  const std::string path = folder.path("m.gguf");
  {
    Writer writer(path);
    writer.declare_tensor("t", quant::Type::F32, kEight);
    ASSERT_TRUE(writer.begin());
    const std::vector<std::byte> bytes(40);
    EXPECT_FALSE(writer.write_data(bytes));
    ASSERT_TRUE(writer.write_data(std::span(bytes).first(31)));
    EXPECT_NE(writer.finish().error().message.find("tensor 't' has only 31 of 32 bytes"), std::string::npos);
    ASSERT_TRUE(writer.write_data(std::span(bytes).first(1)));
    EXPECT_FALSE(writer.write_data(std::span(bytes).first(1)));
    EXPECT_TRUE(writer.finish());
  }
  EXPECT_TRUE(File::open(path));
}

TEST(GgufWriter, AnAbandonedWriterLeavesNothing) {
  const TempFolder folder;
  {
    Writer writer(folder.path("m.gguf"));
    writer.declare_tensor("t", quant::Type::F32, kEight);
    ASSERT_TRUE(writer.begin());
    EXPECT_FALSE(std::filesystem::exists(folder.path("m.gguf")));
  }
  EXPECT_TRUE(folder.names().empty());
}

TEST(GgufWriter, AKilledWriterLeavesTheOldFile) {
  const TempFolder folder;
  const std::string path = folder.write("m.gguf", "the old file");
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Writer writer(path);
    writer.declare_tensor("t", quant::Type::F32, std::array<uint64_t, 1>{1 << 20});
    if (!writer.begin()) ::_exit(1);
    const std::vector<std::byte> bytes(2 << 20);
    if (!writer.write_data(bytes)) ::_exit(1);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(slurp(path), "the old file");
}

TEST(GgufWriter, ReplacesAnOldFile) {
  const TempFolder folder;
  const std::string path = folder.write("m.gguf", "the old file");
  Writer writer(path);
  writer.add("general.architecture", "qwen3next");
  ASSERT_TRUE(writer.begin());
  EXPECT_EQ(slurp(path), "the old file");
  ASSERT_TRUE(writer.finish());
  EXPECT_TRUE(File::open(path));
  EXPECT_EQ(folder.names(), std::vector<std::string>{"m.gguf"});
}

TEST(GgufWriter, UnwritableFolder) {
  const TempFolder folder;
  Writer writer(folder.path("no/such/folder/m.gguf"));
  const auto begun = writer.begin();
  ASSERT_FALSE(begun);
  EXPECT_NE(begun.error().message.find("no/such/folder"), std::string::npos);
}

}  // namespace
}  // namespace dw::gguf::test
