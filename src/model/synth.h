// Random-weight Qwen3-Next files: the real tensor names, shapes, metadata and type mixes with weights that
// keep activations in a sane range, for benchmarks and tests. The same options and seed give the same file on
// every machine and for every number of threads.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/expected.h"
#include "gguf/file.h"
#include "model/file_type.h"
#include "model/hparams.h"

namespace dw {

struct SynthPreset {
  std::string_view name;
  std::string_view description;
  HyperParameters shape;
};
// "80b", "coder-next", "mini", "tiny".
std::vector<SynthPreset> synth_presets();
Expected<HyperParameters> find_synth_preset(std::string_view name);

constexpr int32_t kSynthAttentionInterval = 4;
// Changes the number of trunk layers, keeping every fourth an attention layer.
void set_layer_count(HyperParameters& h, int32_t count);

struct SynthOptions {
  HyperParameters shape;
  std::string name = "synthetic";
  std::string types = "Q4_K_M";  // a file type, a tensor type (for all matrices), or a size such as "4.5bit"
  std::vector<TypeOverride> overrides;
  uint64_t seed = 1;
  int threads = 0;  // 0: all cores
  bool tied = false;
  const gguf::File* vocabulary =
      nullptr;  // take tokenizer.* from this file; its size becomes shape.vocabulary
  std::function<void(uint64_t, uint64_t)> progress;  // bytes written, bytes in all
  std::function<bool()> interrupted;                 // true: stop with an Error
};

struct SynthReport {
  std::string_view file_type;
  uint64_t parameter_count = 0, file_bytes = 0;
  double bits_per_weight = 0;
};

// Errors: sizes that do not fit each other, an unknown type, writing.
Expected<SynthReport> synthesize(const std::string& path, const SynthOptions& options);

}  // namespace dw
