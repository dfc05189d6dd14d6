#include "model/synth.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <memory>
#include <thread>

#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "gguf/writer.h"
#include "model/random_blocks.h"
#include "model/synth_vocabulary.h"
#include "model/tensor_list.h"

namespace dw {
namespace {

constexpr size_t kBufferBytes = size_t(64) << 20;
constexpr size_t kPieceBytes = size_t(1) << 20;  // of about this size: one task of the thread pool
constexpr uint32_t kQuantisationVersion = 2;     // of the K and IQ block layouts

HyperParameters published_shape() {
  HyperParameters h;
  h.hidden = 2048;
  h.vocabulary = 151936;
  h.context_length = 262144;
  h.heads = 16;
  h.kv_heads = 2;
  h.head_dim = 256;
  h.rope_dims = 64;
  h.rope_base = 1e7f;
  h.k_heads = 16;
  h.v_heads = 32;
  h.k_dim = h.v_dim = 128;
  h.conv_taps = 4;
  h.expert_count = 512;
  h.top_k = 10;
  h.expert_width = h.shared_width = 512;
  set_layer_count(h, 48);
  return h;
}

HyperParameters coder_shape() {
  HyperParameters h = published_shape();
  h.rope_base = 5e6f;
  return h;
}

HyperParameters mini_shape() {
  HyperParameters h = published_shape();
  h.hidden = 1024;
  h.vocabulary = 32768;
  h.context_length = 32768;
  h.heads = 8;
  h.k_heads = 8;
  h.v_heads = 16;
  h.expert_count = 64;
  h.top_k = 8;
  h.expert_width = h.shared_width = 256;
  set_layer_count(h, 12);
  return h;
}

HyperParameters tiny_shape() {
  HyperParameters h = mini_shape();
  h.hidden = 256;
  h.vocabulary = 512;
  h.context_length = 4096;
  h.heads = 4;
  h.kv_heads = 1;
  h.k_heads = 2;
  h.v_heads = 4;
  h.expert_count = 16;
  h.top_k = 4;
  set_layer_count(h, 4);
  return h;
}

Expected<void> check_shape(const HyperParameters& h) {
  if (h.layer_count() < 1) return make_error("a model needs at least one layer");
  if (h.hidden < 32 || h.hidden % 32 != 0)
    return make_error("the hidden size is ", h.hidden, "; it must be a multiple of 32");
  if (h.top_k < 1 || h.top_k > h.expert_count)
    return make_error(h.top_k, " active experts of ", h.expert_count, " are not possible");
  if (h.expert_width % 32 != 0 || h.shared_width % 32 != 0)
    return make_error("the widths of the experts must be multiples of 32");
  return {};
}

std::vector<MixTensor> mix_tensors(const std::vector<TensorSpec>& specs) {
  std::vector<MixTensor> list;
  for (const TensorSpec& spec : specs) list.push_back({spec.name, spec.shape, quant::Type::F32});
  return list;
}

uint64_t element_count(const TensorSpec& spec) {
  return spec.shape[0] * spec.shape[1] * spec.shape[2] * spec.shape[3];
}

double bits_per_weight(const std::vector<TensorSpec>& specs, const std::vector<TypeChoice>& choices) {
  double bits = 0, count = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    bits += quant::type_info(choices[i].type).bits_per_element() * double(element_count(specs[i]));
    count += double(element_count(specs[i]));
  }
  return bits / count;
}

// "4.5bit", "4.5bits" or "4.5bpw".
std::optional<double> parse_bits(std::string_view text) {
  double bits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits);
  const std::string_view unit = text.substr(size_t(end - text.data()));
  if (error != std::errc() || bits <= 0 || bits > 64) return std::nullopt;
  if (unit != "bit" && unit != "bits" && unit != "bpw") return std::nullopt;
  return bits;
}

struct Plan {
  std::vector<TensorSpec> specs;
  std::vector<TypeChoice> choices;
  FileType file_type;
};

