#include "model/summary.h"

#include <algorithm>
#include <climits>
#include <map>
#include <unordered_set>

#include "model/file_type.h"

namespace dw {
namespace {

constexpr size_t kMaxNamed = 5;  // names listed in one warning

std::string text_of(const gguf::File& file, std::string_view key) {
  const auto text = file.get_string(key);
  return text ? text->value_or("") : "";
}

void add_to(SizeGroup& group, const gguf::TensorInfo& tensor) {
  ++group.tensor_count;
  group.parameter_count += tensor.element_count();
  group.bytes += tensor.size_bytes;
}

void add_sizes(const gguf::File& file, FileSummary& summary) {
  std::vector<SizeGroup> parts(kTensorPartCount);
  for (int i = 0; i < kTensorPartCount; ++i) parts[size_t(i)].name = tensor_part_name(TensorPart(i));
  std::map<quant::Type, SizeGroup> types;
  const int32_t trunk = summary.shape ? summary.shape->layer_count() : INT_MAX;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    add_to(parts[size_t(tensor_part(tensor.name, trunk))], tensor);
    SizeGroup& type = types[tensor.type];
    type.name = quant::type_info(tensor.type).name;
    add_to(type, tensor);
    summary.tensor_bytes += tensor.size_bytes;
    summary.parameter_count += tensor.element_count();
  }
  for (SizeGroup& part : parts)
    if (part.tensor_count > 0) summary.parts.push_back(std::move(part));
  for (auto& [type, group] : types) summary.types.push_back(std::move(group));
  std::stable_sort(summary.types.begin(), summary.types.end(),
                   [](const SizeGroup& a, const SizeGroup& b) { return a.bytes > b.bytes; });
  if (summary.parameter_count > 0)
    summary.bits_per_weight = 8 * double(summary.tensor_bytes) / double(summary.parameter_count);
}

TokenizerSummary summarize_tokenizer(const gguf::File& file) {
  constexpr std::string_view kPrefix = "tokenizer.ggml.";
  TokenizerSummary summary;
  summary.model = text_of(file, "tokenizer.ggml.model");
  summary.pre = text_of(file, "tokenizer.ggml.pre");
  if (const auto* tokens = file.get_strings("tokenizer.ggml.tokens")) summary.token_count = tokens->size();
  if (const auto* merges = file.get_strings("tokenizer.ggml.merges")) summary.merge_count = merges->size();
  for (const gguf::MetadataEntry& entry : file.metadata()) {
    if (!entry.key.starts_with(kPrefix) || !entry.key.ends_with("_token_id")) continue;
    if (const auto id = file.get_uint(entry.key); id && id->has_value())
      summary.special.emplace_back(entry.key.substr(kPrefix.size()), **id);
  }
  if (const auto text = file.get_string("tokenizer.chat_template"); text) summary.chat_template = *text;
  return summary;
}

// Collects names and says them in one sentence.
class NameList {
 public:
  void add(const std::string& name) {
    if (++count_ <= kMaxNamed) names_ += (names_.empty() ? "" : ", ") + name;
  }
  void report(const std::string& what, std::vector<std::string>& warnings) const {
    if (count_ == 0) return;
    std::string text =
        std::to_string(count_) + (count_ == 1 ? " tensor " : " tensors ") + what + ": " + names_;
    if (count_ > kMaxNamed) text += ", ...";
    warnings.push_back(text);
  }

