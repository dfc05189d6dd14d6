// Flags that several commands share, under the names users know from llama.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/expected.h"
#include "engine/engine.h"
#include "engine/sampler.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace dw {

struct ModelFlags {
  std::string model;
  int32_t context = -1;  // not given
  int32_t threads = 0;
  int32_t batch = 2048;  // accepted for compatibility; the forward pass takes `ubatch` rows
  int32_t ubatch = 512;
  int32_t sessions = 1;
  int32_t chunk = kDeviceChunk;
  std::string cache_type = "f16", cache_type_v;
  std::string cpu_level, device = "auto";
  std::string gpu_layers = "auto", fit = "on";
  int32_t cpu_expert_layers = -1;
  bool all_experts_on_cpu = false;
  int32_t gpu = 0;
  int32_t fit_margin_mib = 1024;
  bool no_mmap = false;
  bool prefetch = false;
  std::vector<CLI::Option*> gpu_flags;
  std::vector<std::string> gpu_values;

  void add_to(CLI::App& app, bool model_required = true);
  // Warns of flags that have no effect.
  Expected<EngineOptions> options() const;

 private:
  void add_gpu_flags(CLI::App& app);
  Expected<PlacementRequest> placement() const;
};

struct SamplingFlags {
  SamplingOptions options;
  int64_t seed = -1;              // -1: from the clock
  std::vector<std::string> bias;  // TOKEN=VALUE

  void add_to(CLI::App& app);
  Expected<SamplingOptions> resolved() const;
};

// Creates the engine with a progress line on stderr.
Expected<std::unique_ptr<Engine>> create_engine(EngineOptions options);

// --system, --chat-template-file, --predict, --stop.
void add_prompt_flags(CLI::App& app, std::string& system, std::string& template_file, int32_t& max_tokens,
                      std::vector<std::string>& stops);

// Lets each long flag of every command read DELTAWING_<NAME> from the environment, and the last of several
// values count.
void finish_flags(CLI::App& app);

}  // namespace dw
