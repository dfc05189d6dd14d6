#include "model/model.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace dw {
namespace {

// Rows of logits held on the device at a time; more are computed in rounds.
constexpr int64_t kHeadRows = 32;

int64_t wide_columns(const HyperParameters& h) {
  return std::max(h.channels(), 2 * h.attention_width());
}
int64_t side_columns(const HyperParameters& h) {
  return std::max(h.delta_width(), 2 * int64_t(h.kv_heads) * h.head_dim);
}
int64_t mixed_columns(const HyperParameters& h) {
  return std::max(h.delta_width(), h.attention_width());
}

ops::Activations shaped(const ActivationBuffer& buffer, int64_t tokens, int64_t columns) {
  ops::Activations a = buffer.rows(tokens);
  a.columns = columns;
  return a;
}

}  // namespace

uint64_t Model::workspace_bytes(const HyperParameters& h, const ModelOptions& options) {
  const int64_t t = options.max_batch_tokens;
  uint64_t bytes =
      uint64_t(t) * (h.hidden + wide_columns(h) + side_columns(h) + 2 * h.v_heads) * sizeof(float);
  bytes += 2 * uint64_t(kHeadRows) * h.vocabulary * sizeof(float);  // on the device and on the host
  bytes += ActivationBuffer::size_bytes(t, h.hidden) + ActivationBuffer::size_bytes(t, mixed_columns(h));
  if (h.mtp_layers > 0)
    bytes +=
        uint64_t(t) * 3 * h.hidden * sizeof(float) + ActivationBuffer::size_bytes(t, 2 * int64_t(h.hidden));
  return bytes;
}

Expected<Model> Model::load(const gguf::File& file, Device& device, const ModelOptions& options,
                            const std::function<void(uint64_t, uint64_t)>& progress) {
  Model model;
  model.device_ = &device;
  model.options_ = options;
  auto h = read_hyper_parameters(file);
  if (!h) return h.error();
  model.h_ = std::move(*h);
  auto weights = bind_weights(file, model.h_, device, progress);
  if (!weights) return weights.error();
  model.weights_ = std::move(*weights);
  if (auto allocated = model.allocate_workspace(); !allocated) return allocated.error();
  return model;
}

Expected<void> Model::allocate_workspace() {
  const int64_t t = options_.max_batch_tokens;
  struct Request {
    Buffer* buffer;
    int64_t floats;
  };
  const int64_t mtp = h_.mtp_layers > 0 ? t * h_.hidden : 0;
  const Request requests[] = {
      {&work_.x, t * h_.hidden},
      {&work_.wide, t * wide_columns(h_)},
      {&work_.side, t * side_columns(h_)},
      {&work_.small, t * 2 * h_.v_heads},
      {&work_.logits, kHeadRows * int64_t(h_.vocabulary)},
      {&work_.trunk, mtp},
      {&work_.pair, 2 * mtp},
  };
  for (const Request& request : requests) {
    auto buffer = device_->allocate(uint64_t(request.floats) * sizeof(float));
    if (!buffer) return buffer.error();
    *request.buffer = std::move(*buffer);
  }
  host_logits_.resize(size_t(kHeadRows) * size_t(h_.vocabulary));
  struct Rows {
    ActivationBuffer* buffer;
    int64_t columns;
  };
  const Rows rows[] = {{&work_.h, h_.hidden},
                       {&work_.mixed, mixed_columns(h_)},
                       {&work_.joined, h_.mtp_layers > 0 ? 2 * int64_t(h_.hidden) : 0}};
  for (const Rows& r : rows) {
    if (r.columns == 0) continue;
    auto buffer = ActivationBuffer::allocate(*device_, t, r.columns);
    if (!buffer) return buffer.error();
    *r.buffer = std::move(*buffer);
  }
  for (const LayerWeights& w : weights_.layers) device_->reserve(expert_op(w, t));
  device_->reserve(delta_op(t));
  device_->reserve(attention_op(t));
  return {};
}

