// The forward pass against the logits of transformers, on the reference device and the CPU.
#include <memory>

#include "backend/cpu_device.h"
#include "golden_models.h"

namespace dw {
namespace {

const std::vector<std::string> kModels = {"base", "equal_heads", "triple_heads", "strong_decay", "experts512",
                               "wide", "legacy",      "merged",       "tied_mtp"};
// Models with fp32, fp16 or bf16 weights: the activations are not quantised there.
bool has_float_weights(const std::string& name) {
  return name != "experts512" && name != "wide";
}

std::unique_ptr<Device> make_device(const std::string& kind) {
  if (kind == "reference") return make_reference_device();
  CpuOptions options;
  options.threads = 2;
  options.level = parse_cpu_level(kind);
  auto device = make_cpu_device(options);
  return device ? std::move(*device) : nullptr;
}

std::vector<std::string> device_kinds() {
  std::vector<std::string> kinds = {"reference"};
  for (CpuLevel level : {CpuLevel::kPortable, CpuLevel::kAvx2, CpuLevel::kAvx512})
    if (level <= detect_cpu_level()) kinds.emplace_back(cpu_level_name(level));
  return kinds;
}

class GoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(GoldenTest, LogitsEqualThoseOfTransformers) {
  const auto& [name, kind] = GetParam();
  const auto device = make_device(kind);
  ASSERT_NE(device, nullptr);
  const Golden golden = load_golden(name, ".f16kv.logits");
  ModelOptions options;
  options.max_batch_tokens = 256;
  GoldenRunner runner(golden, *device, options, int32_t(golden.sequences.size()));
  std::vector<float> got, expected;
  for (size_t s = 0; s < golden.sequences.size(); ++s) {
    const GoldenSequence& sequence = golden.sequences[s];
    const auto logits = runner.run_alone(int32_t(s), sequence.tokens, 256);
    const auto rows = runner.pick_rows(logits, sequence.rows);
    got.insert(got.end(), rows.begin(), rows.end());
    expected.insert(expected.end(), sequence.logits.begin(), sequence.logits.end());
  }
  const double error = nmse(got, expected);
  RecordProperty("nmse", std::to_string(error));
  std::printf("%s on %s: NMSE %.3g\n", name.c_str(), kind.c_str(), error);
  // With quantised weights the CPU's activations are int8: 2^-8 / sqrt(12) of the largest of 32, a few times
  // over.
  EXPECT_LE(error, has_float_weights(name) || kind == "reference" ? 1e-8 : 1e-3);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         testing::Combine(testing::ValuesIn(kModels), testing::ValuesIn(device_kinds())),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" + std::get<1>(test.param);
                         });

class FormTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { device_ = make_device(GetParam()); }
  std::unique_ptr<Device> device_;
};

// However a sequence is cut into passes and however the delta rule runs, the logits are the same but for
// rounding.
TEST_P(FormTest, ChunkedEqualsRecurrentEqualsTokenByToken) {
  for (const char* name : {"base", "strong_decay"}) {
    const Golden golden = load_golden(name, ".f16kv.logits");
    const auto& tokens = golden.sequences.back().tokens;
    std::vector<float> first;
    for (const auto& [chunk, piece] : std::vector<std::pair<int32_t, size_t>>{
             {0, 1}, {0, 256}, {16, 256}, {32, 256}, {64, 256}, {128, 256}, {64, 37}}) {
      ModelOptions options;
      options.max_batch_tokens = 256;
      options.delta_chunk = chunk;
      GoldenRunner runner(golden, *device_, options, 1);
      const auto logits = runner.run_alone(0, tokens, piece);
      if (first.empty()) first = logits;
      EXPECT_LE(nmse(logits, first), 1e-10) << name << ", chunk " << chunk << ", pieces of " << piece;
    }
  }
}

