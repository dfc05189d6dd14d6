// The model against transformers, on every device.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "backend/cpu_device.h"
#include "model/golden.h"

namespace dw {
namespace {

using test::golden_logits;
using test::golden_path;
using test::golden_sequences;
using test::GoldenRun;
using test::nmse;

// With keys and values in fp32 every cut and chunk agrees to this.
constexpr double kChunkBound = 1e-10;
constexpr double kBound = 1e-8;

std::unique_ptr<Device> make_device(const std::string& name) {
  if (name == "reference") return make_reference_device();
  CpuOptions options;
  options.threads = 2;
  options.level = parse_cpu_level(name);
  Expected<std::unique_ptr<Device>> device = make_cpu_device(options);
  if (!device) throw std::runtime_error(device.error().message);
  return std::move(*device);
}

// The reference and every level of the CPU that this processor has.
std::vector<std::string> devices() {
  std::vector<std::string> names = {"reference"};
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512}) {
    if (level <= detect_cpu_level()) names.emplace_back(cpu_level_name(level));
  }
  return names;
}

// A folder that disappears with the test.
struct TemporaryFolder {
  std::filesystem::path path;
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dw-golden-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
};

// The golden's file, or a copy with quantised weights turned into F32: what the logits were computed with.
std::string unquantised(const std::string& name, const TemporaryFolder& folder) {
  if (name != "experts512" && name != "wide") return golden_path(name + ".gguf");
  const std::string path = folder.path / (name + ".gguf");
  if (!std::filesystem::exists(path))
    test::rewrite_golden(golden_path(name + ".gguf"), path, quant::Type::F32);
  return path;
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, LogitsAreThoseOfTransformers) {
  const TemporaryFolder folder;
  const std::vector<float> rounded = golden_logits(GetParam() + ".f16kv.logits");
  const std::vector<float> exact = golden_logits(GetParam() + ".logits");
  for (const std::string& name : devices()) {
    const std::unique_ptr<Device> device = make_device(name);
    GoldenRun run(*device, unquantised(GetParam(), folder), golden_sequences(GetParam()));
    const std::vector<float> logits = run.run();
    const double error = nmse(logits, rounded);
    EXPECT_LE(error, kBound) << name;
    EXPECT_LE(nmse(logits, exact), 1e-7) << name;  // f16 keys and values included
    RecordProperty("nmse_" + name, std::to_string(error));
    std::printf("%-12s %-10s NMSE %.1e (to exact keys and values %.1e)\n", GetParam().c_str(), name.c_str(),
                error, nmse(logits, exact));
  }
}

TEST_P(Golden, FetchingExpertsChangesNoBit) {
  const TemporaryFolder folder;
  const std::string path = unquantised(GetParam(), folder);
  const std::unique_ptr<Device> plain = make_device("portable"), fetching = make_device("portable");
  fetching->expect_absent_experts();
  GoldenRun expected(*plain, path, golden_sequences(GetParam()));
  GoldenRun run(*fetching, path, golden_sequences(GetParam()));
  load_dense_weights(*run.file, ~uint64_t(0));
  EXPECT_EQ(run.run(), expected.run());
}

TEST_P(Golden, EveryCutAndChunkGivesTheSame) {
  const TemporaryFolder folder;
  const std::string path = unquantised(GetParam(), folder);
  std::vector<test::GoldenSequence> sequences = golden_sequences(GetParam());
  std::erase_if(sequences, [](const auto& s) { return s.tokens.size() > 200; });  // keeps the test short
  ASSERT_FALSE(sequences.empty());
  for (const std::string& name : devices()) {
    const std::unique_ptr<Device> device = make_device(name);
    ModelOptions recurrent;
    recurrent.delta_chunk = 0;
    const auto run = [&](const ModelOptions& options, int32_t piece) {
      return GoldenRun(*device, path, sequences, options, ops::KvType::kF32).run(piece);
    };
    const std::vector<float> exact = run(recurrent, 0);
    for (int32_t piece : {1, 7, 64}) {
      // Few rows and many rows of attention run different code: the last bits may differ.
      EXPECT_LE(nmse(run(recurrent, piece), exact), name == "reference" ? 0 : kChunkBound)
          << name << ", pieces of " << piece;
    }
    for (int32_t chunk : {16, 32, 64, 128}) {
      ModelOptions chunked;
      chunked.delta_chunk = chunk;
      EXPECT_LE(nmse(run(chunked, 0), exact), kChunkBound) << name << ", chunks of " << chunk;
    }
  }
}