void Model::check(const Batch& batch, const StateStore& state) const {
  const int32_t tokens = int32_t(batch.tokens.size());
  DW_CHECK(tokens > 0 && tokens <= options_.max_batch_tokens, "batch size out of range");
  int32_t row = 0;
  for (const ops::Span& span : batch.spans) {
    DW_CHECK(span.first_row == row && span.row_count > 0, "spans must cover the batch in order");
    DW_CHECK(span.slot >= 0 && span.slot < state.options().slots, "slot out of range");
    row += span.row_count;
  }
  DW_CHECK(row == tokens, "spans must cover the batch");
  for (int32_t token : batch.tokens) DW_CHECK(token >= 0 && token < h_.vocabulary, "token id out of range");
  for (int32_t r : batch.logit_rows) DW_CHECK(r >= 0 && r < tokens, "logit row out of range");
}

ops::Norm Model::norm_op(const float* weight, int64_t tokens) const {
  ops::Norm op;
  op.x = work_.x.as<const float>();
  op.weight = weight;
  op.eps = h_.norm_eps;
  op.out = shaped(work_.h, tokens, h_.hidden);
  return op;
}

void Model::forward(const Batch& batch, StateStore& state, const LogitSink& sink) {
  check(batch, state);
  const int64_t tokens = int64_t(batch.tokens.size());
  device_->begin_batch(batch_op(batch, batch.tokens, state));
  device_->run_pass(pass_key(state, false), [&] {
    device_->embed({weights_.embedding, batch.tokens.data(), tokens, work_.x.as<float>()});
    for (int32_t i = 0; i < h_.layer_count(); ++i) run_layer(weights_.layers[size_t(i)], i, batch, state);
    if (has_mtp())
      device_->copy_on_device(work_.trunk.data(), work_.x.data(),
                              uint64_t(tokens) * h_.hidden * sizeof(float));
    device_->begin_layer(-1);
    if (one_round(batch)) head(weights_.output, weights_.output_norm, batch.logit_rows);
  });
  give_logits(weights_.output, weights_.output_norm, batch, sink);
}

ops::Batch Model::batch_op(const Batch& batch, std::span<const int32_t> ids, const StateStore& state) const {
  return {ids, batch.spans, batch.logit_rows, state.options().page_tokens};
}

// A pass uses addresses of this model and of the state, and no others.
uint64_t Model::pass_key(const StateStore& state, bool mtp) const {
  const auto model = uint64_t(reinterpret_cast<uintptr_t>(work_.x.data()));
  return (model ^ std::rotl(state.address(), 20)) * 2 + (mtp ? 1 : 0);
}

bool Model::one_round(const Batch& batch) const {
  return !batch.logit_rows.empty() && batch.logit_rows.size() <= size_t(kHeadRows);
}

void Model::run_layer(const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  device_->begin_layer(layer);
  if (w.recurrent)
    delta_layer(w, layer, batch, state);
  else
    attention_layer(w, layer, batch, state);
  device_->norm_moe(norm_op(w.post_norm, tokens), expert_op(w, tokens));
}

// The sizes of the mixers' ops; data comes with the call.
ops::DeltaMixer Model::delta_op(int64_t tokens) const {
  ops::DeltaMixer op;
  op.k_heads = h_.k_heads;
  op.v_heads = h_.v_heads;
  op.k_dim = h_.k_dim;
  op.v_dim = h_.v_dim;
  op.conv_taps = h_.conv_taps;
  op.chunk = options_.delta_chunk;
  op.min_chunked_tokens = options_.min_chunked_tokens;
  op.tokens = tokens;
  op.eps = h_.norm_eps;
  return op;
}

