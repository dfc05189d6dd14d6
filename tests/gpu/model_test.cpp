// Whole models on the GPU: goldens of transformers, decode steps replayed as graphs, batches.
#include <filesystem>

#include "gpu/support.h"
#include "model/golden.h"

namespace dw {
namespace {

using test::golden_logits;
using test::golden_path;
using test::golden_sequences;
using test::GoldenRun;
using test::gpu;

// fp32 all the way (token by token, weights F32) and through the tensor cores' 16-bit operands.
constexpr double kExactBound = 1e-8;
constexpr double kTensorBound = 1e-5;

struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dw-gpu-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

std::string unquantised(const std::string& name, const TemporaryFolder& folder) {
  if (name != "experts512" && name != "wide") return golden_path(name + ".gguf");
  const std::string path = folder.path / (name + ".gguf");
  test::rewrite_golden(golden_path(name + ".gguf"), path, quant::Type::F32);
  return path;
}

class GpuGolden : public testing::TestWithParam<std::string> {};

TEST_P(GpuGolden, LogitsAreThoseOfTransformers) {
  const TemporaryFolder folder;
  const std::string path = unquantised(GetParam(), folder);
  const std::vector<float> rounded = golden_logits(GetParam() + ".f16kv.logits");
  const double whole = test::nmse(GoldenRun(*gpu(), path, golden_sequences(GetParam())).run(), rounded);
  const double pieces = test::nmse(GoldenRun(*gpu(), path, golden_sequences(GetParam())).run(1), rounded);
  const double cut = test::nmse(GoldenRun(*gpu(), path, golden_sequences(GetParam())).run(37), rounded);
  std::printf("%-12s NMSE whole %.1e, cut %.1e, token by token %.1e\n", GetParam().c_str(), whole, cut,
              pieces);
  EXPECT_LE(whole, kTensorBound);
  EXPECT_LE(cut, kTensorBound);
  EXPECT_LE(pieces, kExactBound);
}

// Decode steps of a batch, replayed as graphs, against each sequence alone without graphs.
TEST_P(GpuGolden, GraphsAndBatchesChangeNothing) {
  const std::string path = golden_path(GetParam() + ".gguf");
  const std::vector<float> together = GoldenRun(*gpu(), path, golden_sequences(GetParam())).run(1);
  GpuOptions options;
  options.graphs = false;
  const auto plain = make_gpu_device(options);
  ASSERT_TRUE(plain);
  std::vector<float> alone;
  for (const test::GoldenSequence& sequence : golden_sequences(GetParam())) {
    const std::vector<float> logits = GoldenRun(**plain, path, {sequence}).run(1);
    alone.insert(alone.end(), logits.begin(), logits.end());
  }
  EXPECT_LE(test::nmse(together, alone), 1e-11);
}

INSTANTIATE_TEST_SUITE_P(Models, GpuGolden,
                         testing::Values("base", "equal_heads", "triple_heads", "strong_decay", "experts512",
                                         "wide", "legacy", "merged", "tied_mtp"),
                         [](const auto& test) { return test.param; });

TEST(GpuGoldenMtp, DraftsAreThoseOfTheHead) {
  const std::vector<float> expected = golden_logits("tied_mtp.mtp.logits");
  for (int32_t piece : {0, 1, 5}) {
    std::vector<float> drafts;
    GoldenRun(*gpu(), golden_path("tied_mtp.gguf"), golden_sequences("tied_mtp")).run(piece, &drafts);
    EXPECT_LE(test::nmse(drafts, expected), piece == 1 ? kExactBound : kTensorBound) << piece;
  }
}

}  // namespace
}  // namespace dw
