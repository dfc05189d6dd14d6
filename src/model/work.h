// The bytes a forward pass must move and the operations it must do, counted from the sizes of the model: what
// benchmarks divide by time. Each weight used is counted once a pass; of the experts, the number expected
// when routing is uniform: E (1 - (1 - k/E)^T) of E for T tokens.
#pragma once

#include "model/model.h"

namespace dw {

struct PassWork {
  double weight_bytes = 0;
  double state_bytes = 0;  // recurrent state, read and written
  double kv_bytes = 0;     // KV cache, read and written
  double operations = 0;   // multiply and add counted as two
  double bytes() const { return weight_bytes + state_bytes + kv_bytes; }
};

// A pass of `tokens` rows: `sequences` sequences of tokens / sequences rows each, at `depth` tokens before
// them; logits for `logit_rows` rows.
PassWork pass_work(const HyperParameters& h, const Weights& weights, ops::KvType kv_type, int64_t tokens,
                   int64_t sequences, int64_t depth, int64_t logit_rows);

}  // namespace dw