ops::Attention Model::attention_op(int64_t tokens) const {
  ops::Attention op;
  op.heads = h_.heads;
  op.kv_heads = h_.kv_heads;
  op.key_dim = h_.head_dim;
  op.value_dim = h_.head_dim;
  op.rope_dims = h_.rope_dims;
  op.rope_base = h_.rope_base;
  op.eps = h_.norm_eps;
  op.scale = 1 / std::sqrt(float(h_.head_dim));
  op.tokens = tokens;
  return op;
}

void Model::delta_layer(const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  float* qkv = work_.wide.as<float>();
  float* z = work_.side.as<float>();
  std::vector<ops::Linear> projections;
  if (w.qkv) {
    projections.push_back({w.qkv, qkv});
    projections.push_back({w.z, z});
  } else {
    // Legacy ssm_in: per K head the rows of q, k, v, z; each block of rows goes where the split layout has
    // it.
    const int64_t ratio = h_.v_heads / h_.k_heads, value_rows = ratio * h_.v_dim;
    const int64_t keys = int64_t(h_.k_heads) * h_.k_dim;
    int64_t first_row = 0;
    auto take = [&](int64_t rows, float* out, int64_t stride) {
      projections.push_back({w.ssm_in.slice(first_row, rows), out, stride});
      first_row += rows;
    };
    for (int64_t head = 0; head < h_.k_heads; ++head) {
      take(h_.k_dim, qkv + head * h_.k_dim, h_.channels());
      take(h_.k_dim, qkv + keys + head * h_.k_dim, h_.channels());
      take(value_rows, qkv + 2 * keys + head * value_rows, h_.channels());
      take(value_rows, z + head * value_rows, h_.delta_width());
    }
  }
  projections.push_back({w.ba, work_.small.as<float>()});
  device_->norm_linear(norm_op(w.attn_norm, tokens), projections);

  ops::DeltaMixer op = delta_op(tokens);
  op.spans = batch.spans;
  op.qkv = qkv;
  op.z = z;
  op.ba = work_.small.as<const float>();
  op.conv_weight = w.conv;
  op.dt_bias = w.dt_bias;
  op.a = w.a;
  op.norm = w.delta_norm;
  op.conv_state = state.conv_state(layer);
  op.state = state.delta_state(layer);
  op.out = shaped(work_.mixed, tokens, h_.delta_width());
  device_->delta_mixer(op);

  const ops::Linear output[] = {{w.delta_output, work_.x.as<float>(), 0, true}};
  device_->linear(op.out, output);
}

void Model::attention_layer(const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  const int64_t kv_columns = int64_t(h_.kv_heads) * h_.head_dim;
  float* k = work_.side.as<float>();
  float* v = k + tokens * kv_columns;
  const ops::Linear projections[] = {{w.q_gate, work_.wide.as<float>()}, {w.k, k}, {w.v, v}};
  device_->norm_linear(norm_op(w.attn_norm, tokens), projections);

  ops::Attention op = attention_op(tokens);
  op.spans = batch.spans;
  op.q_gate = work_.wide.as<const float>();
  op.k = k;
  op.v = v;
  op.q_norm = w.q_norm;
  op.k_norm = w.k_norm;
  op.kv_type = state.options().kv_type;
  op.page_tokens = state.options().page_tokens;
  op.k_cache = state.k_cache(layer);
  op.v_cache = state.v_cache(layer);
  op.out = shaped(work_.mixed, tokens, h_.attention_width());
  device_->attention(op);

  const ops::Linear output[] = {{w.attn_output, work_.x.as<float>(), 0, true}};
  device_->linear(op.out, output);
}

ops::Moe Model::expert_op(const LayerWeights& w, int64_t tokens) {
  ops::Moe op;
  op.expert_count = h_.expert_count;
  op.top_k = h_.top_k;
  op.normalise = h_.normalise_experts;
  op.x = shaped(work_.h, tokens, h_.hidden);
  op.router = w.router;
  op.gate = w.gate;
  op.up = w.up;
  op.down = w.down;
  op.gate_up = w.gate_up;
  op.shared_gate = w.shared_gate;
  op.shared_up = w.shared_up;
  op.shared_down = w.shared_down;
  op.shared_router = w.shared_router;
  op.out = work_.x.as<float>();
  return op;
}

