// Hand-made broken headers: each must give an Error that names the file and the field, before any allocation
// of the claimed size (the address sanitizer's allocation limit would catch one).
#include <chrono>

#include "gguf/header_parser.h"
#include "gguf_test_util.h"

namespace dw::gguf::test {
namespace {

Expected<Header> parse(const Builder& builder, bool allow_missing_data = false) {
  return parse_header(std::as_bytes(std::span(builder.bytes())), "model.gguf",
                      {.allow_missing_data = allow_missing_data});
}

void expect_error(const Builder& builder, const std::string& piece) {
  const auto header = parse(builder);
  ASSERT_FALSE(header) << "expected an error with: " << piece;
  EXPECT_EQ(header.error().message.rfind("model.gguf: ", 0), 0u) << header.error().message;
  EXPECT_NE(header.error().message.find(piece), std::string::npos) << header.error().message;
}

TEST(GgufHostile, WrongMagicAndVersions) {
  expect_error(Builder().raw(uint32_t(0x12345678)).zeros(64), "not a GGUF file");
  expect_error(Builder().raw(uint16_t(7)), "ends inside the magic number");
  expect_error(Builder().preamble(0, 0, 1), "GGUF version 1 is not supported");
  expect_error(Builder().preamble(0, 0, 0x03000000), "big-endian");
  expect_error(Builder().preamble(0, 0, 0x02000000), "big-endian");
  expect_error(Builder().preamble(0, 0, 4), "GGUF version 4 is not known");
  expect_error(Builder().preamble(0, 0, 0), "GGUF version 0 is not known");
  EXPECT_TRUE(parse(Builder().preamble(0, 0, 2)));
  EXPECT_TRUE(parse(Builder().preamble(0, 0, 3)));
}

TEST(GgufHostile, CountsNearTheEndOfTheNumbers) {
  for (const uint64_t count :
       {uint64_t(1), uint64_t(1) << 40, (uint64_t(1) << 63) - 1, uint64_t(1) << 63, ~uint64_t(0)}) {
    expect_error(Builder().preamble(count, 0), "the tensor count is " + std::to_string(count));
    expect_error(Builder().preamble(0, count), "the metadata count is " + std::to_string(count));
    Builder long_key = Builder().preamble(0, 1);
    expect_error(long_key.raw(count + 100000).zeros(64),
                 count == ~uint64_t(0) ? "the key claims 99999 bytes" : "the key claims");
    if (count > 64)
      expect_error(Builder().preamble(0, 1).key("text", ValueType::kString).raw(count).zeros(64),
                   "metadata entry 0 'text': the string claims " + std::to_string(count) + " bytes");
    for (uint32_t type = 0; type < 13; ++type)
      if (count > 64)
        expect_error(
            Builder().preamble(0, 1).key("list", ValueType::kArray).array(ValueType(type), count).zeros(64),
            "metadata entry 0 'list': the array claims " + std::to_string(count));
  }
}

TEST(GgufHostile, Metadata) {
  expect_error(Builder().preamble(0, 1).text("").zeros(16), "metadata entry 0: the key is empty");
  expect_error(Builder().preamble(0, 1).text("a\xff\x01").zeros(16),
               "the key 'a\\xff\\x01' is not valid UTF-8");
  expect_error(Builder().preamble(0, 1).text("\xc0\x80").zeros(16), "not valid UTF-8");
  expect_error(Builder().preamble(0, 1).text("\xed\xa0\x80").zeros(16), "not valid UTF-8");
  expect_error(Builder().preamble(0, 1).text("\xf4\x90\x80\x80").zeros(16), "not valid UTF-8");
  expect_error(Builder().preamble(0, 1).key("k", ValueType(13)).zeros(16), "the value type is 13");
  expect_error(Builder().preamble(0, 1).key("k", ValueType::kBool).raw(uint8_t(2)), "the bool value is 2");
  expect_error(
      Builder().preamble(0, 1).key("k", ValueType::kArray).array(ValueType::kBool, 2).raw(uint16_t(0x0301)),
      "element 1 of the bool array is 3");
  expect_error(Builder().preamble(0, 1).key("k", ValueType::kArray).array(ValueType(77), 2).zeros(16),
               "the array's element type is 77");
  expect_error(Builder().preamble(0, 1).key("k", ValueType::kUint64).raw(uint32_t(1)),
               "ends inside the value");
}

TEST(GgufHostile, DeeplyNestedArrays) {
  for (const int depth : {8, 9, 100000}) {
    Builder builder;
    builder.preamble(0, 1).key("deep", ValueType::kArray);
    for (int i = 1; i < depth; ++i) builder.array(ValueType::kArray, 1);
    builder.array(ValueType::kUint8, 1).raw(uint8_t(5));
    if (depth <= 8)
      EXPECT_TRUE(parse(builder));
    else
      expect_error(builder, "arrays are nested more than 8 deep");
  }
}

TEST(GgufHostile, Alignment) {
  for (const uint32_t alignment : {0u, 1u, 4u, 12u, 33u, 0xffffffffu})
    expect_error(
        Builder().preamble(0, 1).key("general.alignment", ValueType::kUint32).raw(alignment),
        "'general.alignment': the alignment " + std::to_string(alignment) + " is not a power of two");
  expect_error(Builder().preamble(0, 1).key("general.alignment", ValueType::kUint64).raw(uint64_t(32)),
               "must be a uint32, not uint64");
  const auto big = parse(Builder().preamble(0, 1).key("general.alignment", ValueType::kUint32).raw(1u << 31));
  ASSERT_TRUE(big);
  EXPECT_EQ(big->alignment, 1u << 31);
}

TEST(GgufHostile, TensorShapes) {
  const auto with = [](const std::vector<uint64_t>& shape, uint32_t type = 0, uint64_t offset = 0) {
    return Builder().preamble(1, 0).tensor("blk.0.attn_q.weight", shape, type, offset).align().zeros(256);
  };
  const std::string where = "tensor 0 'blk.0.attn_q.weight': ";
  EXPECT_TRUE(parse(with({8, 8})));
  expect_error(with({}), where + "it has 0 dimensions");
  expect_error(with({1, 1, 1, 1, 1}), where + "it has 5 dimensions");
  expect_error(with({8, 0}), where + "dimension 1 is 0");
  expect_error(with({uint64_t(1) << 40, uint64_t(1) << 40}), where + "dimension 1 is 1099511627776");
  expect_error(with({~uint64_t(0), 2}), where + "dimension 0 is 18446744073709551615");
  expect_error(with({(uint64_t(1) << 62) + 1}), where + "dimension 0 is");
  expect_error(with({uint64_t(1) << 62}, 28), "bytes");
  expect_error(with({64, 2}, uint32_t(quant::Type::Q4_K)),
               where + "its rows have 64 elements, not a multiple of the 256");
  expect_error(with({8}, 4), where + "its type number 4 is not known");
  expect_error(with({8}, 0xffffffff), where + "its type number 4294967295 is not known");
  expect_error(with({8}, 0, 16), where + "its data offset 16 is not a multiple of the alignment 32");
  expect_error(with({8}, 0, 256), where + "its data end at byte");
  expect_error(with({8}, 0, uint64_t(1) << 63), where + "its data end at byte");
  expect_error(with({8}, 0, ~uint64_t(0) - 31), "pass 2^64");
}

TEST(GgufHostile, TensorNamesAndPlaces) {
  expect_error(Builder().preamble(1, 0).tensor("", {8}, 0, 0).align().zeros(32),
               "tensor 0: the name is empty");
  expect_error(Builder().preamble(1, 0).tensor("\x80", {8}, 0, 0).align().zeros(32), "not valid UTF-8");
  expect_error(Builder().preamble(2, 0).tensor("a", {9}, 0, 0).tensor("b", {8}, 0, 32).align().zeros(96),
               "tensor 1 'b': its data overlap those of tensor 0 'a'");
  expect_error(Builder().preamble(2, 0).tensor("a", {8}, 0, 32).tensor("b", {9}, 0, 0).align().zeros(96),
               "tensor 0 'a': its data overlap those of tensor 1 'b'");
  expect_error(Builder().preamble(2, 0).tensor("a", {8}, 0, 0).tensor("b", {8}, 0, 0).align().zeros(96),
               "overlap");
  EXPECT_TRUE(
      parse(Builder().preamble(2, 0).tensor("a", {8}, 0, 32).tensor("b", {8}, 0, 0).align().zeros(64)));
}

TEST(GgufHostile, DuplicateNames) {
  const TempFolder folder;
  const std::string keys = folder.write("keys.gguf", Builder()
                                                         .preamble(0, 2)
                                                         .key("k", ValueType::kBool)
                                                         .raw(true)
                                                         .key("k", ValueType::kBool)
                                                         .raw(true)
                                                         .bytes());
  EXPECT_EQ(File::open(keys).error().message, keys + ": metadata entry 1: the key 'k' occurs twice");
  const std::string names = folder.write(
      "names.gguf",
      Builder().preamble(2, 0).tensor("t", {8}, 0, 0).tensor("t", {8}, 0, 32).align().zeros(64).bytes());
  EXPECT_EQ(File::open(names).error().message, names + ": tensor 1: the name 't' occurs twice");
}

TEST(GgufHostile, HeaderOnlyAcceptsMissingData) {
  const Builder builder = Builder().preamble(1, 0).tensor("t", {1 << 20}, 0, 0).align();
  expect_error(builder, "is the download complete?");
  EXPECT_TRUE(parse(builder, true));
  const TempFolder folder;
  const std::string path = folder.write("part.gguf", builder.bytes());
  EXPECT_FALSE(File::open(path));
  const auto file = File::open(path, {.header_only = true});
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors()[0].data, nullptr);
  EXPECT_EQ(file->tensors()[0].size_bytes, uint64_t(4) << 20);
}

TEST(GgufHostile, MillionTensors) {
  constexpr uint64_t kCount = 1000000;
  Builder builder;
  builder.preamble(kCount, 0);
  for (uint64_t i = 0; i < kCount; ++i) builder.tensor("tensor." + std::to_string(i), {8}, 0, i * 32);
  builder.align().zeros(kCount * 32);
  const TempFolder folder;
  const std::string path = folder.write("million.gguf", builder.bytes());
  const auto start = std::chrono::steady_clock::now();
  const auto file = File::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().size(), kCount);
  EXPECT_EQ(file->find_tensor("tensor.999999")->file_offset % 32, 0u);
  // A second in a release build; the bound only rules out anything quadratic.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

// A header with every kind of entry; small, so that every byte of it can be damaged.
Builder small_file() {
  Builder builder;
  builder.preamble(2, 5).key("general.architecture", ValueType::kString).text("qwen3next");
  builder.key("general.alignment", ValueType::kUint32).raw(uint32_t(64));
  builder.key("flags", ValueType::kArray).array(ValueType::kBool, 2).raw(uint16_t(0x0100));
  builder.key("words", ValueType::kArray).array(ValueType::kString, 2).text("alpha").text("beta");
  builder.key("nested", ValueType::kArray)
      .array(ValueType::kArray, 1)
      .array(ValueType::kFloat32, 1)
      .raw(1.5f);
  builder.tensor("a", {8, 2}, 0, 0).tensor("b", {32, 2}, uint32_t(quant::Type::Q8_0), 64);
  return builder.align(64).zeros(64 + 68);
}

TEST(GgufHostile, TruncatedAtEveryByte) {
  const std::string whole = small_file().bytes();
  const TempFolder folder;
  ASSERT_TRUE(File::open(folder.write("whole.gguf", whole)));
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.write("cut.gguf", std::string_view(whole).substr(0, size));
    const auto file = File::open(path);
    ASSERT_FALSE(file) << "cut at " << size;
    EXPECT_NE(file.error().message.find(path), std::string::npos);
  }
}

