// Split sets: found from any member, refused when the members do not belong together.
#include "gguf_test_util.h"

namespace dw::gguf::test {
namespace {

struct PartSpec {
  uint16_t number = 0, count = 3;
  int32_t tensors = 3;
  std::string architecture;
  std::string tensor_name;
};

std::string part_bytes(const PartSpec& spec) {
  const bool named = !spec.architecture.empty();
  Builder builder;
  builder.preamble(1, named ? 4 : 3);
  if (named) builder.key("general.architecture", ValueType::kString).text(spec.architecture);
  builder.key("split.no", ValueType::kUint16).raw(spec.number);
  builder.key("split.count", ValueType::kUint16).raw(spec.count);
  builder.key("split.tensors.count", ValueType::kInt32).raw(spec.tensors);
  const std::string name = spec.tensor_name.empty() ? "t" + std::to_string(spec.number) : spec.tensor_name;
  builder.tensor(name, {8}, 0, 0).align();
  for (int i = 0; i < 8; ++i) builder.raw(float(spec.number));
  return builder.bytes();
}

std::string part_name(int number, int count = 3) {
  char text[64];
  std::snprintf(text, sizeof text, "model-%05d-of-%05d.gguf", number, count);
  return text;
}

void write_set(const TempFolder& folder) {
  for (int i = 0; i < 3; ++i)
    folder.write(
        part_name(i + 1),
        part_bytes({.number = uint16_t(i), .architecture = i == 0 ? "qwen3next" : "", .tensor_name = ""}));
}

void expect_error(const TempFolder& folder, const std::string& piece,
                  const std::string& name = part_name(1)) {
  const auto file = File::open(folder.path(name));
  ASSERT_FALSE(file) << piece;
  EXPECT_NE(file.error().message.find(piece), std::string::npos) << file.error().message;
}

TEST(GgufSplit, OpensFromAnyMember) {
  const TempFolder folder;
  write_set(folder);
  for (int given = 1; given <= 3; ++given)
    for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
      const auto file = File::open(folder.path(part_name(given)), {.mode = mode});
      ASSERT_TRUE(file) << file.error().message;
      EXPECT_EQ(*file->get_string("general.architecture").value(), "qwen3next");
      ASSERT_EQ(file->paths().size(), 3u);
      EXPECT_EQ(file->paths()[1], folder.path(part_name(2)));
      ASSERT_EQ(file->tensors().size(), 3u);
      for (uint32_t i = 0; i < 3; ++i) {
        const TensorInfo* tensor = file->find_tensor("t" + std::to_string(i));
        ASSERT_NE(tensor, nullptr);
        EXPECT_EQ(tensor->file_index, i);
        float value = -1;
        std::memcpy(&value, tensor->data + 28, 4);
        EXPECT_EQ(value, float(i));
      }
    }
}

TEST(GgufSplit, MissingMember) {
  const TempFolder folder;
  write_set(folder);
  std::filesystem::remove(folder.path(part_name(2)));
  expect_error(folder, "part 2 of 3 of the split model: cannot open", part_name(3));
}

TEST(GgufSplit, RenamedMember) {
  const TempFolder folder;
  write_set(folder);
  folder.write("other.gguf", part_bytes({.number = 0, .architecture = "", .tensor_name = ""}));
  expect_error(folder, "one of 3 files of a split model", "other.gguf");
  folder.write("model-00001-of-00004.gguf", part_bytes({.number = 0, .architecture = "", .tensor_name = ""}));
  expect_error(folder, "the name says 4 files", "model-00001-of-00004.gguf");
  folder.write("model-00000-of-00003.gguf", part_bytes({.number = 0, .architecture = "", .tensor_name = ""}));
  expect_error(folder, "the name says part 0 of 3", "model-00000-of-00003.gguf");
}

TEST(GgufSplit, MembersOfDifferentModels) {
  const TempFolder folder;
  const auto replace = [&](const PartSpec& spec) {
    write_set(folder);
    folder.write(part_name(2), part_bytes(spec));
  };
  replace({.number = 2, .architecture = "", .tensor_name = "x"});
  expect_error(folder, "'split.no' is 2, but its name says part 2 of 3 (number 1)");
  replace({.number = 1, .count = 4, .architecture = "", .tensor_name = ""});
  expect_error(folder, "'split.count' is 4, but the set has 3 files");
  replace({.number = 1, .tensors = 9, .architecture = "", .tensor_name = ""});
  expect_error(folder, "'split.tensors.count' differs");
  replace({.number = 1, .tensors = -1, .architecture = "", .tensor_name = ""});
  expect_error(folder, "'split.tensors.count' is not a non-negative integer");
  replace({.number = 1, .architecture = "llama", .tensor_name = ""});
  expect_error(folder, "'general.architecture' differs");
  replace({.number = 1, .architecture = "", .tensor_name = "t0"});
  expect_error(folder, "the name 't0' occurs twice");
}

TEST(GgufSplit, WrongTotal) {
  const TempFolder folder;
  for (int i = 0; i < 3; ++i)
    folder.write(part_name(i + 1),
                 part_bytes({.number = uint16_t(i), .tensors = 5, .architecture = "", .tensor_name = ""}));
  expect_error(folder, "'split.tensors.count' is 5, but the files hold 3 tensors");
}

TEST(GgufSplit, SingleFileWithSplitKeysNeedsNoName) {
  const TempFolder folder;
  folder.write("one.gguf",
               part_bytes({.number = 0, .count = 1, .tensors = 1, .architecture = "", .tensor_name = ""}));
  EXPECT_TRUE(File::open(folder.path("one.gguf")));
}

}  // namespace
}  // namespace dw::gguf::test
