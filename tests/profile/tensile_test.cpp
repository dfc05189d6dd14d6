#include "profile/names/tensile.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace dw::profile {
namespace {

// Name 1 and its reading follow from Tensile's naming code; the numbers stand in the name.
constexpr const char* kSource =
    "Cijk_Alik_Bljk_SB_MT16x16x8_SN_APM1_AF0EM1_AMAS2_ASEM1_BL0_EPS0_FL0_GLVWA2_GLVWB2_GRVW2_GSU1_GSUASB_"
    "ISA000_IU1_K1_KLS_LPA0_LPB0_LDL1_LRVW2_MDA2_MMFSC_NLCA1_NLCB1_PGR1_PLR1_SNLL0_TT2_2_USFGRO0_VAW1_VS1_"
    "VW2_VWB2_WG8_8_1_WGM1";

TensileName parsed(std::string_view text) {
  auto name = parse_tensile(text);
  EXPECT_TRUE(name.has_value()) << text;
  return name ? *name : TensileName();
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void expect_known_and_equal(const std::string& text) {
  const TensileName name = parsed(text);
  EXPECT_EQ(to_string(name), text);
  EXPECT_TRUE(name.has_tile) << text;
  EXPECT_FALSE(name.input_type.empty()) << text;
  EXPECT_NE(name.a_transposed(), '?') << text;
  for (const TensilePart& part : name.parameters)
    EXPECT_FALSE(part.full_name.empty()) << part.key << " of " << text;
  for (const TensilePart& part : name.problem)
    EXPECT_FALSE(part.full_name.empty()) << part.key << " of " << text;
}

TEST(Tensile, RebuildsCommittedNamesAndKnowsTheirParameters) {
  const auto names = lines_of(DW_TEST_DATA "/profile/tensile_names.txt");
  EXPECT_GE(names.size(), 20u);
  for (const std::string& name : names) expect_known_and_equal(name);
}

TEST(Tensile, RebuildsTheWholeListWhereItIsAtHand) {
  const std::filesystem::path path =
      std::filesystem::path(DW_SOURCE_DIR) / "../shared/data/tensile_names.txt";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "no ../shared/data/tensile_names.txt beside the repository";
  int count = 0, source = 0;
  for (const std::string& line : lines_of(path)) {
    const size_t language = line.find('\t'), name = line.find('\t', language + 1);
    ASSERT_NE(name, std::string::npos) << line;
    const std::string text = line.substr(name + 1);
    expect_known_and_equal(text);
    const TensileName tensile = parsed(text);
    EXPECT_EQ(tensile.is_source(), line.substr(language + 1, 6) == "Source") << line;
    EXPECT_EQ(tensile.fallback_evidence() == FallbackEvidence::kLibrary, line.starts_with("hip_")) << line;
    source += tensile.is_source() ? 1 : 0;
    ++count;
  }
  EXPECT_EQ(count, 1414);
  EXPECT_EQ(source, 202);
}

TEST(Tensile, ReadsProblemTileAndParameters) {
  const TensileName name = parsed(kSource);
  EXPECT_EQ(name.a_transposed(), 'T');
  EXPECT_EQ(name.b_transposed(), 'N');
  EXPECT_EQ(name.input_type, "f32");
  EXPECT_EQ(name.compute_type, "f32");
  EXPECT_TRUE(name.has_beta);  // SB is single + beta, not strided batched
  EXPECT_FALSE(name.high_precision);
  EXPECT_EQ(name.tile, (std::array<int32_t, 3>{16, 16, 8}));
  EXPECT_TRUE(name.is_source());
  EXPECT_EQ(name.architecture(), "");
  EXPECT_EQ(name.fallback_evidence(), FallbackEvidence::kSource);  // gfx906's own tables hold this one
  ASSERT_NE(name.find("WorkGroup"), nullptr);
  EXPECT_EQ(name.find("WorkGroup")->value, "8_8_1");
  EXPECT_EQ(name.find("GlobalSplitUAlgorithm")->value, "SB");
  EXPECT_EQ(name.find("LdcEqualsLdd")->key, "SN");
  const std::string words = tensile_sentence(name);
  EXPECT_NE(words.find("source kernel"), std::string::npos) << words;
  EXPECT_EQ(words.find("fallback"), std::string::npos) << words;
  EXPECT_EQ(words.find("trided"), std::string::npos) << words;
  EXPECT_NE(words.find("64 threads"), std::string::npos) << words;
}

TEST(Tensile, ReadsLayoutsOfAllFourTransposes) {
  const std::pair<const char*, const char*> kCases[] = {
      {"Ailk_Bljk", "NN"}, {"Ailk_Bjlk", "NT"}, {"Alik_Bljk", "TN"}, {"Alik_Bjlk", "TT"}};
  for (const auto& [operands, layout] : kCases) {
    const TensileName name = parsed(std::string("Cijk_") + operands + "_SB_MT64x64x16_SE");
    EXPECT_EQ(std::string({name.a_transposed(), name.b_transposed()}), layout);
  }
  const TensileName conjugate = parsed("Cijk_AlikC_BjlkC_ZB_MT32x32x8_SN_K1");
  EXPECT_TRUE(conjugate.a_conjugate && conjugate.b_conjugate);
  EXPECT_EQ(conjugate.input_type, "c64");
  EXPECT_EQ(to_string(conjugate), "Cijk_AlikC_BjlkC_ZB_MT32x32x8_SN_K1");
}

struct TypeCase {
  const char *text, *input, *output, *compute;
  bool beta, high;
};

TEST(Tensile, ReadsTypesInEverySpelling) {
  const TypeCase kCases[] = {
      {"SB", "f32", "f32", "f32", true, false},          {"DB", "f64", "f64", "f64", true, false},
      {"HB", "f16", "f16", "f16", true, false},          {"HBH", "f16", "f16", "f16", true, true},
      {"BBH", "bf16", "bf16", "bf16", true, true},       {"HHS_BH", "f16", "f16", "f32", true, true},
      {"HSS_BH", "f16", "f32", "f32", true, true},       {"BBS_BH", "bf16", "bf16", "f32", true, true},
      {"B_BS_BH", "bf16", "bf16", "f32", true, true},  // as Kineto prints it
      {"4xi8II_BH", "4 x i8", "i32", "i32", true, true}, {"I8II_BH", "i8", "i32", "i32", true, true},
      {"F8B8S_BH", "f8", "bf8", "f32", true, true},      {"S_MX_B", "f32", "f32", "f32", true, false},
  };
  for (const TypeCase& c : kCases) {
    const std::string text = std::string("Cijk_Ailk_Bljk_") + c.text + "_GB_MT64x64x16_SN_K1";
    const TensileName name = parsed(text);
    EXPECT_EQ(to_string(name), text);
    EXPECT_EQ(name.input_type, c.input) << text;
    EXPECT_EQ(name.output_type, c.output) << text;
    EXPECT_EQ(name.compute_type, c.compute) << text;
    EXPECT_EQ(name.has_beta, c.beta) << text;
    EXPECT_EQ(name.high_precision, c.high) << text;
    EXPECT_TRUE(name.pointer_batched) << text;
  }
}

TEST(Tensile, ReadsHipblasltNames) {
  const std::string text =
      "Cijk_Ailk_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT64x32x256_MI16x16x1_SN_LDSB1_AFEM2_AFEM4_GRPM0p25_GSU0_"
      "GSUAMB_ISA950_NTn1_SK3_SKFTR0_WG32_8_1";
  const TensileName name = parsed(text);
  EXPECT_EQ(to_string(name), text);
  EXPECT_TRUE(name.is_hipblaslt());
  EXPECT_EQ(name.architecture(), "gfx950");
  EXPECT_EQ(name.fallback_evidence(), FallbackEvidence::kNone);
  EXPECT_EQ(name.find("AssertFree0ElementMultiple")->value, "2");
  EXPECT_EQ(name.find("AssertFree1ElementMultiple")->value, "4");
  EXPECT_EQ(name.find("GlobalReadPerMfma")->value, "0p25");
  EXPECT_NE(tensile_sentence(name).find("stream-K"), std::string::npos);
  EXPECT_NE(tensile_sentence(name).find("bf16 in, bf16 out, f32 sums"), std::string::npos);
}

TEST(Tensile, JudgesFallbackByEvidence) {
  EXPECT_EQ(parsed("Cijk_Ailk_Bljk_HHS_BH_MT32x128x16_SN_ISA000_KLS").fallback_evidence(),
            FallbackEvidence::kLibrary);
  EXPECT_EQ(parsed("Cijk_Alik_Bljk_HHS_BH_MT64x64x8_SN_ISA000_KLS").fallback_evidence(),
            FallbackEvidence::kSource);
  EXPECT_EQ(parsed("Cijk_Alik_Bljk_HHS_BH_MT32x128x16_SN_ISA906_KLA").fallback_evidence(),
            FallbackEvidence::kNone);
  // Newer names need not have an ISA at all: that says nothing.
  EXPECT_EQ(parsed("Cijk_Ailk_Bljk_BBS_BH_MT32x128x16_SN_K1").fallback_evidence(), FallbackEvidence::kNone);
}

TEST(Tensile, KeepsWhatItDoesNotKnow) {
  for (const std::string text :
       {"Cijk_Alik_Bljk_SB_Frob_MT8x8x8_SN_QQX12_lowerCase_3_9_K1.kd", "Cijk_Alik_Bljk_SB_MT64x64x16_SE_APM",
        "Cijk_Alik", "Cijk_", "Cijk_Alik_B", "Cij_Ail_Blj_SB_MT4x4x4_SN", "Cijk_Alik_Bljk_SB_MT064x64x16_SE",
        "Cijk_Alik_Bljk_SB_MT99999999999x64x16_SE__", "Cijk_Alik_Bljk_SB_MT0x0x0_MI4x4x4x4x4_SN_1LDSB1_n3",
        "Custom_Cijk_Alik_Bljk_F8HS_BH_MT256x256x128",
        "Cijk_Alik_Bljk_SB_MT64x64x16_SE_WG16_16_1 [clone .kd]", "Cijk_S_PostGSU4_VW4", "Cijk_S_GA"})
    EXPECT_EQ(to_string(parsed(text)), text);
  const TensileName name = parsed("Cijk_Alik_Bljk_SB_MT8x8x8_SN_QQX12_K1");
  ASSERT_EQ(name.parameters.size(), 3u);
  EXPECT_EQ(name.parameters[1].key, "QQX");
  EXPECT_EQ(name.parameters[1].value, "12");
  EXPECT_EQ(name.parameters[1].full_name, "");
  EXPECT_TRUE(parsed("Cijk_S_PostGSU4_VW4").is_helper);
  for (const char* text : {"", "C", "Cijk", "cutlass_80", "Cabc_Aab_Bbc", "Custom_kernel"})
    EXPECT_FALSE(parse_tensile(text).has_value()) << text;
}

TEST(Tensile, RebuildsDamagedNames) {
  std::mt19937 random(std::random_device{}());
  const auto seed = random();
  random.seed(seed);
  for (int round = 0; round < 20000; ++round) {
    std::string text = kSource;
    for (int edits = 1 + int(random() % 4); edits > 0; --edits) {
      const size_t at = 5 + random() % (text.size() - 5);
      if (random() % 3 == 0)
        text.resize(at + 1);
      else
        text[at] = "_ABCx0n1M"[random() % 9];
      if (text.size() < 8) break;
    }
    if (const auto name = parse_tensile(text)) {
      ASSERT_EQ(to_string(*name), text) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace dw::profile
