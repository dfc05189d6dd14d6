// Synthetic files: complete, sane and the same for every number of threads.
#include "model/synth.h"

#include <cmath>
#include <set>

#include "gguf/gguf_test_util.h"
#include "model/random_blocks.h"
#include "model/synth_vocabulary.h"
#include "model/tensor_list.h"

namespace dw {
namespace {

using gguf::File;
using gguf::test::TempFolder;

SynthOptions tiny(const std::string& types) {
  SynthOptions options;
  options.shape = *find_synth_preset("tiny");
  options.types = types;
  options.threads = 2;
  return options;
}

TEST(Synth, EveryFileTypeOpensAndIsComplete) {
  const TempFolder folder;
  const std::string path = folder.path("m.gguf");
  for (const FileType& type : all_file_types()) {
    SynthOptions options = tiny(std::string(type.name));
    options.shape.mtp_layers = 1;
    const auto report = synthesize(path, options);
    ASSERT_TRUE(report) << type.name << ": " << report.error().message;
    EXPECT_EQ(report->file_bytes, std::filesystem::file_size(path));
    const auto file = File::open(path);
    ASSERT_TRUE(file) << file.error().message;
    const auto h = read_hyper_parameters(*file);
    ASSERT_TRUE(h) << h.error().message;
    EXPECT_EQ(h->recurrent, options.shape.recurrent);
    EXPECT_EQ(h->mtp_layers, 1);
    EXPECT_EQ(h->v_dim, 128);
    const std::vector<TensorSpec> list = tensor_list(*h, false);
    EXPECT_EQ(file->tensors().size(), list.size());
    for (const TensorSpec& spec : list) {
      const gguf::TensorInfo* tensor = file->find_tensor(spec.name);
      ASSERT_NE(tensor, nullptr) << spec.name;
      EXPECT_EQ(tensor->shape, spec.shape) << spec.name;
    }
  }
}

TEST(Synth, DependsOnTheSeedAndNotOnThreads) {
  const TempFolder folder;
  const auto bytes = [&](uint64_t seed, int threads) {
    SynthOptions options = tiny("Q4_K_M");
    options.seed = seed;
    options.threads = threads;
    EXPECT_TRUE(synthesize(folder.path("m.gguf"), options));
    return gguf::test::slurp(folder.path("m.gguf"));
  };
  const std::string one = bytes(1, 1);
  EXPECT_TRUE(one == bytes(1, 3));
  EXPECT_FALSE(one == bytes(2, 1));
}

TEST(Synth, ChoosesTheMixNearestToASize) {
  const TempFolder folder;
  const auto report = synthesize(folder.path("m.gguf"), tiny("4.5bit"));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_NEAR(report->bits_per_weight, 4.5, 0.2);
}

TEST(Synth, TakesTheVocabularyOfAnotherFile) {
  const TempFolder folder;
  SynthOptions donor = tiny("F16");
  donor.shape.vocabulary = 700;
  ASSERT_TRUE(synthesize(folder.path("donor.gguf"), donor));
  const auto file = File::open(folder.path("donor.gguf"));
  ASSERT_TRUE(file);
  SynthOptions options = tiny("Q8_0");
  options.vocabulary = &*file;
  ASSERT_TRUE(synthesize(folder.path("m.gguf"), options));
  const auto result = File::open(folder.path("m.gguf"));
  ASSERT_TRUE(result);
  EXPECT_EQ(*result->get_strings("tokenizer.ggml.tokens"), *file->get_strings("tokenizer.ggml.tokens"));
  EXPECT_EQ(result->find_tensor("token_embd.weight")->shape[1], 700u);
}

TEST(Synth, ErrorsNameWhatIsWrong) {
  const TempFolder folder;
  const auto expect_error = [&](const SynthOptions& options, const std::string& piece) {
    const auto report = synthesize(folder.path("m.gguf"), options);
    ASSERT_FALSE(report) << piece;
    EXPECT_NE(report.error().message.find(piece), std::string::npos) << report.error().message;
    EXPECT_TRUE(folder.names().empty());
  };
  expect_error(tiny("Q9_Z"), "the type 'Q9_Z' is unknown");
  SynthOptions options = tiny("F16");
  options.shape.hidden = 100;
  expect_error(options, "the hidden size is 100");
  options = tiny("F16");
  options.shape.top_k = 99;
  expect_error(options, "99 active experts of 16");
  options = tiny("F16");
  options.shape.vocabulary = 10;
  expect_error(options, "a vocabulary of 10 tokens is too small");
  EXPECT_NE(find_synth_preset("huge").error().message.find("80b, coder-next, mini, tiny"), std::string::npos);
  options = tiny("F16");
  options.interrupted = [] { return true; };
  expect_error(options, "interrupted");
}

TEST(RandomBlocks, HaveTheDeviationAskedForInEveryType) {
  for (const quant::TypeInfo& info : quant::all_types()) {
    if (info.dequantize == nullptr) continue;
    for (const float deviation : {1.f, 0.022f}) {
      const RandomBlocks blocks(info.type, deviation, 7);
      std::vector<float> values(256 * 1000);
      std::vector<std::byte> bytes(quant::row_bytes(info.type, values.size()));
      blocks.fill(bytes, 11);
      info.dequantize(bytes.data(), values.data(), int64_t(values.size()));
      double sum = 0, squares = 0;
      for (const float value : values) {
        ASSERT_TRUE(std::isfinite(value)) << info.name;
        sum += value;
        squares += double(value) * value;
      }
      const double mean = sum / double(values.size());
      EXPECT_NEAR(mean / deviation, 0, 0.02) << info.name;
      EXPECT_NEAR(std::sqrt(squares / double(values.size())) / deviation, 1, 0.1) << info.name;
    }
  }
}

TEST(SynthVocabulary, IsWellFormed) {
  for (const int32_t size : {300, 512, 5000}) {
    const auto vocabulary = make_synth_vocabulary(size);
    ASSERT_TRUE(vocabulary);
    ASSERT_EQ(vocabulary->tokens.size(), size_t(size));
    ASSERT_EQ(vocabulary->token_types.size(), size_t(size));
    const std::set<std::string> tokens(vocabulary->tokens.begin(), vocabulary->tokens.end());
    EXPECT_EQ(tokens.size(), size_t(size));
    EXPECT_EQ(vocabulary->tokens[vocabulary->end_of_text], "<|endoftext|>");
    EXPECT_EQ(vocabulary->tokens[vocabulary->message_end], "<|im_end|>");
    for (const std::string& merge : vocabulary->merges) {
      const size_t space = merge.find(' ');
      ASSERT_NE(space, std::string::npos);
      EXPECT_TRUE(tokens.count(merge.substr(0, space)) && tokens.count(merge.substr(space + 1)));
      EXPECT_TRUE(tokens.count(merge.substr(0, space) + merge.substr(space + 1))) << merge;
    }
  }
}

}  // namespace
}  // namespace dw
