// Flags that several commands share, under the names users know from llama.cpp. Each long flag also reads
// DELTAWING_<NAME> from the environment; the command line wins.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/expected.h"
#include "engine/engine.h"
#include "engine/sampler.h"

namespace CLI {
class App;
}

namespace dw {

struct ModelFlags {
  std::string model;
  int32_t context = 4096;
  int32_t threads = 0;
  int32_t batch = 2048;  // accepted for compatibility; the forward pass takes `ubatch` rows
  int32_t ubatch = 512;
  int32_t sessions = 1;
  int32_t chunk = 64;
  int32_t gpu_layers = 0;
  std::string cache_type = "f16", cache_type_v;
  std::string cpu_level, device = "cpu";
  bool no_mmap = false;
  bool prefetch = false;

  void add_to(CLI::App& app, bool model_required = true);
  Expected<EngineOptions> options() const;
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

// "-ub" and the other multi-letter flags with one dash become their long names, which the parser wants.
std::vector<std::string> expand_short_flags(int argc, char** argv);

}  // namespace dw
