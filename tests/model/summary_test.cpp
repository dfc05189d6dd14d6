// What `inspect` says of whole, incomplete and foreign files.
#include "model/summary.h"

#include <gmock/gmock.h>

#include "gguf/gguf_test_util.h"
#include "gguf/writer.h"
#include "model/synth.h"

namespace dw {
namespace {

using gguf::File;
using gguf::test::TempFolder;
using ::testing::Contains;
using ::testing::HasSubstr;

std::string make_synth(const TempFolder& folder) {
  SynthOptions options;
  options.shape = *find_synth_preset("tiny");
  options.shape.mtp_layers = 1;
  options.threads = 1;
  EXPECT_TRUE(synthesize(folder.path("m.gguf"), options));
  return folder.path("m.gguf");
}

TEST(Summary, CompleteFile) {
  const TempFolder folder;
  const std::string path = make_synth(folder);
  const auto file = File::open(path);
  ASSERT_TRUE(file);
  const FileSummary s = summarize(*file);
  EXPECT_TRUE(s.warnings.empty()) << s.warnings.front();
  EXPECT_EQ(s.architecture, "qwen3next");
  EXPECT_EQ(s.file_type, "Q4_K_M");
  EXPECT_EQ(s.file_bytes, std::filesystem::file_size(path));
  ASSERT_TRUE(s.shape);
  EXPECT_EQ(s.tokenizer.token_count, 512u);
  EXPECT_THAT(s.tokenizer.special,
              Contains(std::pair<std::string, uint64_t>("eos_token_id", s.tokenizer.special[1].second)));
  EXPECT_TRUE(s.tokenizer.chat_template);
  EXPECT_EQ(s.parts.size(), 9u);  // all but "other"
  uint64_t bytes = 0, parameters = 0, tensors = 0;
  for (const SizeGroup& part : s.parts) {
    bytes += part.bytes;
    parameters += part.parameter_count;
    tensors += part.tensor_count;
  }
  EXPECT_EQ(bytes, s.tensor_bytes);
  EXPECT_EQ(parameters, s.parameter_count);
  EXPECT_EQ(tensors, s.tensor_count);
  EXPECT_NEAR(s.bits_per_weight, 8 * double(bytes) / double(parameters), 1e-9);
  for (size_t i = 1; i < s.types.size(); ++i) EXPECT_GE(s.types[i - 1].bytes, s.types[i].bytes);
}

TEST(Summary, PartsOfTensors) {
  EXPECT_EQ(tensor_part("blk.3.attn_q.weight", 4), TensorPart::kAttention);
  EXPECT_EQ(tensor_part("blk.4.attn_q.weight", 4), TensorPart::kMtp);
  EXPECT_EQ(tensor_part("blk.0.attn_gate.weight", 4), TensorPart::kDelta);
  EXPECT_EQ(tensor_part("blk.0.ssm_a", 4), TensorPart::kDelta);
  EXPECT_EQ(tensor_part("blk.0.ffn_gate_inp.weight", 4), TensorPart::kRouter);
  EXPECT_EQ(tensor_part("blk.0.ffn_gate_inp_shexp.weight", 4), TensorPart::kSharedExperts);
  EXPECT_EQ(tensor_part("blk.0.ffn_gate_up_exps.weight", 4), TensorPart::kRoutedExperts);
  EXPECT_EQ(tensor_part("output_norm.weight", 4), TensorPart::kNorms);
  EXPECT_EQ(tensor_part("rope_freqs.weight", 4), TensorPart::kOther);
}

TEST(Summary, IncompleteDownload) {
  const TempFolder folder;
  const std::string bytes = gguf::test::slurp(make_synth(folder));
  const std::string cut = folder.write("cut.gguf", std::string_view(bytes).substr(0, bytes.size() / 2));
  const auto file = File::open(cut, {.header_only = true});
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_THAT(summarize(*file).warnings, Contains(HasSubstr("beyond the end of the file")));
}

TEST(Summary, ForeignAndIncompleteModels) {
  const TempFolder folder;
  const auto source = File::open(make_synth(folder));
  ASSERT_TRUE(source);
  // The same model without a tensor, with one too many, and no tokenizer.
  const std::string path = folder.path("odd.gguf");
  {
    gguf::Writer writer(path);
    for (const auto& entry : source->metadata())
      if (!entry.key.starts_with("tokenizer.")) writer.add(entry);
    const std::array<uint64_t, 1> one = {1};
    writer.declare_tensor("surplus", quant::Type::I32, one);
    for (const auto& t : source->tensors())
      if (t.name != "blk.1.ssm_a")
        writer.declare_tensor(t.name, t.type, std::span(t.shape).first(t.dimension_count));
    ASSERT_TRUE(writer.begin());
    ASSERT_TRUE(writer.write_data(std::array<std::byte, 4>{}));
    for (const auto& t : source->tensors())
      if (t.name != "blk.1.ssm_a") {
        ASSERT_TRUE(writer.write_data({t.data, size_t(t.size_bytes)}));
      }
    ASSERT_TRUE(writer.finish());
  }
  const auto odd = File::open(path);
  ASSERT_TRUE(odd) << odd.error().message;
  const FileSummary s = summarize(*odd);
  EXPECT_THAT(s.warnings, Contains("1 tensor missing: blk.1.ssm_a"));
  EXPECT_THAT(s.warnings, Contains("1 tensor that the model does not use: surplus"));
  EXPECT_THAT(s.warnings, Contains("1 tensor of a type that the engine cannot use: surplus"));
  EXPECT_THAT(s.warnings, Contains("there is no tokenizer in the file"));

  gguf::Writer writer(folder.path("llama.gguf"));
  writer.add("general.architecture", "llama");
  ASSERT_TRUE(writer.begin());
  ASSERT_TRUE(writer.finish());
  const auto foreign = File::open(folder.path("llama.gguf"));
  ASSERT_TRUE(foreign);
  EXPECT_THAT(summarize(*foreign).warnings, Contains(HasSubstr("architecture is 'llama'")));
}

}  // namespace
}  // namespace dw