// A batch of several sequences, prompt pieces and single tokens mixed, gives each the bits it has alone.
TEST_P(FormTest, RaggedBatchEqualsEachSequenceAloneBitForBit) {
  for (const char* name : {"base", "experts512", "wide"}) {
    const Golden golden = load_golden(name, ".f16kv.logits");
    ModelOptions options;
    options.max_batch_tokens = 256;
    const int32_t count = int32_t(golden.sequences.size());
    GoldenRunner alone(golden, *device_, options, count), together(golden, *device_, options, count);
    std::vector<std::pair<int32_t, std::vector<int32_t>>> prompts, singles;
    std::vector<float> expected;
    for (int32_t s = 0; s < count; ++s) {
      prompts.push_back({s, golden.sequences[size_t(s)].tokens});
      const auto logits = alone.forward({prompts.back()});
      expected.insert(expected.end(), logits.begin(), logits.end());
    }
    ASSERT_EQ(together.forward(prompts), expected) << name;
    // Then one sequence goes on token by token while the others get longer pieces.
    std::vector<float> expected_next;
    for (int32_t s = 0; s < count; ++s) {
      std::vector<int32_t> piece(s == 0 ? 1 : size_t(3 * s + 9), golden.sequences[size_t(s)].next);
      singles.push_back({s, piece});
      const auto logits = alone.forward({singles.back()});
      expected_next.insert(expected_next.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(together.forward(singles), expected_next) << name;
  }
}

TEST_P(FormTest, SnapshotAndRestoreAreExact) {
  const Golden golden = load_golden("base", ".f16kv.logits");
  const auto& tokens = golden.sequences.back().tokens;
  GoldenRunner runner(golden, *device_, {}, 2);
  runner.forward({{1, tokens}});
  std::vector<std::byte> saved(runner.state().snapshot_bytes());
  runner.state().save_slot(1, saved.data());
  const int32_t position = runner.position(1);
  const std::vector<int32_t> next = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
  const auto expected = runner.forward({{1, next}});
  runner.forward({{0, tokens}});  // another sequence must not matter
  runner.state().load_slot(1, saved.data());
  runner.set_position(1, position);
  EXPECT_EQ(runner.forward({{1, next}}), expected);
  runner.state().copy_slot(1, 0);
  std::vector<std::byte> a(saved.size()), b(saved.size());
  runner.state().save_slot(0, a.data());
  runner.state().save_slot(1, b.data());
  EXPECT_EQ(a, b);
}

TEST_P(FormTest, ThreadCountDoesNotChangeABit) {
  if (GetParam() == "reference") return;  // one thread by definition
  const Golden golden = load_golden("experts512", ".f16kv.logits");
  const auto& tokens = golden.sequences.back().tokens;
  std::vector<float> first;
  for (int threads : {1, 2, 5}) {
    CpuOptions options;
    options.threads = threads;
    options.level = parse_cpu_level(GetParam());
    auto device = make_cpu_device(options);
    ASSERT_TRUE(device.has_value());
    GoldenRunner runner(golden, **device, {}, 1);
    auto logits = runner.forward({{0, tokens}});
    const auto more = runner.run_alone(0, {1, 2, 3}, 1);
    logits.insert(logits.end(), more.begin(), more.end());
    if (first.empty()) first = logits;
    EXPECT_EQ(logits, first) << threads << " threads";
  }
}

TEST_P(FormTest, MtpLogitsEqualThoseOfTransformers) {
  const Golden golden = load_golden("tied_mtp", ".mtp.logits");
  ModelOptions options;
  options.max_batch_tokens = 256;
  GoldenRunner runner(golden, *device_, options, int32_t(golden.sequences.size()));
  ASSERT_TRUE(runner.model().has_mtp());
  for (size_t s = 0; s < golden.sequences.size(); ++s) {
    const GoldenSequence& sequence = golden.sequences[s];
    std::vector<int32_t> next(sequence.tokens.begin() + 1, sequence.tokens.end());
    next.push_back(sequence.next);
    const Batch batch = runner.make_batch({{int32_t(s), sequence.tokens}});
    runner.forward({{int32_t(s), sequence.tokens}});
    std::vector<float> logits;
    runner.model().forward_mtp(batch, next, runner.state(), [&](size_t, std::span<float> row) {
      logits.insert(logits.end(), row.begin(), row.end());
    });
    EXPECT_LE(nmse(runner.pick_rows(logits, sequence.rows), sequence.logits), 1e-8);
  }
}

TEST_P(FormTest, QuantisedKvCacheStaysNear) {
  const Golden golden = load_golden("base", ".f16kv.logits");
  const GoldenSequence& sequence = golden.sequences.back();
  GoldenRunner runner(golden, *device_, {}, 1, ops::KvType::kQ8_0);
  const auto logits = runner.run_alone(0, sequence.tokens, 256);
  const double error = nmse(runner.pick_rows(logits, sequence.rows), sequence.logits);
  EXPECT_LE(error, 1e-4);
  EXPECT_GT(error, 0);
}

INSTANTIATE_TEST_SUITE_P(All, FormTest, testing::ValuesIn(device_kinds()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace dw
