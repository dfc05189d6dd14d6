#include "model/quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "gguf/writer.h"

namespace dw {
namespace {

using quant::Type;
using quant::TypeInfo;

constexpr uint64_t kPieceElements = 1u << 16;  // of about this size, in whole rows: one task of the pool
constexpr uint64_t kBatchBytes = 64u << 20;    // output kept in memory before it is written
constexpr uint32_t kQuantisationVersion = 2;   // of the K and IQ block layouts
constexpr double kLeastSourceBits = 8;

std::vector<MixTensor> mix_tensors(const gguf::File& file) {
  std::vector<MixTensor> list;
  for (const gguf::TensorInfo& tensor : file.tensors())
    list.push_back({tensor.name, tensor.shape, tensor.type});
  return list;
}

// <architecture>.<key> as an unsigned number; 0 when absent.
Expected<uint64_t> architecture_value(const gguf::File& file, const std::string& architecture,
                                      std::string_view key) {
  auto value = file.get_uint(architecture + "." + std::string(key));
  if (!value) return value.error();
  return value->value_or(0);
}

Expected<MixOptions> mix_options(const gguf::File& file, const QuantizeOptions& options) {
  auto architecture = file.get_string("general.architecture");
  if (!architecture) return architecture.error();
  const std::string name = architecture->value_or("");
  MixOptions mix;
  mix.file_type = options.file_type;
  mix.pure = options.pure;
  mix.overrides = options.overrides;
  uint64_t values[4] = {};
  constexpr std::string_view kKeys[] = {"block_count", "expert_count", "attention.head_count",
                                        "attention.head_count_kv"};
  for (int i = 0; i < 4; ++i) {
    auto value = architecture_value(file, name, kKeys[i]);
    if (!value) return value.error();
    values[i] = *value;
  }
  mix.block_count = uint32_t(values[0]);
  mix.expert_count = uint32_t(values[1]);
  mix.head_group = values[3] > 0 ? uint32_t(values[2] / values[3]) : 1;
  return mix;
}

Expected<void> check_conversion(const gguf::TensorInfo& tensor, Type target, bool allow_requantize) {
  if (tensor.type == target) return {};
  const TypeInfo& from = quant::type_info(tensor.type);
  const TypeInfo& to = quant::type_info(target);
  if (from.dequantize == nullptr)
    return make_error("tensor '", tensor.name, "' has type ", from.name, ", which cannot be converted");
  if (to.quantize == nullptr)
    return make_error(
        "tensor '", tensor.name, "' would become ", to.name,
        ", a type that this program reads but does not write; choose another file type, such as "
        "IQ4_XS or Q2_K, or another type for it with --tensor-type");
  if (from.bits_per_element() < kLeastSourceBits && !allow_requantize)
    return make_error("tensor '", tensor.name, "' is already quantised to ", from.name,
                      "; start from an F16, BF16 or Q8_0 file, or accept the loss with --allow-requantize");
  return {};
}

// Converts tensors piece by piece on all threads.
class Converter {
 public:
  Converter(gguf::Writer& writer, const QuantizeOptions& options)
      : writer_(writer),
        options_(options),
        pool_(options.threads > 0 ? options.threads : physical_core_count()),
        scratch_(size_t(pool_.thread_count())) {}

  Expected<void> convert(const gguf::TensorInfo& tensor, Type target) {
    if (tensor.type == target) return copy(tensor);
    const TypeInfo& from = quant::type_info(tensor.type);
    const TypeInfo& to = quant::type_info(target);
    const uint64_t row = tensor.shape[0];
    const uint64_t rows = tensor.element_count() / row;
    const uint64_t in_row = quant::row_bytes(from.type, row), out_row = quant::row_bytes(to.type, row);
    const uint64_t piece = std::max<uint64_t>(1, kPieceElements / row);
    const uint64_t batch = std::max<uint64_t>(1, kBatchBytes / out_row);
    for (uint64_t first = 0; first < rows; first += batch) {
      const uint64_t count = std::min(batch, rows - first);
      output_.resize(size_t(count * out_row));
      std::atomic<bool> finite{true};
      pool_.parallel_for(int64_t((count + piece - 1) / piece), [&](int64_t task, int thread) {
        const uint64_t begin = uint64_t(task) * piece;
        const uint64_t elements = std::min(piece, count - begin) * row;
        std::vector<float>& values = scratch_[size_t(thread)];
        values.resize(size_t(elements));
        from.dequantize(tensor.data + (first + begin) * in_row, values.data(), int64_t(elements));
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
          finite = false;
        else
          to.quantize(values.data(), output_.data() + begin * out_row, int64_t(elements), nullptr);
      });
      if (!finite)
        return make_error("tensor '", tensor.name, "' has values that are not finite (rows ", first, " to ",
                          first + count - 1, "); the input file is damaged");
      if (auto ok = write(output_); !ok) return ok;
    }
    return {};
  }

