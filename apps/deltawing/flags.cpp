#include "flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "console.h"

namespace dw {
namespace {

std::string environment_name(const std::string& flag) {
  std::string name = "DELTAWING_";
  for (char c : flag) name += c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

Expected<ops::KvType> kv_type(const std::string& name) {
  if (name == "f16") return ops::KvType::kF16;
  if (name == "q8_0") return ops::KvType::kQ8_0;
  if (name == "f32") return ops::KvType::kF32;
  return make_error("the KV cache type '", name, "' is unknown; use f16, q8_0 or f32");
}

}  // namespace

void ModelFlags::add_to(CLI::App& app, bool model_required) {
  auto* path = app.add_option("-m,--model", model, "GGUF file (any part of a split set)");
  if (model_required) path->required();
  const CLI::Range positive(1, 1 << 30), not_negative(0, std::numeric_limits<int32_t>::max());
  app.add_option("-c,--ctx-size", context,
                 "context in tokens; 0: what the model was made for; when not given, 4096 or less")
      ->check(not_negative);
  app.add_option("-t,--threads", threads, "CPU threads; 0: one a core")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("-b,--batch-size", batch, "largest batch in tokens")->check(positive)->capture_default_str();
  app.add_option("--ubatch-size", ubatch, "rows of one forward pass (-ub)")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--parallel", sessions, "sequences at a time (-np)")->check(positive)->capture_default_str();
  app.add_option("--chunk", chunk,
                 "tokens a chunk of the delta rule in prefill: 0 (token by token), 16, 32, 64, 128; when not "
                 "given, what the device is fastest with")
      ->check(CLI::IsMember({0, 16, 32, 64, 128}));
  app.add_option("--cache-type-k", cache_type, "KV cache: f16, q8_0 or f32 (-ctk)")->capture_default_str();
  app.add_option("--cache-type-v", cache_type_v, "must be the same as --cache-type-k (-ctv)");
  app.add_option("--cpu-level", cpu_level, "portable, avx2 or avx512; default: the best there is");
  app.add_option("--device", device,
                 "auto (a GPU where there is one), cpu, gpu, or reference (plain loops, to compare with)")
      ->check(CLI::IsMember({"auto", "cpu", "gpu", "reference"}))
      ->capture_default_str();
  app.add_flag("--no-mmap", no_mmap, "read the file into memory instead of mapping it");
  app.add_flag("--prefetch", prefetch,
               "ask the system to read the mapped file ahead, where memory can hold it");
  add_gpu_flags(app);
}

void ModelFlags::add_gpu_flags(CLI::App& app) {
  app.add_option("--gpu-layers,--n-gpu-layers", gpu_layers,
                 "layers on the GPU, the last ones (-ngl): a number, auto or all; 0: none")
      ->capture_default_str();
  app.add_option("--n-cpu-moe", cpu_expert_layers,
                 "keep the experts of the first N layers on the CPU (-ncmoe); when not given, as few as must")
      ->check(CLI::Range(0, 1 << 20));
  app.add_flag("--cpu-moe", all_experts_on_cpu, "keep all experts on the CPU");
  app.add_option("--fit", fit, "on: what does not fit on the GPU stays on the CPU; off: it is refused")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--fit-target", fit_margin_mib, "MiB of the GPU's memory to leave free")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--main-gpu", gpu, "which GPU (-mg)")->check(CLI::Range(0, 1023))->capture_default_str();
  // Accepted so that command lines made for other programs run; options() says that they have no effect.
  auto add = [&](const char* names, const char* help) {
    gpu_flags.push_back(app.add_option(names, gpu_values, help)->expected(1)->group("Without effect"));
  };
  add("--tensor-split", "share of each GPU (-ts): one GPU is used");
  add("--split-mode", "how several GPUs share a model (-sm): one GPU is used");
  add("--flash-attn", "on, off or auto (-fa): always on");
  gpu_flags.back()->expected(0, 1);
}

Expected<PlacementRequest> ModelFlags::placement() const {
  PlacementRequest p;
  p.fit = fit == "on";
  p.margin_bytes = uint64_t(fit_margin_mib) << 20;
  p.cpu_expert_layers = all_experts_on_cpu ? std::numeric_limits<int32_t>::max() : cpu_expert_layers;
  if (gpu_layers == "auto" || gpu_layers == "-1") return p;
  if (gpu_layers == "all" || gpu_layers == "-2") {
    p.gpu_layers = std::numeric_limits<int32_t>::max();
    return p;
  }
  char* end = nullptr;
  const long layers = std::strtol(gpu_layers.c_str(), &end, 10);
  if (gpu_layers.empty() || *end != '\0' || layers < 0 || layers > std::numeric_limits<int32_t>::max())
    return make_error("--gpu-layers '", gpu_layers, "' is not a number, auto or all");
  p.gpu_layers = int32_t(layers);
  return p;
}

Expected<EngineOptions> ModelFlags::options() const {
  EngineOptions o;
  o.model_path = model;
  o.device = device;
  o.gpu.index = gpu;
  auto placed = placement();
  if (!placed) return placed.error();
  o.placement = *placed;
  o.use_mmap = !no_mmap;
  o.prefetch = prefetch;
  o.cpu.threads = threads;
  if (!cpu_level.empty()) {
    o.cpu.level = parse_cpu_level(cpu_level);
    if (!o.cpu.level)
      return make_error("--cpu-level '", cpu_level, "' is unknown; use portable, avx2 or avx512");
  }
  o.context_tokens = context;
  o.max_sessions = sessions;
  o.batch_tokens = std::min(batch, ubatch);
  o.delta_chunk = chunk;
  auto kv = kv_type(cache_type);
  if (!kv) return kv.error();
  o.kv_type = *kv;
  if (!cache_type_v.empty() && cache_type_v != cache_type)
    return make_error("--cache-type-v is ", cache_type_v, " but --cache-type-k is ", cache_type,
                      "; both must be the same");
  for (const CLI::Option* flag : gpu_flags)
    if (flag->count() > 0)
      std::fprintf(stderr, "deltawing: warning: --%s has no effect\n", flag->get_lnames().front().c_str());
  const bool wants_gpu = gpu_layers != "auto" && gpu_layers != "0";
  if (device == "auto" && (wants_gpu || cpu_expert_layers >= 0 || all_experts_on_cpu))
    if (auto gpus = list_gpus(); !gpus)
      std::fprintf(stderr, "deltawing: warning: %s has no effect: %s\n", wants_gpu ? "-ngl" : "--n-cpu-moe",
                   gpus.error().message.c_str());
  return o;
}

void SamplingFlags::add_to(CLI::App& app) {
  auto add = [&](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->capture_default_str();
  };
  add("--temp", options.temperature, "temperature; 0: greedy");
  add("--top-k", options.top_k, "keep the k most likely tokens; 0: all");
  add("--top-p", options.top_p, "keep the most likely tokens up to this mass; 1: off");
  add("--min-p", options.min_p, "drop tokens less likely than this share of the best; 0: off");
  add("--typical", options.typical_p, "locally typical sampling up to this mass; 1: off");
  add("--repeat-penalty", options.repetition_penalty, "divide the logits of recent tokens by this; 1: off");
  add("--presence-penalty", options.presence_penalty, "subtract from the logits of recent tokens");
  add("--frequency-penalty", options.frequency_penalty, "the same, for each time the token occurred");
  add("--repeat-last-n", options.penalty_window, "tokens the penalties look at; -1: all");
  add("--seed", seed, "seed of the random draws; -1: from the clock");
  app.add_option("--logit-bias", bias, "TOKEN_ID=VALUE, added to that token's logit (repeatable)");
}

Expected<SamplingOptions> SamplingFlags::resolved() const {
  SamplingOptions o = options;
  o.seed = seed >= 0 ? uint64_t(seed) : uint64_t(std::chrono::system_clock::now().time_since_epoch().count());
  for (const std::string& text : bias) {
    const size_t equals = text.find('=');
    char* end_of_id = nullptr;
    char* end_of_value = nullptr;
    const long id = std::strtol(text.c_str(), &end_of_id, 10);
    const float value =
        equals == std::string::npos ? 0 : std::strtof(text.c_str() + equals + 1, &end_of_value);
    if (equals == std::string::npos || equals == 0 || end_of_id != text.c_str() + equals ||
        end_of_value == text.c_str() + equals + 1 || *end_of_value != '\0')
      return make_error("--logit-bias '", text, "' is not of the form TOKEN_ID=VALUE");
    o.logit_bias.emplace_back(int32_t(id), value);
  }
  return o;
}

Expected<std::unique_ptr<Engine>> create_engine(EngineOptions options) {
  ProgressLine line;
  options.progress = [&line](const char* stage, uint64_t done, uint64_t total) {
    line.update(stage, done, total);
  };
  return Engine::create(options);
}

void add_prompt_flags(CLI::App& app, std::string& system, std::string& template_file, int32_t& max_tokens,
                      std::vector<std::string>& stops) {
  app.add_option("--system", system, "system message (-sys)");
  app.add_option("--chat-template-file", template_file, "a Jinja template instead of the file's own");
  app.add_option("-n,--predict,--n-predict", max_tokens, "tokens to generate; -1: until the end")
      ->check(CLI::Range(-1, 1 << 30))
      ->capture_default_str();
  app.add_option("--stop", stops, "end when this text appears (repeatable)")->expected(1)->take_all();
}

void finish_flags(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    for (CLI::Option* option : command->get_options()) {
      if (option->get_lnames().empty() || option == command->get_help_ptr()) continue;
      option->envname(environment_name(option->get_lnames().front()));
      if (option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw &&
          option->get_expected_max() <= 1)
        option->take_last();
    }
}

}  // namespace dw