 private:
  size_t count_ = 0;
  std::string names_;
};

// The names that older or merged layouts use instead of the listed one; empty when the tensor is optional.
std::optional<std::vector<std::string>> alternatives(const std::string& name) {
  const auto replace = [&](std::string_view ending, std::string_view with) {
    return std::vector<std::string>{name.substr(0, name.size() - ending.size()) + std::string(with)};
  };
  for (const std::string_view ending : {"attn_qkv.weight", "attn_gate.weight"})
    if (name.ends_with(ending)) return replace(ending, "ssm_in.weight");
  for (const std::string_view ending : {"ffn_gate_exps.weight", "ffn_up_exps.weight"})
    if (name.ends_with(ending)) return replace(ending, "ffn_gate_up_exps.weight");
  if (name.ends_with("ssm_dt.bias")) return replace("ssm_dt.bias", "ssm_dt");
  if (name.ends_with("nextn.shared_head_norm.weight") || name.ends_with("ffn_gate_inp_shexp.weight"))
    return std::vector<std::string>{};
  return std::nullopt;
}

void check_tensors(const gguf::File& file, const HyperParameters& h, std::vector<std::string>& warnings) {
  NameList missing, misshapen, unused;
  std::unordered_set<std::string> known = {"output.weight"};
  for (const TensorSpec& spec : tensor_list(h, true)) {
    known.insert(spec.name);
    const gguf::TensorInfo* tensor = file.find_tensor(spec.name);
    const auto others = alternatives(spec.name);
    bool found = tensor != nullptr || (others && others->empty());
    for (const std::string& other : others.value_or(std::vector<std::string>{})) {
      known.insert(other);
      found = found || file.find_tensor(other) != nullptr;
    }
    if (!found) missing.add(spec.name);
    const uint64_t wanted = spec.shape[0] * spec.shape[1] * spec.shape[2];
    if (tensor != nullptr && tensor->shape != spec.shape &&
        (spec.dimension_count > 1 || tensor->element_count() != wanted))
      misshapen.add(spec.name);
  }
  for (const gguf::TensorInfo& tensor : file.tensors())
    if (!known.contains(tensor.name) && tensor.name.find("nextn.") == std::string::npos)
      unused.add(tensor.name);
  missing.report("missing", warnings);
  misshapen.report("whose shape does not fit the hyper-parameters", warnings);
  unused.report("that the model does not use", warnings);
}

void check_data(const gguf::File& file, std::vector<std::string>& warnings) {
  NameList beyond, unusable;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    const uint64_t size = file.maps()[tensor.file_index].bytes().size();
    if (tensor.file_offset > size || tensor.size_bytes > size - tensor.file_offset) beyond.add(tensor.name);
    if (quant::type_info(tensor.type).dequantize == nullptr) unusable.add(tensor.name);
  }
  beyond.report("whose data lie beyond the end of the file (incomplete download?)", warnings);
  unusable.report("of a type that the engine cannot use", warnings);
}

void check_tokenizer(const FileSummary& summary, std::vector<std::string>& warnings) {
  const TokenizerSummary& tokenizer = summary.tokenizer;
  if (tokenizer.token_count == 0) {
    warnings.push_back("there is no tokenizer in the file");
    return;
  }
  if (tokenizer.model != "gpt2")
    warnings.push_back("the tokenizer's model is '" + tokenizer.model +
                       "'; the engine knows 'gpt2' (byte-level BPE)");
  if (summary.shape && tokenizer.token_count != uint64_t(summary.shape->vocabulary))
    warnings.push_back("the tokenizer has " + std::to_string(tokenizer.token_count) +
                       " tokens, the embedding " + std::to_string(summary.shape->vocabulary) + " rows");
  for (const auto& [name, id] : tokenizer.special)
    if (id >= tokenizer.token_count)
      warnings.push_back(name + " is " + std::to_string(id) + ", beyond the " +
                         std::to_string(tokenizer.token_count) + " tokens");
  if (!tokenizer.chat_template) warnings.push_back("there is no chat template in the file");
}

std::string file_type_name(const gguf::File& file) {
  const auto number = file.get_uint("general.file_type");
  if (!number || !number->has_value()) return "";
  const FileType* type = find_file_type(**number);
  return type != nullptr ? std::string(type->name) : "number " + std::to_string(**number);
}

}  // namespace

FileSummary summarize(const gguf::File& file) {
  FileSummary summary;
  summary.architecture = text_of(file, "general.architecture");
  summary.name = text_of(file, "general.name");
  summary.file_type = file_type_name(file);
  summary.version = file.version();
  summary.alignment = file.alignment();
  summary.paths.assign(file.paths().begin(), file.paths().end());
  for (const MappedFile& map : file.maps()) summary.file_bytes += map.bytes().size();
  summary.tensor_count = file.tensors().size();
  auto shape = read_hyper_parameters(file);
  if (shape)
    summary.shape = std::move(*shape);
  else
    summary.warnings.push_back("the engine cannot run it: " + shape.error().message);
  add_sizes(file, summary);
  summary.tokenizer = summarize_tokenizer(file);
  if (summary.shape) check_tensors(file, *summary.shape, summary.warnings);
  check_data(file, summary.warnings);
  check_tokenizer(summary, summary.warnings);
  return summary;
}

}  // namespace dw
