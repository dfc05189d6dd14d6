// The hyper-parameters of a file: what is read, and the sentence for each key that is absent or wrong.
#include "model/hparams.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <functional>

#include "gguf/writer.h"
#include "golden.h"

namespace dw {
namespace {

using testing::HasSubstr;

// The golden model `base` with the keys of `skip` left out and more added by `add`.
Expected<HyperParameters> read_changed(const std::vector<std::string>& skip,
                                       const std::function<void(gguf::Writer&)>& add = {}) {
  const std::string path = testing::TempDir() + "hparams-" + std::to_string(::getpid()) + ".gguf";
  auto base = gguf::File::open(test::golden_path("base.gguf"));
  EXPECT_TRUE(base.has_value());
  gguf::Writer writer(path);
  for (const auto& entry : base->metadata())
    if (std::find(skip.begin(), skip.end(), entry.key) == skip.end()) writer.add(entry);
  if (add) add(writer);
  for (const auto& t : base->tensors())
    writer.declare_tensor(t.name, t.type, std::span(t.shape.data(), t.dimension_count));
  EXPECT_TRUE(writer.begin().has_value());
  for (const auto& t : base->tensors())
    EXPECT_TRUE(writer.write_data({t.data, size_t(t.size_bytes)}).has_value());
  EXPECT_TRUE(writer.finish().has_value());
  auto changed = gguf::File::open(path);
  std::remove(path.c_str());
  EXPECT_TRUE(changed.has_value()) << (changed ? "" : changed.error().message);
  return read_hyper_parameters(*changed);
}

TEST(HyperParameters, ReadsTheGoldenModel) {
  const auto h = read_changed({});
  ASSERT_TRUE(h.has_value()) << h.error().message;
  EXPECT_EQ(h->layer_count(), 4);
  EXPECT_EQ(h->recurrent_layer_count(), 3);
  EXPECT_EQ(h->v_heads, 2 * h->k_heads);
  EXPECT_EQ(h->expert_count, 6);
  EXPECT_EQ(h->top_k, 3);
  EXPECT_TRUE(h->normalise_experts);
}

TEST(HyperParameters, EachRequiredKeyIsNamedWhenAbsent) {
  for (const char* key :
       {"general.architecture", "qwen3next.block_count", "qwen3next.embedding_length",
        "qwen3next.context_length", "qwen3next.attention.head_count", "qwen3next.attention.key_length",
        "qwen3next.ssm.conv_kernel", "qwen3next.ssm.state_size", "qwen3next.ssm.group_count",
        "qwen3next.ssm.time_step_rank", "qwen3next.ssm.inner_size", "qwen3next.expert_count",
        "qwen3next.expert_used_count"}) {
    const auto h = read_changed({key});
    ASSERT_FALSE(h.has_value()) << key;
    EXPECT_THAT(h.error().message, HasSubstr(key));
  }
}

TEST(HyperParameters, WrongValuesAreNamed) {
  struct Case {
    const char* key;
    uint32_t value;
    const char* says;
  };
  for (const Case& c : {Case{"qwen3next.expert_used_count", 7, "expert_used_count"},
                        Case{"qwen3next.attention.key_length", 40, "key_length"},
                        Case{"qwen3next.ssm.time_step_rank", 3, "time_step_rank"},
                        Case{"qwen3next.block_count", 0, "block_count"},
                        Case{"qwen3next.rope.dimension_count", 9999, "rope.dimension_count"}}) {
    const auto h = read_changed({c.key}, [&](gguf::Writer& writer) { writer.add(c.key, c.value); });
    ASSERT_FALSE(h.has_value()) << c.key;
    EXPECT_THAT(h.error().message, HasSubstr(c.says));
  }
  const auto scaled = read_changed({}, [](gguf::Writer& w) { w.add("qwen3next.rope.scaling.type", "yarn"); });
  ASSERT_FALSE(scaled.has_value());
  EXPECT_THAT(scaled.error().message, HasSubstr("yarn"));
}

TEST(HyperParameters, OptionalKeysAreTaken) {
  const auto plain = read_changed({}, [](gguf::Writer& w) { w.add("qwen3next.expert_weights_norm", false); });
  ASSERT_TRUE(plain.has_value()) << plain.error().message;
  EXPECT_FALSE(plain->normalise_experts);
  const auto wrong = read_changed({}, [](gguf::Writer& w) { w.add("qwen3next.expert_weights_norm", "yes"); });
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, HasSubstr("expert_weights_norm"));
}

}  // namespace
}  // namespace dw