// Logits of up to kHeadRows rows, into the workspace.
void Model::head(const ops::Matrix& output, const float* norm_weight, std::span<const int32_t> rows) {
  ops::Norm op = norm_op(norm_weight, int64_t(rows.size()));
  op.rows = rows.data();
  device_->norm(op);
  const ops::Linear linear[] = {{output, work_.logits.as<float>()}};
  device_->linear(op.out, linear);
}

void Model::give_logits(const ops::Matrix& output, const float* norm_weight, const Batch& batch,
                        const LogitSink& sink) {
  const std::span<const int32_t> rows = batch.logit_rows;
  const size_t vocabulary = size_t(h_.vocabulary);
  for (size_t first = 0; first < rows.size(); first += kHeadRows) {
    const size_t count = std::min<size_t>(kHeadRows, rows.size() - first);
    if (!one_round(batch)) head(output, norm_weight, rows.subspan(first, count));
    device_->copy_to_host(host_logits_.data(), work_.logits.data(), count * vocabulary * sizeof(float));
    for (size_t i = 0; i < count; ++i)
      sink(first + i, std::span<float>(host_logits_.data() + i * vocabulary, vocabulary));
  }
  device_->synchronize();
}

void Model::forward_mtp(const Batch& batch, std::span<const int32_t> next_tokens, StateStore& state,
                        const LogitSink& sink) {
  DW_CHECK(has_mtp(), "the model has no MTP block");
  check(batch, state);
  DW_CHECK(next_tokens.size() == batch.tokens.size(), "one next token a row");
  const MtpWeights& m = weights_.mtp[0];
  device_->begin_batch(batch_op(batch, next_tokens, state));
  device_->run_pass(pass_key(state, true), [&] {
    mtp_block(m, batch, next_tokens, state);
    device_->begin_layer(-1);
    if (one_round(batch)) head(m.head, m.head_norm, batch.logit_rows);
  });
  give_logits(m.head, m.head_norm, batch, sink);
}

void Model::mtp_block(const MtpWeights& m, const Batch& batch, std::span<const int32_t> next_tokens,
                      StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  device_->begin_layer(h_.layer_count());
  // joined = [ norm(embedding of the next token) * enorm ; norm(norm(trunk) * output_norm) * hnorm ]
  ops::Norm op;
  op.eps = h_.norm_eps;
  auto normed_into_half = [&](const float* x, const float* weight, int64_t offset) {
    op.x = x;
    op.weight = weight;
    op.out = shaped(work_.h, tokens, h_.hidden);
    device_->norm(op);
    if (offset < 0) return;
    for (int64_t t = 0; t < tokens; ++t)
      device_->copy_on_device(work_.pair.as<float>() + t * 2 * h_.hidden + offset,
                              op.out.values + t * h_.hidden, uint64_t(h_.hidden) * sizeof(float));
  };
  device_->embed({m.embedding, next_tokens.data(), tokens, work_.x.as<float>()});
  normed_into_half(work_.x.as<const float>(), m.embedding_norm, 0);
  normed_into_half(work_.trunk.as<const float>(), weights_.output_norm, -1);
  device_->copy_on_device(work_.x.data(), op.out.values, uint64_t(tokens) * h_.hidden * sizeof(float));
  normed_into_half(work_.x.as<const float>(), m.hidden_norm, h_.hidden);
  device_->pack(work_.pair.as<const float>(), shaped(work_.joined, tokens, 2 * int64_t(h_.hidden)));
  const ops::Linear project[] = {{m.project, work_.x.as<float>()}};
  device_->linear(shaped(work_.joined, tokens, 2 * int64_t(h_.hidden)), project);

  run_layer(m.block, h_.layer_count(), batch, state);
}

}  // namespace dw