TEST(GgufHostile, TruncatedAtEveryPage) {
  Builder builder;
  builder.preamble(300, 1).key("words", ValueType::kArray).array(ValueType::kString, 3000);
  for (int i = 0; i < 3000; ++i) builder.text("word number " + std::to_string(i));
  for (uint64_t i = 0; i < 300; ++i) builder.tensor("t" + std::to_string(i), {256}, 0, i * 1024);
  const std::string whole = builder.align().zeros(300 * 1024).bytes();
  const TempFolder folder;
  ASSERT_TRUE(File::open(folder.write("whole.gguf", whole)));
  for (size_t size = 4096; size < whole.size(); size += 4096)
    ASSERT_FALSE(File::open(folder.write("cut.gguf", std::string_view(whole).substr(0, size)))) << size;
}

TEST(GgufHostile, EveryBitFlipGivesAFileOrAnError) {
  const std::string whole = small_file().bytes();
  const TempFolder folder;
  size_t errors = 0, files = 0;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = char(damaged[bit / 8] ^ (1 << (bit % 8)));
    const auto file = File::open(folder.write("flip.gguf", damaged));
    if (!file) {
      ASSERT_FALSE(file.error().message.empty());
      ++errors;
      continue;
    }
    ++files;
    for (const TensorInfo& tensor : file->tensors()) {
      ASSERT_LE(tensor.file_offset + tensor.size_bytes, damaged.size());
      volatile auto last = tensor.data[tensor.size_bytes - 1];
      (void)last;
    }
  }
  EXPECT_GT(errors, 1000u);
  EXPECT_GT(files, 1000u);
}

}  // namespace
}  // namespace dw::gguf::test
