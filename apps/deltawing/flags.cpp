#include "flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "console.h"

namespace dw {
namespace {

// Names a flag's environment variable after its long name.
CLI::Option* with_environment(CLI::Option* option) {
  std::string name = "DELTAWING_";
  for (char c : option->get_lnames().at(0))
    name += c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
  return option->envname(name);
}

Expected<ops::KvType> kv_type(const std::string& name) {
  if (name == "f16") return ops::KvType::kF16;
  if (name == "q8_0") return ops::KvType::kQ8_0;
  if (name == "f32") return ops::KvType::kF32;
  return make_error("the KV cache type '", name, "' is unknown; use f16, q8_0 or f32");
}

}  // namespace

void ModelFlags::add_to(CLI::App& app, bool model_required) {
  auto* path = with_environment(app.add_option("-m,--model", model, "GGUF file (any part of a split set)"));
  if (model_required) path->required();
  with_environment(
      app.add_option("-c,--ctx-size", context, "context in tokens; 0: what the model was made for")
          ->capture_default_str());
  with_environment(
      app.add_option("-t,--threads", threads, "CPU threads; 0: one a core")->capture_default_str());
  with_environment(
      app.add_option("-b,--batch-size", batch, "largest batch in tokens")->capture_default_str());
  with_environment(
      app.add_option("--ubatch-size", ubatch, "rows of one forward pass (-ub)")->capture_default_str());
  with_environment(
      app.add_option("--parallel", sessions, "sequences at a time (-np)")->capture_default_str());
  with_environment(
      app.add_option("--chunk", chunk, "tokens a chunk of the delta rule in prefill: 0, 16, 32, 64, 128")
          ->check(CLI::IsMember({0, 16, 32, 64, 128}))
          ->capture_default_str());
  with_environment(app.add_option("--cache-type-k", cache_type, "KV cache: f16, q8_0 or f32 (-ctk)")
                       ->capture_default_str());
  with_environment(
      app.add_option("--cache-type-v", cache_type_v, "must be the same as --cache-type-k (-ctv)"));
  with_environment(
      app.add_option("--gpu-layers", gpu_layers, "layers on the GPU (-ngl)")->capture_default_str());
  with_environment(
      app.add_option("--cpu-level", cpu_level, "portable, avx2 or avx512; default: the best there is"));
  app.add_flag("--no-mmap", no_mmap, "read the file into memory instead of mapping it");
  app.add_flag("--prefetch", prefetch, "ask the system to read the mapped file ahead");
}

Expected<EngineOptions> ModelFlags::options() const {
  EngineOptions o;
  o.model_path = model;
  o.device = device;
  o.use_mmap = !no_mmap;
  o.prefetch = prefetch;
  o.cpu.threads = threads;
  if (!cpu_level.empty()) {
    o.cpu.level = parse_cpu_level(cpu_level);
    if (!o.cpu.level)
      return make_error("--cpu-level '", cpu_level, "' is unknown; use portable, avx2 or avx512");
  }
  if (context < 0) return make_error("the context (-c) is ", context, "; it must not be negative");
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
  if (gpu_layers > 0)
    std::fprintf(stderr, "deltawing: warning: this build has no GPU backend; -ngl %d has no effect\n",
                 gpu_layers);
  return o;
}

void SamplingFlags::add_to(CLI::App& app) {
  auto add = [&](const char* name, auto& value, const char* help) {
    with_environment(app.add_option(name, value, help)->capture_default_str());
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

std::vector<std::string> expand_short_flags(int argc, char** argv) {
  static const std::map<std::string, std::string> kLong = {
      {"-ub", "--ubatch-size"}, {"-ctk", "--cache-type-k"},  {"-ctv", "--cache-type-v"},
      {"-np", "--parallel"},    {"-ngl", "--gpu-layers"},    {"-sys", "--system"},
      {"-fa", "--flash-attn"},  {"-pp", "--prompt-lengths"}, {"-tg", "--gen-lengths"},
      {"-kvu", "--kv-unified"},
  };
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto it = kLong.find(argument);
    arguments.push_back(it == kLong.end() ? argument : it->second);
  }
  return arguments;
}

}  // namespace dw