Plan choose_mix(Plan plan, const SynthOptions& options, const FileType& type, bool pure) {
  const HyperParameters& h = options.shape;
  MixOptions mix;
  mix.file_type = plan.file_type = type;
  mix.block_count = uint32_t(h.layer_count() + h.mtp_layers);
  mix.expert_count = uint32_t(h.expert_count);
  mix.head_group = uint32_t(h.heads / h.kv_heads);
  mix.pure = pure;
  mix.overrides = options.overrides;
  plan.choices = choose_types(mix_tensors(plan.specs), mix);
  return plan;
}

Expected<Plan> make_plan(const SynthOptions& options) {
  Plan plan{tensor_list(options.shape, options.tied), {}, {}};
  if (const FileType* type = find_file_type(options.types)) return choose_mix(plan, options, *type, false);
  if (const std::optional<double> bits = parse_bits(options.types)) {
    std::optional<Plan> best;
    double best_distance = 0;
    for (const FileType& type : all_file_types()) {
      Plan candidate = choose_mix(plan, options, type, false);
      const double distance = std::abs(bits_per_weight(candidate.specs, candidate.choices) - *bits);
      if (best && distance >= best_distance) continue;
      best = std::move(candidate);
      best_distance = distance;
    }
    return *best;
  }
  for (const FileType& type : all_file_types())
    if (const quant::TypeInfo* info = quant::find_type(options.types); info && info->type == type.base)
      return choose_mix(plan, options, type, true);
  return make_error(
      "the type '", options.types,
      "' is unknown; give a file type such as Q4_K_M, Q2_K, Q8_0, F16 or IQ4_XS, or a size such as 4.5bit");
}

void write_hyper_parameters(gguf::Writer& writer, const HyperParameters& h) {
  const auto put = [&](const char* key, int32_t value) {
    writer.add(std::string("qwen3next.") + key, uint32_t(value));
  };
  put("block_count", h.layer_count() + h.mtp_layers);
  put("context_length", h.context_length);
  put("embedding_length", h.hidden);
  put("attention.head_count", h.heads);
  put("attention.head_count_kv", h.kv_heads);
  put("attention.key_length", h.head_dim);
  put("attention.value_length", h.head_dim);
  writer.add("qwen3next.attention.layer_norm_rms_epsilon", h.norm_eps);
  put("rope.dimension_count", h.rope_dims);
  writer.add("qwen3next.rope.freq_base", h.rope_base);
  put("expert_count", h.expert_count);
  put("expert_used_count", h.top_k);
  put("expert_feed_forward_length", h.expert_width);
  put("expert_shared_feed_forward_length", h.shared_width);
  put("ssm.conv_kernel", h.conv_taps);
  put("ssm.state_size", h.k_dim);
  put("ssm.group_count", h.k_heads);
  put("ssm.time_step_rank", h.v_heads);
  put("ssm.inner_size", int32_t(h.delta_width()));
  put("full_attention_interval", kSynthAttentionInterval);
  if (h.mtp_layers > 0) put("nextn_predict_layers", h.mtp_layers);
}

Expected<void> write_tokenizer(gguf::Writer& writer, const SynthOptions& options) {
  if (options.vocabulary != nullptr) {
    for (const gguf::MetadataEntry& entry : options.vocabulary->metadata())
      if (entry.key.starts_with("tokenizer.")) writer.add(entry);
    return {};
  }
  auto vocabulary = make_synth_vocabulary(options.shape.vocabulary);
  if (!vocabulary) return vocabulary.error();
  write_vocabulary(writer, *vocabulary);
  return {};
}

