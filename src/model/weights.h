// The weights of a model bound to a device: each tensor of the file checked for name, shape and type, and
// handed to the device. Layouts met in files: split attn_qkv + attn_gate or the legacy ssm_in (rows grouped
// per K head: q | k | v | z), separate or merged expert gate and up, tied or separate output.
#pragma once

#include <functional>
#include <vector>

#include "backend/device.h"
#include "base/expected.h"
#include "gguf/file.h"
#include "model/hparams.h"
#include "model/placement.h"

namespace dw {

// Pointers are device memory. A Matrix without data is absent.
struct LayerWeights {
  bool recurrent = false;
  const float* attn_norm = nullptr;  // [hidden]
  const float* post_norm = nullptr;  // [hidden]

  // Gated attention.
  ops::Matrix q_gate;             // [heads * 2 * head_dim, hidden]
  ops::Matrix k, v;               // [kv_heads * head_dim, hidden]
  ops::Matrix attn_output;        // [hidden, heads * head_dim]
  const float* q_norm = nullptr;  // [head_dim]
  const float* k_norm = nullptr;  // [head_dim]

  // Gated DeltaNet.
  ops::Matrix qkv;                    // [channels, hidden]
  ops::Matrix z;                      // [v_heads * v_dim, hidden]
  ops::Matrix ssm_in;                 // legacy: [channels + v_heads * v_dim, hidden], grouped per K head
  ops::Matrix ba;                     // [2 v_heads, hidden]
  ops::Matrix delta_output;           // [hidden, v_heads * v_dim]
  const float* conv = nullptr;        // [channels, conv_taps]
  const float* dt_bias = nullptr;     // [v_heads]
  const float* a = nullptr;           // [v_heads]
  const float* delta_norm = nullptr;  // [v_dim]

  // Mixture of experts.
  ops::Matrix router;          // [expert_count, hidden]
  ops::Matrix gate, up, down;  // [expert_width, hidden], the same, [hidden, expert_width]; per expert
  ops::Matrix gate_up;         // merged: [2 expert_width, hidden] per expert
  ops::Matrix shared_gate, shared_up, shared_down;
  const float* shared_router = nullptr;  // [hidden]
};

struct MtpWeights {
  LayerWeights block;
  ops::Matrix embedding;                  // the trunk's when the file has none of its own
  ops::Matrix head;                       // the same
  ops::Matrix project;                    // eh_proj [hidden, 2 hidden]: embedding half first
  const float* embedding_norm = nullptr;  // enorm
  const float* hidden_norm = nullptr;     // hnorm
  const float* head_norm = nullptr;       // shared_head_norm, else output_norm
};

struct Weights {
  ops::Matrix embedding;  // [vocabulary, hidden]
  ops::Matrix output;     // [vocabulary, hidden]; the embedding when tied
  const float* output_norm = nullptr;
  std::vector<LayerWeights> layers;
  std::vector<MtpWeights> mtp;  // 0 or 1
  std::vector<Buffer> vectors;  // owns the small fp32 tensors
  uint64_t matrix_bytes = 0;    // of all matrices
  uint64_t vector_bytes = 0;
};

// Binds every tensor; calls progress(done, total) with bytes bound so far. Errors name the tensor and what is
// wrong: absent, shape, a type that the engine cannot multiply.
Expected<Weights> bind_weights(const gguf::File& file, const HyperParameters& h, DeviceList devices,
                               const Placement& placement,
                               const std::function<void(uint64_t, uint64_t)>& progress = {});

// For a mapped file that memory cannot hold: reads the weights that every token uses (all but the experts and
// the embedding rows) into memory, in file order, and asks that they stay, at most `budget_bytes` of them; of
// the rest, faults read single pages from then on. Calls progress(done, total).
void load_dense_weights(const gguf::File& file, uint64_t budget_bytes,
                        const std::function<void(uint64_t, uint64_t)>& progress = {});

}  // namespace dw