TEST_P(Golden, BatchEqualsEachSequenceAloneBitForBit) {
  for (const std::string& name : devices()) {
    const std::unique_ptr<Device> device = make_device(name);
    const std::string path = golden_path(GetParam() + ".gguf");
    const std::vector<float> together = GoldenRun(*device, path, golden_sequences(GetParam())).run();
    std::vector<float> alone;
    for (const test::GoldenSequence& sequence : golden_sequences(GetParam())) {
      const std::vector<float> logits = GoldenRun(*device, path, {sequence}).run();
      alone.insert(alone.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(together, alone) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden,
                         testing::Values("base", "equal_heads", "triple_heads", "strong_decay", "experts512",
                                         "wide", "legacy", "merged", "tied_mtp"),
                         [](const auto& test) { return test.param; });

TEST(GoldenMtp, DraftsAreThoseOfTheHead) {
  const std::vector<float> expected = golden_logits("tied_mtp.mtp.logits");
  for (const std::string& name : devices()) {
    const std::unique_ptr<Device> device = make_device(name);
    for (int32_t piece : {0, 1, 5}) {
      std::vector<float> drafts;
      GoldenRun(*device, golden_path("tied_mtp.gguf"), golden_sequences("tied_mtp")).run(piece, &drafts);
      EXPECT_LE(nmse(drafts, expected), kBound) << name << ", pieces of " << piece;
    }
  }
}

TEST(GoldenSnapshot, RestoredStateContinuesBitForBit) {
  for (const std::string& name : devices()) {
    const std::unique_ptr<Device> device = make_device(name);
    test::GoldenSequence sequence = golden_sequences("base")[2];
    GoldenRun run(*device, golden_path("base.gguf"), {sequence});
    std::vector<std::vector<float>> first(1), again(1);
    run.step({17}, first);
    std::vector<std::byte> snapshot(run.state->snapshot_bytes());
    run.state->save_slot(0, snapshot.data());
    first[0].clear();
    run.step({int32_t(sequence.tokens.size()) - 17}, first);
    run.state->load_slot(0, snapshot.data());
    run.done[0] = 17;
    run.step({int32_t(sequence.tokens.size()) - 17}, again);
    EXPECT_FALSE(first[0].empty());
    EXPECT_EQ(first, again) << name;
  }
}

// With quantised weights the CPU also rounds activations to int8; that must add little to the error that the
// weights' own rounding makes (the reference runs the dequantised weights).
TEST(GoldenQuantised, ErrorIsThatOfTheWeights) {
  const TemporaryFolder folder;
  const std::vector<float> expected = golden_logits("wide.f16kv.logits");
  for (const quant::TypeInfo& info : quant::all_types()) {
    if (info.block_size == 1 || info.quantize == nullptr || info.dequantize == nullptr) continue;
    const quant::Type type = info.type;
    // The golden's own weights are Q4_0: these two round none of them (tests/kernels measures them).
    if (type == quant::Type::Q4_0 || type == quant::Type::Q5_0) continue;
    const std::string path = folder.path / (std::string(info.name) + ".gguf");
    test::rewrite_golden(golden_path("wide.gguf"), path, type);
    const std::unique_ptr<Device> reference = make_device("reference");
    const double of_weights = nmse(GoldenRun(*reference, path, golden_sequences("wide")).run(), expected);
    for (const std::string& name : devices()) {
      const std::unique_ptr<Device> device = make_device(name);
      const double error = nmse(GoldenRun(*device, path, golden_sequences("wide")).run(), expected);
      std::printf("%s %-10s NMSE %.2e, of the weights alone %.2e, ratio %.3f\n", info.name.data(),
                  name.c_str(), error, of_weights, error / of_weights);
      EXPECT_LE(error, 1.1 * of_weights) << info.name << " " << name;
    }
  }
}

TEST(GoldenKvCache, EightBitKeysAndValuesStayClose) {
  for (const std::string& name : devices()) {
    const std::unique_ptr<Device> device = make_device(name);
    GoldenRun run(*device, golden_path("base.gguf"), golden_sequences("base"), {}, ops::KvType::kQ8_0);
    EXPECT_LE(nmse(run.run(), golden_logits("base.logits")), 1e-3) << name;
  }
}

}  // namespace
}  // namespace dw