// Small tensors that are not plain normal numbers.
std::optional<std::vector<float>> special_values(const TensorSpec& spec, uint64_t seed) {
  const std::string_view name = spec.name;
  Random random(seed);
  std::vector<float> values(spec.shape[0]);
  const auto fill = [&](const auto& draw) {
    for (float& value : values) value = draw();
    return values;
  };
  if (spec.dimension_count > 1) return std::nullopt;
  // Decay rates and time steps as trained models have them: from long memory to almost none.
  if (name.ends_with("ssm_a"))
    return fill([&] { return -std::exp(random.uniform(std::log(0.02f), std::log(8.f))); });
  if (name.ends_with("ssm_dt.bias")) return fill([&] { return random.uniform(-4.f, 1.f); });
  if (name.find("norm") != std::string_view::npos) return fill([&] { return 1 + 0.02f * random.normal(); });
  return std::nullopt;
}

// Keeps activations near 1: embeddings 1, projections 1 / sqrt(inputs).
float weight_deviation(const TensorSpec& spec) {
  return spec.name == "token_embd.weight" ? 1.f : 1.f / std::sqrt(float(spec.shape[0]));
}

// Fills buffers on all threads while the one before is written.
class Generator {
 public:
  Generator(gguf::Writer& writer, const SynthOptions& options)
      : writer_(writer),
        options_(options),
        pool_(options.threads > 0 ? options.threads : physical_core_count()),
        buffers_{std::vector<std::byte>(kBufferBytes), std::vector<std::byte>(kBufferBytes)} {}
  ~Generator() {
    if (pending_.joinable()) pending_.join();
  }

  Expected<void> generate(const TensorSpec& spec, quant::Type type, uint64_t index) {
    const uint64_t seed = options_.seed * 0x9e3779b97f4a7c15ull + index * 0xd1342543de82ef95ull;
    if (const auto values = special_values(spec, seed)) {
      std::vector<std::byte> bytes(size_t(quant::row_bytes(type, values->size())));
      quant::type_info(type).quantize(values->data(), bytes.data(), int64_t(values->size()), nullptr);
      std::copy(bytes.begin(), bytes.end(), buffers_[current_].begin());
      return hand_over(bytes.size());
    }
    const RandomBlocks& blocks = blocks_of(type, weight_deviation(spec));
    const size_t piece = kPieceBytes / blocks.unit_bytes() * blocks.unit_bytes();
    const size_t buffer = kBufferBytes / piece * piece;
    uint64_t left = quant::row_bytes(type, spec.shape[0]) * (element_count(spec) / spec.shape[0]);
    for (uint64_t first_piece = 0; left > 0; first_piece += buffer / piece) {
      const size_t size = size_t(std::min<uint64_t>(left, buffer));
      const std::span<std::byte> out = std::span(buffers_[current_]).first(size);
      pool_.parallel_for(int64_t((size + piece - 1) / piece), [&](int64_t task, int) {
        const size_t begin = size_t(task) * piece;
        blocks.fill(out.subspan(begin, std::min(piece, size - begin)),
                    seed ^ ((first_piece + uint64_t(task)) << 20));
      });
      if (auto ok = hand_over(size); !ok) return ok;
      left -= size;
    }
    return {};
  }

  Expected<void> wait() {
    if (pending_.joinable()) pending_.join();
    return pending_result_;
  }

 private:
  const RandomBlocks& blocks_of(quant::Type type, float deviation) {
    auto& slot = blocks_[{type, deviation}];
    if (!slot) slot = std::make_unique<RandomBlocks>(type, deviation, options_.seed + blocks_.size());
    return *slot;
  }

  // Starts writing the current buffer and makes the other one current.
  Expected<void> hand_over(size_t size) {
    if (auto ok = wait(); !ok) return ok;
    if (options_.interrupted && options_.interrupted()) return make_error("interrupted; nothing was kept");
    const std::span<const std::byte> bytes = std::span(buffers_[current_]).first(size);
    pending_ = std::thread([this, bytes] { pending_result_ = writer_.write_data(bytes); });
    current_ ^= 1;
    written_ += size;
    if (options_.progress) options_.progress(written_, writer_.file_bytes());
    return {};
  }

