// The mixture-of-experts block on the CPU: route, group the tokens by expert, run each chosen expert once
// over its tokens (so its weights are read once), then sum per token in rising expert order, the shared
// expert last: the order does not depend on the batch.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/mixers.h"

namespace dw::cpu {

// Scratch memory of one moe() call; sized by prepare(), reused from call to call.
class MoeWorkspace {
 public:
  // Room for `tokens` tokens of a block with these sizes (threads of the pool that will run it).
  void prepare(const ops::Moe& op, int thread_count);
  static uint64_t size_bytes(int64_t tokens, int32_t expert_count, int32_t top_k, int64_t width,
                             int64_t shared_width, int thread_count);

  std::vector<float> logits;                    // [tokens, expert_count]
  std::vector<int32_t> experts;                 // [tokens, top_k]
  std::vector<float> weights;                   // [tokens, top_k]
  std::vector<float> shared_weight;             // [tokens]
  std::vector<int32_t> first_pair;              // [expert_count + 1]: where an expert's pairs begin
  std::vector<int32_t> active;                  // experts with at least one token
  std::vector<int32_t> pair_token;              // [pairs]
  std::vector<float> pair_weight;               // [pairs]
  std::vector<float> gate_up;                   // [pairs, 2 width]
  std::vector<float> shared_gate_up;            // [tokens, 2 shared width]
  std::vector<std::vector<float>> thread_rows;  // per thread: [tokens, row chunk]
  std::vector<std::vector<int32_t>> pair_rows;  // per thread: [tokens], row numbers of one expert's pairs
  // Inputs of the down matrices.
  std::vector<float> values, shared_values;
  std::vector<int8_t> quants, shared_quants;
  std::vector<float> scales, shared_scales;
  std::vector<int16_t> sums, shared_sums;
};

void moe(const Context& context, const ops::Moe& op, MoeWorkspace& workspace);

}  // namespace dw::cpu
