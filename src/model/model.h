// Qwen3-Next: embedding, layers of (mixer + mixture of experts), output head; 36 of 48 mixers are Gated
// DeltaNet, 12 are gated softmax attention in the published model. One forward pass takes a ragged batch:
// pieces of prompts and single tokens of any number of sequences. Source: transformers
// modeling_qwen3_next.py.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backend/device.h"
#include "model/hparams.h"
#include "model/placement.h"
#include "model/state.h"
#include "model/top_logits.h"
#include "model/weights.h"

namespace dw {

struct Batch {
  std::vector<int32_t> tokens;      // ids; rows of the batch
  std::vector<ops::Span> spans;     // cover the rows, in order; each slot at most once
  std::vector<int32_t> logit_rows;  // rows whose logits are wanted
};

inline constexpr int32_t kDeviceChunk = -1;  // what the device is fastest with

struct ModelOptions {
  int32_t max_batch_tokens = 512;      // rows of a forward pass
  int32_t delta_chunk = kDeviceChunk;  // tokens a chunk of the delta rule in prefill; 0: token by token
  int32_t min_chunked_tokens = 8;      // shorter spans run token by token
  int32_t head_rows = 32;              // rows of logits computed at a time; more are done in rounds
};

class Model {
 public:
  // The file must outlive the model (weights may lie in its mapping).
  static Expected<Model> load(const gguf::File& file, DeviceList devices, const Placement& placement,
                              const ModelOptions& options,
                              const std::function<void(uint64_t, uint64_t)>& progress = {});
  static Expected<Model> load(const gguf::File& file, Device& device, const ModelOptions& options,
                              const std::function<void(uint64_t, uint64_t)>& progress = {});

  const HyperParameters& hyper_parameters() const { return h_; }
  const Weights& weights() const { return weights_; }
  const ModelOptions& options() const { return options_; }

  // Receives (i, logits of row batch.logit_rows[i]) in order; logits: host, [vocabulary], valid during the
  // call.
  using LogitSink = std::function<void(size_t index, std::span<float> logits)>;

  // Runs the batch and advances the state of its sequences.
  void forward(const Batch& batch, StateStore& state, const LogitSink& sink);

  // The same with the best k tokens of each row instead of all logits; only where most_top_logits() >= k, and
  // for at most head_rows rows. Until the next pass read_logits() gives all logits of a row.
  using TopSink = std::function<void(size_t index, const TopLogits& top)>;
  int32_t most_top_logits() const;
  void forward_top(const Batch& batch, StateStore& state, int32_t k, const TopSink& sink);
  void read_logits(size_t index, std::span<float> logits);

  // MTP: drafts from the trunk's hidden rows of the last forward pass (kept for every row of the batch). For
  // row i of that batch, next_tokens[i] is the token that follows it; logits of the token after that for
  // logit_rows. Same spans and pages. Only when has_mtp().
  bool has_mtp() const { return !weights_.mtp.empty(); }
  void forward_mtp(const Batch& batch, std::span<const int32_t> next_tokens, StateStore& state,
                   const LogitSink& sink);

  // Bytes of the workspace of a forward pass on one device, all allocated by load().
  static uint64_t workspace_bytes(const HyperParameters& h, const ModelOptions& options);

 private:
  struct Workspace {
    Buffer x;            // [tokens, hidden] residual
    Buffer wide;         // [tokens, max(channels, 2 * attention width)]
    Buffer side;         // [tokens, max(delta width, 2 * KV width)]
    Buffer small;        // [tokens, 2 v_heads]
    Buffer logits;       // [head_rows, vocabulary]
    Buffer top;          // of r rows: [r, k] ids, [r, k] values, [r, 2] maximum and sum; one after the other
    Buffer trunk;        // MTP: [tokens, hidden], the trunk's last residual
    Buffer pair;         // MTP: [tokens, 2 hidden]
    ActivationBuffer h;  // [tokens, hidden] after a norm
    ActivationBuffer mixed;   // [tokens, max(delta width, attention width)]
    ActivationBuffer joined;  // MTP: [tokens, 2 hidden]
  };
  // A device that takes part, and its working memory.
  struct Stage {
    Device* device = nullptr;  // nullptr: nothing lies there
    Workspace work;
  };
  Expected<void> allocate_workspace(Stage& stage);
  void reserve(int64_t tokens);
  void begin_batch(const ops::Batch& batch);
  void run_pass(uint64_t key, const std::function<void()>& issue);
  Stage& move_to(int32_t stage, int64_t tokens);
  void trunk(const Batch& batch, StateStore& state);
  void top(int32_t rows, int32_t k);
  void run_layer(const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state);
  void delta_layer(Stage& s, const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state);
  void attention_layer(Stage& s, const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state);
  void mtp_block(const MtpWeights& m, const Batch& batch, std::span<const int32_t> next_tokens,
                 StateStore& state);
  ops::Norm norm_op(const Stage& s, const float* weight, int64_t tokens) const;
  ops::DeltaMixer delta_op(const Device& device, int64_t tokens) const;
  ops::Attention attention_op(int64_t tokens) const;
  ops::Moe expert_op(const Stage& s, const LayerWeights& w, int64_t tokens) const;
  ops::Batch batch_op(const Batch& batch, std::span<const int32_t> ids, const StateStore& state) const;
  uint64_t pass_key(const StateStore& state, bool mtp) const;
  bool one_round(const Batch& batch) const;  // all logits in one pass of the head
  void head(const ops::Matrix& output, const float* norm, std::span<const int32_t> rows);
  void give_logits(const ops::Matrix& output, const float* norm, const Batch& batch, const LogitSink& sink);
  void check(const Batch& batch, const StateStore& state) const;

  std::vector<Stage> stages_;  // by device
  Placement placement_;
  int32_t x_stage_ = 0;        // where the residual of the running pass lies
  std::vector<float> host_x_;  // [tokens, hidden], on its way between devices
  ModelOptions options_;
  HyperParameters h_;
  Weights weights_;
  std::vector<float> host_logits_;  // [head_rows, vocabulary]
  std::vector<std::byte> host_top_;
};

}  // namespace dw