 private:
  Expected<void> copy(const gguf::TensorInfo& tensor) {
    const std::span<const std::byte> data(tensor.data, size_t(tensor.size_bytes));
    for (uint64_t at = 0; at < data.size(); at += kBatchBytes)
      if (auto ok = write(data.subspan(at, std::min<uint64_t>(kBatchBytes, data.size() - at))); !ok)
        return ok;
    return {};
  }

  Expected<void> write(std::span<const std::byte> bytes) {
    if (options_.interrupted && options_.interrupted()) return make_error("interrupted; nothing was kept");
    if (auto ok = writer_.write_data(bytes); !ok) return ok;
    written_ += bytes.size();
    if (options_.progress) options_.progress(written_, writer_.file_bytes());
    return {};
  }

  gguf::Writer& writer_;
  const QuantizeOptions& options_;
  ThreadPool pool_;
  std::vector<std::vector<float>> scratch_;  // [threads]
  std::vector<std::byte> output_;
  uint64_t written_ = 0;
};

Expected<void> refuse_same_file(const gguf::File& input, const std::string& path) {
  std::error_code error;
  for (const std::string& part : input.paths())
    if (std::filesystem::equivalent(part, path, error))
      return make_error("the output ", path, " is the input itself; give it another name");
  return {};
}

void write_metadata(gguf::Writer& writer, const gguf::File& input, const FileType& type) {
  for (const gguf::MetadataEntry& entry : input.metadata()) {
    const bool replaced = entry.key == "general.file_type" || entry.key == "general.quantization_version";
    if (!replaced && !entry.key.starts_with("split.")) writer.add(entry);
  }
  writer.add("general.quantization_version", kQuantisationVersion);
  writer.add("general.file_type", uint32_t(type.id));
}

}  // namespace

Expected<QuantizeReport> quantize_file(const gguf::File& input, const std::string& path,
                                       const QuantizeOptions& options) {
  if (auto ok = refuse_same_file(input, path); !ok) return ok.error();
  auto mix = mix_options(input, options);
  if (!mix) return mix.error();
  const std::vector<TypeChoice> choices = choose_types(mix_tensors(input), *mix);

  gguf::Writer writer(path);
  write_metadata(writer, input, options.file_type);
  QuantizeReport report;
  double bits = 0, elements = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    const gguf::TensorInfo& tensor = input.tensors()[i];
    const Type target = choices[i].type;
    if (auto ok = check_conversion(tensor, target, options.allow_requantize); !ok) return ok.error();
    writer.declare_tensor(tensor.name, target, std::span(tensor.shape).first(tensor.dimension_count));
    const uint64_t bytes =
        quant::row_bytes(target, tensor.shape[0]) * (tensor.element_count() / tensor.shape[0]);
    report.tensors.push_back({tensor.name, tensor.type, target, tensor.size_bytes, bytes, choices[i].note});
    bits += 8 * double(bytes);
    elements += double(tensor.element_count());
  }
  if (auto ok = writer.begin(); !ok) return ok.error();
  Converter converter(writer, options);
  for (size_t i = 0; i < choices.size(); ++i)
    if (auto ok = converter.convert(input.tensors()[i], choices[i].type); !ok) return ok.error();
  if (auto ok = writer.finish(); !ok) return ok.error();
  for (const MappedFile& map : input.maps()) report.source_bytes += map.bytes().size();
  report.file_bytes = writer.file_bytes();
  report.bits_per_weight = elements > 0 ? bits / elements : 0;
  return report;
}

}  // namespace dw
