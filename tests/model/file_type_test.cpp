// The type mixes against the files that llama-quantize makes of the published 80B model (per-type tensor
// counts and total bytes), and the rules around them.
#include "model/file_type.h"

#include <gtest/gtest.h>

#include <map>

#include "model/synth.h"
#include "model/tensor_list.h"

namespace dw {
namespace {

using quant::Type;

struct Mix {
  std::vector<MixTensor> tensors;
  std::vector<TypeChoice> choices;

  Type of(const std::string& name) const {
    for (size_t i = 0; i < tensors.size(); ++i)
      if (tensors[i].name == name) return choices[i].type;
    ADD_FAILURE() << "no tensor " << name;
    return Type::I8;
  }
  int count(const std::string& suffix, Type type) const {
    int found = 0;
    for (size_t i = 0; i < tensors.size(); ++i)
      found += tensors[i].name.ends_with(suffix) && choices[i].type == type;
    return found;
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto& s = tensors[i].shape;
      sum += quant::row_bytes(choices[i].type, s[0]) * s[1] * s[2] * s[3];
    }
    return sum;
  }
};

Mix mix_of(const HyperParameters& h, std::string_view type, MixOptions options = {}, bool tied = false) {
  Mix mix;
  for (const TensorSpec& spec : tensor_list(h, tied))
    mix.tensors.push_back({spec.name, spec.shape, Type::F32});
  options.file_type = *find_file_type(type);
  options.block_count = uint32_t(h.layer_count() + h.mtp_layers);
  options.expert_count = uint32_t(h.expert_count);
  options.head_group = uint32_t(h.heads / h.kv_heads);
  mix.choices = choose_types(mix.tensors, options);
  return mix;
}

HyperParameters shape(std::string_view preset) {
  return *find_synth_preset(preset);
}

TEST(FileType, Published80bInQ4KM) {
  const Mix mix = mix_of(shape("80b"), "Q4_K_M");
  EXPECT_EQ(mix.tensors.size(), 843u);
  EXPECT_EQ(mix.bytes(), 48483058688u);
  EXPECT_EQ(mix.of("token_embd.weight"), Type::Q4_K);
  EXPECT_EQ(mix.of("output.weight"), Type::Q6_K);
  EXPECT_EQ(mix.count("attn_qkv.weight", Type::Q6_K), 18);
  EXPECT_EQ(mix.count("attn_qkv.weight", Type::Q4_K), 18);
  EXPECT_EQ(mix.count("attn_v.weight", Type::Q6_K), 6);
  EXPECT_EQ(mix.count("ffn_down_exps.weight", Type::Q6_K), 24);
  EXPECT_EQ(mix.count("ffn_down_shexp.weight", Type::Q6_K), 24);
  EXPECT_EQ(mix.count("ssm_ba.weight", Type::Q4_K), 36);
  EXPECT_EQ(mix.count("ffn_gate_inp.weight", Type::F32), 48);
  EXPECT_EQ(mix.count("ssm_conv1d.weight", Type::F32), 36);
  for (int layer = 0; layer < 48; ++layer) {
    const bool more = layer < 6 || layer >= 42 || (layer - 6) % 3 == 2;
    EXPECT_EQ(mix.of("blk." + std::to_string(layer) + ".ffn_down_exps.weight"),
              more ? Type::Q6_K : Type::Q4_K);
  }
}

TEST(FileType, Published80bInQ2K) {
  const Mix mix = mix_of(shape("80b"), "Q2_K");
  EXPECT_EQ(mix.bytes(), 29263680512u);
  EXPECT_EQ(mix.of("token_embd.weight"), Type::Q2_K);
  EXPECT_EQ(mix.of("output.weight"), Type::Q6_K);
  EXPECT_EQ(mix.count("attn_qkv.weight", Type::Q4_K), 36);
  EXPECT_EQ(mix.count("attn_v.weight", Type::Q4_K), 12);
  EXPECT_EQ(mix.count("attn_output.weight", Type::Q3_K), 12);
  EXPECT_EQ(mix.count("attn_k.weight", Type::Q2_K), 12);
  EXPECT_EQ(mix.count("ffn_down_exps.weight", Type::Q3_K), 48);
  EXPECT_EQ(mix.count("ffn_down_shexp.weight", Type::Q3_K), 48);
  EXPECT_EQ(mix.count("ffn_up_exps.weight", Type::Q2_K), 48);
}

TEST(FileType, TiedEmbeddingsGetTheOutputsType) {
  EXPECT_EQ(mix_of(shape("tiny"), "Q4_K_M", {}, true).of("token_embd.weight"), Type::Q6_K);
  EXPECT_EQ(mix_of(shape("tiny"), "Q4_K_M", {}, false).of("token_embd.weight"), Type::Q4_K);
}

TEST(FileType, ShortRowsFallBack) {
  HyperParameters h = shape("tiny");
  h.hidden = 288;  // 9 x 32
  const Mix mix = mix_of(h, "Q4_K_M");
  EXPECT_EQ(mix.of("blk.0.ffn_gate_exps.weight"), Type::Q5_0);
  EXPECT_EQ(mix.of("blk.0.ffn_down_exps.weight"), Type::Q4_K);  // rows of 256
  EXPECT_EQ(mix.of("output.weight"), Type::Q8_0);
  for (size_t i = 0; i < mix.tensors.size(); ++i) {
    EXPECT_EQ(mix.tensors[i].shape[0] % quant::type_info(mix.choices[i].type).block_size, 0u);
    if (mix.tensors[i].name == "blk.0.ffn_gate_exps.weight") {
      EXPECT_EQ(mix.choices[i].note,
                "rows of 288 elements do not divide into the 256 of a block of Q4_K; Q5_0 taken");
    }
  }
}

TEST(FileType, MxfpForExperts) {
  const Mix mix = mix_of(shape("tiny"), "MXFP4");
  EXPECT_EQ(mix.of("blk.0.ffn_gate_exps.weight"), Type::MXFP4);
  EXPECT_EQ(mix.of("blk.0.ffn_gate_shexp.weight"), Type::Q8_0);
  EXPECT_EQ(mix.of("token_embd.weight"), Type::Q8_0);
}

TEST(FileType, PureAndOverrides) {
  MixOptions pure;
  pure.pure = true;
  const Mix plain = mix_of(shape("tiny"), "Q4_K_M", pure);
  EXPECT_EQ(plain.of("output.weight"), Type::Q4_K);
  EXPECT_EQ(plain.of("blk.0.ffn_down_exps.weight"), Type::Q4_K);
  EXPECT_EQ(plain.of("output_norm.weight"), Type::F32);
  MixOptions options;
  options.overrides.push_back(*parse_type_override("blk\\.[01]\\.ffn_down_exps=Q8_0"));
  options.overrides.push_back(*parse_type_override("ffn_down=q5_k"));
  const Mix mix = mix_of(shape("tiny"), "Q4_K_M", options);
  EXPECT_EQ(mix.of("blk.1.ffn_down_exps.weight"), Type::Q8_0);
  EXPECT_EQ(mix.of("blk.2.ffn_down_exps.weight"), Type::Q5_K);
}

TEST(FileType, OverridesAreChecked) {
  EXPECT_NE(parse_type_override("ffn_down").error().message.find("is not PATTERN=TYPE"), std::string::npos);
  EXPECT_NE(parse_type_override("ffn_down=Q9").error().message.find("'Q9' is unknown"), std::string::npos);
  EXPECT_NE(parse_type_override("(=Q8_0").error().message.find("not a regular expression"),
            std::string::npos);
}

TEST(FileType, NamesAndNumbers) {
  for (const FileType& type : all_file_types()) {
    EXPECT_EQ(find_file_type(type.name), &type);
    EXPECT_EQ(find_file_type(uint64_t(type.id)), &type);
  }
  EXPECT_EQ(find_file_type("q4_k_m")->id, FileTypeId::kQ4_K_M);
  EXPECT_EQ(find_file_type("Q4_K_X"), nullptr);
  EXPECT_EQ(find_file_type(uint64_t(999)), nullptr);
}

}  // namespace
}  // namespace dw
