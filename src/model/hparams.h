// The sizes of a Qwen3-Next model, read from the metadata of a GGUF file (architecture `qwen3next`) and
// checked for consistency. Nothing is assumed of the published 80B model.
#pragma once

#include <cstdint>
#include <vector>

#include "base/expected.h"
#include "gguf/file.h"

namespace dw {

struct HyperParameters {
  int32_t hidden = 0;
  int32_t vocabulary = 0;
  int32_t context_length = 0;  // what the model was made for
  float norm_eps = 1e-6f;
  std::vector<bool> recurrent;  // [layers of the trunk]: true = Gated DeltaNet, false = gated attention
  int32_t mtp_layers = 0;       // blocks after the trunk

  int32_t heads = 0, kv_heads = 0, head_dim = 0;  // attention
  int32_t rope_dims = 0;
  float rope_base = 1e7f;

  int32_t k_heads = 0, v_heads = 0, k_dim = 0, v_dim = 0;  // delta rule
  int32_t conv_taps = 0;

  int32_t expert_count = 0, top_k = 0;
  bool normalise_experts = true;               // the weights of the chosen experts sum to 1
  int32_t expert_width = 0, shared_width = 0;  // shared_width 0: no shared expert

  int32_t layer_count() const { return int32_t(recurrent.size()); }
  int32_t recurrent_layer_count() const;
  int32_t attention_layer_count() const { return layer_count() - recurrent_layer_count(); }  // of the trunk
  int64_t channels() const { return 2 * int64_t(k_heads) * k_dim + int64_t(v_heads) * v_dim; }
  int64_t delta_width() const { return int64_t(v_heads) * v_dim; }
  int64_t attention_width() const { return int64_t(heads) * head_dim; }
};

// Errors name the key: absent, of the wrong type, out of range, or at odds with another.
Expected<HyperParameters> read_hyper_parameters(const gguf::File& file);

}  // namespace dw