  gguf::Writer& writer_;
  const SynthOptions& options_;
  ThreadPool pool_;
  std::vector<std::byte> buffers_[2];
  int current_ = 0;
  std::thread pending_;
  Expected<void> pending_result_;
  uint64_t written_ = 0;
  std::map<std::pair<quant::Type, float>, std::unique_ptr<RandomBlocks>> blocks_;
};

Expected<void> declare_all(gguf::Writer& writer, const Plan& plan) {
  for (size_t i = 0; i < plan.specs.size(); ++i) {
    const TensorSpec& spec = plan.specs[i];
    if (quant::type_info(plan.choices[i].type).dequantize == nullptr)
      return make_error("type ", quant::type_info(plan.choices[i].type).name, " holds no weights");
    writer.declare_tensor(spec.name, plan.choices[i].type, std::span(spec.shape).first(spec.dimension_count));
  }
  return writer.begin();
}

}  // namespace

void set_layer_count(HyperParameters& h, int32_t count) {
  h.recurrent.clear();
  for (int32_t i = 0; i < count; ++i) h.recurrent.push_back((i + 1) % kSynthAttentionInterval != 0);
}

std::vector<SynthPreset> synth_presets() {
  return {{"80b", "Qwen3-Next-80B-A3B: 48 layers, hidden 2048, 512 experts", published_shape()},
          {"coder-next", "Qwen3-Coder-Next: the same with RoPE base 5e6", coder_shape()},
          {"mini", "12 layers, hidden 1024, 64 experts, vocabulary 32768", mini_shape()},
          {"tiny", "4 layers, hidden 256, 16 experts, vocabulary 512", tiny_shape()}};
}

Expected<HyperParameters> find_synth_preset(std::string_view name) {
  std::string known;
  for (const SynthPreset& preset : synth_presets()) {
    if (preset.name == name) return preset.shape;
    known += (known.empty() ? "" : ", ") + std::string(preset.name);
  }
  return make_error("the preset '", name, "' is unknown; there are ", known);
}

Expected<SynthReport> synthesize(const std::string& path, const SynthOptions& given) {
  SynthOptions options = given;
  if (options.vocabulary != nullptr) {
    const auto* tokens = options.vocabulary->get_strings("tokenizer.ggml.tokens");
    if (tokens == nullptr) return make_error(options.vocabulary->paths()[0], " has no tokenizer.ggml.tokens");
    options.shape.vocabulary = int32_t(tokens->size());
  }
  if (auto ok = check_shape(options.shape); !ok) return ok.error();
  auto plan = make_plan(options);
  if (!plan) return plan.error();

  gguf::Writer writer(path);
  writer.add("general.architecture", "qwen3next");
  writer.add("general.name", options.name);
  writer.add("general.type", "model");
  writer.add("general.file_type", uint32_t(plan->file_type.id));
  writer.add("general.quantization_version", kQuantisationVersion);
  write_hyper_parameters(writer, options.shape);
  if (auto ok = write_tokenizer(writer, options); !ok) return ok.error();
  if (auto ok = declare_all(writer, *plan); !ok) return ok.error();
  {
    Generator generator(writer, options);
    for (size_t i = 0; i < plan->specs.size(); ++i)
      if (auto ok = generator.generate(plan->specs[i], plan->choices[i].type, i); !ok) return ok.error();
    if (auto ok = generator.wait(); !ok) return ok.error();
  }
  if (auto ok = writer.finish(); !ok) return ok.error();

  SynthReport report;
  report.file_type = plan->file_type.name;
  for (const TensorSpec& spec : plan->specs) report.parameter_count += element_count(spec);
  report.file_bytes = writer.file_bytes();
  report.bits_per_weight = bits_per_weight(plan->specs, plan->choices);
  return report;
}

}  // namespace dw
