// Re-quantisation of synthetic files: types, metadata, values, refusals.
#include "model/quantize.h"

#include <cmath>

#include "gguf/gguf_test_util.h"
#include "gguf/writer.h"
#include "model/synth.h"

namespace dw {
namespace {

using gguf::File;
using gguf::test::TempFolder;
using quant::Type;

std::string make_synth(const TempFolder& folder, const std::string& types, bool mtp = false) {
  const std::string path = folder.path("synth-" + types + ".gguf");
  SynthOptions options;
  options.shape = *find_synth_preset("tiny");
  options.shape.mtp_layers = mtp ? 1 : 0;
  set_layer_count(options.shape, 4);
  options.types = types;
  options.threads = 2;
  const auto report = synthesize(path, options);
  EXPECT_TRUE(report) << report.error().message;
  return path;
}

QuantizeOptions to(std::string_view type) {
  QuantizeOptions options;
  options.file_type = *find_file_type(type);
  options.threads = 2;
  return options;
}

std::vector<float> values_of(const gguf::TensorInfo& tensor) {
  std::vector<float> values(tensor.element_count());
  quant::type_info(tensor.type).dequantize(tensor.data, values.data(), int64_t(values.size()));
  return values;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, power = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double(got[i]) - wanted[i], 2);
    power += std::pow(double(wanted[i]), 2);
  }
  return error / power;
}

TEST(Quantize, WritesEveryTypeItCan) {
  const TempFolder folder;
  const auto input = File::open(make_synth(folder, "F16", true));
  ASSERT_TRUE(input) << input.error().message;
  for (const char* type : {"Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ4_NL",
                           "MXFP4", "Q4_0", "BF16", "F32"}) {
    const std::string path = folder.path("out.gguf");
    const auto report = quantize_file(*input, path, to(type));
    ASSERT_TRUE(report) << report.error().message;
    const auto output = File::open(path);
    ASSERT_TRUE(output) << output.error().message;
    EXPECT_EQ(*output->get_uint("general.file_type").value(), uint64_t(find_file_type(type)->id));
    EXPECT_EQ(*output->get_uint("general.quantization_version").value(), 2u);
    EXPECT_EQ(*output->get_uint("qwen3next.nextn_predict_layers").value(), 1u);
    ASSERT_EQ(output->tensors().size(), input->tensors().size());
    for (size_t i = 0; i < output->tensors().size(); ++i) {
      const gguf::TensorInfo& tensor = output->tensors()[i];
      ASSERT_EQ(tensor.name, input->tensors()[i].name);
      EXPECT_EQ(tensor.shape, input->tensors()[i].shape);
      if (tensor.dimension_count == 1) {
        EXPECT_EQ(tensor.type, Type::F32);
      }
      // Even two bits a weight keep nine tenths of the power of normal numbers.
      EXPECT_LT(relative_error(values_of(tensor), values_of(input->tensors()[i])), 0.12)
          << type << " " << tensor.name;
    }
  }
}

TEST(Quantize, DoesNotDependOnThreads) {
  const TempFolder folder;
  const auto input = File::open(make_synth(folder, "F16"));
  ASSERT_TRUE(input);
  QuantizeOptions options = to("Q4_K_M");
  options.threads = 1;
  ASSERT_TRUE(quantize_file(*input, folder.path("one.gguf"), options));
  options.threads = 3;
  ASSERT_TRUE(quantize_file(*input, folder.path("three.gguf"), options));
  EXPECT_TRUE(gguf::test::slurp(folder.path("one.gguf")) == gguf::test::slurp(folder.path("three.gguf")));
}

TEST(Quantize, RefusesLowBitInputsUnlessAllowed) {
  const TempFolder folder;
  const auto input = File::open(make_synth(folder, "Q4_0"));
  ASSERT_TRUE(input);
  const std::string path = folder.path("out.gguf");
  const auto refused = quantize_file(*input, path, to("Q2_K"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("is already quantised to"), std::string::npos)
      << refused.error().message;
  EXPECT_NE(refused.error().message.find("--allow-requantize"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path));
  QuantizeOptions options = to("Q2_K");
  options.allow_requantize = true;
  EXPECT_TRUE(quantize_file(*input, path, options));
}

TEST(Quantize, RefusesTypesItCannotWrite) {
  const TempFolder folder;
  const auto input = File::open(make_synth(folder, "F16"));
  ASSERT_TRUE(input);
  const auto refused = quantize_file(*input, folder.path("out.gguf"), to("IQ2_XS"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("reads but does not write"), std::string::npos)
      << refused.error().message;
}

TEST(Quantize, RefusesToOverwriteItsInput) {
  const TempFolder folder;
  const std::string path = make_synth(folder, "F16");
  const auto input = File::open(path);
  ASSERT_TRUE(input);
  const auto refused = quantize_file(*input, path, to("Q8_0"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("is the input itself"), std::string::npos);
}

TEST(Quantize, NamesTheTensorWithValuesThatAreNotFinite) {
  const TempFolder folder;
  const std::string path = folder.path("nan.gguf");
  {
    gguf::Writer writer(path);
    writer.add("general.architecture", "qwen3next");
    writer.declare_tensor("output.weight", Type::F32, std::array<uint64_t, 2>{256, 4});
    ASSERT_TRUE(writer.begin());
    std::vector<float> values(1024, 1.f);
    values[700] = std::nanf("");
    ASSERT_TRUE(writer.write_data(std::as_bytes(std::span(values))));
    ASSERT_TRUE(writer.finish());
  }
  const auto input = File::open(path);
  ASSERT_TRUE(input);
  const auto refused = quantize_file(*input, folder.path("out.gguf"), to("Q4_K_M"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("'output.weight' has values that are not finite"),
            std::string::npos);
  EXPECT_EQ(folder.names(), std::vector<std::string>{"nan.gguf"});
}

}  // namespace
}  // namespace dw
