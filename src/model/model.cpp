#include "model/model.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace dw {
namespace {

// Candidates a row that the workspace has room for.
constexpr int32_t kMostTop = 256;

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

uint64_t top_bytes(int64_t rows) {
  return uint64_t(rows) * (2 * kMostTop + 2) * sizeof(float);
}

}  // namespace

uint64_t Model::workspace_bytes(const HyperParameters& h, const ModelOptions& options) {
  const int64_t t = options.max_batch_tokens;
  uint64_t bytes =
      uint64_t(t) * (h.hidden + wide_columns(h) + side_columns(h) + 2 * h.v_heads) * sizeof(float);
  bytes += 2 * uint64_t(options.head_rows) * h.vocabulary * sizeof(float);  // on the device and on the host
  bytes += top_bytes(options.head_rows);
  bytes += ActivationBuffer::size_bytes(t, h.hidden) + ActivationBuffer::size_bytes(t, mixed_columns(h));
  if (h.mtp_layers > 0)
    bytes +=
        uint64_t(t) * 3 * h.hidden * sizeof(float) + ActivationBuffer::size_bytes(t, 2 * int64_t(h.hidden));
  return bytes;
}

Expected<Model> Model::load(const gguf::File& file, Device& device, const ModelOptions& options,
                            const std::function<void(uint64_t, uint64_t)>& progress) {
  auto h = read_hyper_parameters(file);
  if (!h) return h.error();
  Device* const devices[] = {&device};
  return load(file, devices, Placement::all_on(0, h->layer_count() + h->mtp_layers), options, progress);
}

Expected<Model> Model::load(const gguf::File& file, DeviceList devices, const Placement& placement,
                            const ModelOptions& options,
                            const std::function<void(uint64_t, uint64_t)>& progress) {
  Model model;
  model.options_ = options;
  model.placement_ = placement;
  auto h = read_hyper_parameters(file);
  if (!h) return h.error();
  model.h_ = std::move(*h);
  const size_t blocks = size_t(model.h_.layer_count() + model.h_.mtp_layers);
  DW_CHECK(placement.mixer.size() == blocks && placement.experts.size() == blocks,
           "a placement names a device for each block");
  auto weights = bind_weights(file, model.h_, devices, placement, progress);
  if (!weights) return weights.error();
  model.weights_ = std::move(*weights);
  model.stages_.resize(devices.size());
  std::vector<int32_t> used = placement.mixer;
  used.insert(used.end(), placement.experts.begin(), placement.experts.end());
  used.insert(used.end(), {placement.embedding, placement.head});
  for (int32_t d : used) {
    Stage& stage = model.stages_[size_t(d)];
    if (stage.device != nullptr) continue;
    stage.device = devices[size_t(d)];
    if (auto allocated = model.allocate_workspace(stage); !allocated) return allocated.error();
  }
  model.host_logits_.resize(size_t(options.head_rows) * size_t(model.h_.vocabulary));
  if (!placement.on_one_device())
    model.host_x_.resize(size_t(options.max_batch_tokens) * size_t(model.h_.hidden));
  model.reserve(options.max_batch_tokens);
  return model;
}

Expected<void> Model::allocate_workspace(Stage& stage) {
  const int64_t t = options_.max_batch_tokens;
  struct Request {
    Buffer* buffer;
    int64_t floats;
  };
  const int64_t mtp = h_.mtp_layers > 0 ? t * h_.hidden : 0;
  Workspace& work = stage.work;
  const Request requests[] = {
      {&work.x, t * h_.hidden},
      {&work.wide, t * wide_columns(h_)},
      {&work.side, t * side_columns(h_)},
      {&work.small, t * 2 * h_.v_heads},
      {&work.logits, int64_t(options_.head_rows) * h_.vocabulary},
      {&work.top, int64_t(top_bytes(options_.head_rows) / sizeof(float))},
      {&work.trunk, mtp},
      {&work.pair, 2 * mtp},
  };
  for (const Request& request : requests) {
    auto buffer = stage.device->allocate(uint64_t(request.floats) * sizeof(float));
    if (!buffer) return buffer.error();
    *request.buffer = std::move(*buffer);
  }
  struct Rows {
    ActivationBuffer* buffer;
    int64_t columns;
  };
  const Rows rows[] = {{&work.h, h_.hidden},
                       {&work.mixed, mixed_columns(h_)},
                       {&work.joined, h_.mtp_layers > 0 ? 2 * int64_t(h_.hidden) : 0}};
  for (const Rows& r : rows) {
    if (r.columns == 0) continue;
    auto buffer = ActivationBuffer::allocate(*stage.device, t, r.columns);
    if (!buffer) return buffer.error();
    *r.buffer = std::move(*buffer);
  }
  return {};
}

// Working memory of the ops.
void Model::reserve(int64_t tokens) {
  ops::TopLogits top_op;
  top_op.rows = options_.head_rows;
  top_op.vocabulary = h_.vocabulary;
  stages_[size_t(placement_.head)].device->reserve(top_op);
  for (Stage& stage : stages_) {
    if (stage.device == nullptr) continue;
    stage.device->reserve_linear(tokens, std::max<int64_t>(h_.hidden, mixed_columns(h_)));
    if (has_mtp()) stage.device->reserve_linear(tokens, 2 * int64_t(h_.hidden));
  }
  for (size_t i = 0; i < weights_.layers.size() + weights_.mtp.size(); ++i) {
    const LayerWeights& w = i < weights_.layers.size() ? weights_.layers[i] : weights_.mtp[0].block;
    Stage& mixer = stages_[size_t(placement_.mixer[i])];
    Stage& experts = stages_[size_t(placement_.experts[i])];
    experts.device->reserve(expert_op(experts, w, tokens));
    if (w.recurrent)
      mixer.device->reserve(delta_op(*mixer.device, tokens));
    else
      mixer.device->reserve(attention_op(tokens));
  }
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

ops::Norm Model::norm_op(const Stage& s, const float* weight, int64_t tokens) const {
  ops::Norm op;
  op.x = s.work.x.as<const float>();
  op.weight = weight;
  op.eps = h_.norm_eps;
  op.out = shaped(s.work.h, tokens, h_.hidden);
  return op;
}

void Model::forward(const Batch& batch, StateStore& state, const LogitSink& sink) {
  check(batch, state);
  begin_batch(batch_op(batch, batch.tokens, state));
  run_pass(pass_key(state, false), [&] { trunk(batch, state); });
  give_logits(weights_.output, weights_.output_norm, batch, sink);
}

void Model::trunk(const Batch& batch, StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  Stage& first = stages_[size_t(placement_.embedding)];
  x_stage_ = placement_.embedding;
  first.device->embed({weights_.embedding, batch.tokens.data(), tokens, first.work.x.as<float>()});
  for (int32_t i = 0; i < h_.layer_count(); ++i) run_layer(weights_.layers[size_t(i)], i, batch, state);
  Stage& last = move_to(placement_.head, tokens);
  if (has_mtp())
    last.device->copy_on_device(last.work.trunk.data(), last.work.x.data(),
                                uint64_t(tokens) * h_.hidden * sizeof(float));
  last.device->begin_layer(-1);
  if (one_round(batch)) head(weights_.output, weights_.output_norm, batch.logit_rows);
}

void Model::begin_batch(const ops::Batch& batch) {
  for (Stage& stage : stages_)
    if (stage.device != nullptr) stage.device->begin_batch(batch);
}

// Only a pass that stays on one device never waits.
void Model::run_pass(uint64_t key, const std::function<void()>& issue) {
  if (placement_.on_one_device())
    stages_[size_t(placement_.head)].device->run_pass(key, issue);
  else
    issue();
}

// Brings the residual to a device; it passes through host memory.
Model::Stage& Model::move_to(int32_t stage, int64_t tokens) {
  Stage& to = stages_[size_t(stage)];
  if (stage == x_stage_) return to;
  Stage& from = stages_[size_t(x_stage_)];
  const uint64_t bytes = uint64_t(tokens) * h_.hidden * sizeof(float);
  from.device->copy_to_host(host_x_.data(), from.work.x.data(), bytes);
  to.device->copy_to_device(to.work.x.data(), host_x_.data(), bytes);
  x_stage_ = stage;
  return to;
}

ops::Batch Model::batch_op(const Batch& batch, std::span<const int32_t> ids, const StateStore& state) const {
  return {ids, batch.spans, batch.logit_rows, state.options().page_tokens};
}

// A pass uses addresses of this model and of the state, and no others.
uint64_t Model::pass_key(const StateStore& state, bool mtp) const {
  const auto model = uint64_t(reinterpret_cast<uintptr_t>(stages_[size_t(placement_.head)].work.x.data()));
  return (model ^ std::rotl(state.address(), 20)) * 2 + (mtp ? 1 : 0);
}

bool Model::one_round(const Batch& batch) const {
  return !batch.logit_rows.empty() && batch.logit_rows.size() <= size_t(options_.head_rows);
}

void Model::run_layer(const LayerWeights& w, int32_t layer, const Batch& batch, StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  Stage& mixer = move_to(placement_.mixer[size_t(layer)], tokens);
  mixer.device->begin_layer(layer);
  if (w.recurrent)
    delta_layer(mixer, w, layer, batch, state);
  else
    attention_layer(mixer, w, layer, batch, state);
  Stage& experts = move_to(placement_.experts[size_t(layer)], tokens);
  experts.device->begin_layer(layer);
  experts.device->norm_moe(norm_op(experts, w.post_norm, tokens), expert_op(experts, w, tokens));
}

// The sizes of the mixers' ops; data comes with the call.
ops::DeltaMixer Model::delta_op(const Device& device, int64_t tokens) const {
  ops::DeltaMixer op;
  op.k_heads = h_.k_heads;
  op.v_heads = h_.v_heads;
  op.k_dim = h_.k_dim;
  op.v_dim = h_.v_dim;
  op.conv_taps = h_.conv_taps;
  op.chunk = options_.delta_chunk == kDeviceChunk ? device.default_delta_chunk() : options_.delta_chunk;
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

void Model::delta_layer(Stage& s, const LayerWeights& w, int32_t layer, const Batch& batch,
                        StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  float* qkv = s.work.wide.as<float>();
  float* z = s.work.side.as<float>();
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
  projections.push_back({w.ba, s.work.small.as<float>()});
  s.device->norm_linear(norm_op(s, w.attn_norm, tokens), projections);

  ops::DeltaMixer op = delta_op(*s.device, tokens);
  op.spans = batch.spans;
  op.qkv = qkv;
  op.z = z;
  op.ba = s.work.small.as<const float>();
  op.conv_weight = w.conv;
  op.dt_bias = w.dt_bias;
  op.a = w.a;
  op.norm = w.delta_norm;
  op.conv_state = state.conv_state(layer);
  op.state = state.delta_state(layer);
  op.out = shaped(s.work.mixed, tokens, h_.delta_width());
  s.device->delta_mixer(op);

  const ops::Linear output[] = {{w.delta_output, s.work.x.as<float>(), 0, true}};
  s.device->linear(op.out, output);
}

void Model::attention_layer(Stage& s, const LayerWeights& w, int32_t layer, const Batch& batch,
                            StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  const int64_t kv_columns = int64_t(h_.kv_heads) * h_.head_dim;
  float* k = s.work.side.as<float>();
  float* v = k + tokens * kv_columns;
  const ops::Linear projections[] = {{w.q_gate, s.work.wide.as<float>()}, {w.k, k}, {w.v, v}};
  s.device->norm_linear(norm_op(s, w.attn_norm, tokens), projections);

  ops::Attention op = attention_op(tokens);
  op.spans = batch.spans;
  op.q_gate = s.work.wide.as<const float>();
  op.k = k;
  op.v = v;
  op.q_norm = w.q_norm;
  op.k_norm = w.k_norm;
  op.kv_type = state.options().kv_type;
  op.page_tokens = state.options().page_tokens;
  op.k_cache = state.k_cache(layer);
  op.v_cache = state.v_cache(layer);
  op.out = shaped(s.work.mixed, tokens, h_.attention_width());
  s.device->attention(op);

  const ops::Linear output[] = {{w.attn_output, s.work.x.as<float>(), 0, true}};
  s.device->linear(op.out, output);
}

ops::Moe Model::expert_op(const Stage& s, const LayerWeights& w, int64_t tokens) const {
  ops::Moe op;
  op.expert_count = h_.expert_count;
  op.top_k = h_.top_k;
  op.normalise = h_.normalise_experts;
  op.x = shaped(s.work.h, tokens, h_.hidden);
  op.router = w.router;
  op.gate = w.gate;
  op.up = w.up;
  op.down = w.down;
  op.gate_up = w.gate_up;
  op.shared_gate = w.shared_gate;
  op.shared_up = w.shared_up;
  op.shared_down = w.shared_down;
  op.shared_router = w.shared_router;
  op.out = s.work.x.as<float>();
  return op;
}

// Logits of up to head_rows rows, into the workspace.
void Model::head(const ops::Matrix& output, const float* norm_weight, std::span<const int32_t> rows) {
  Stage& s = stages_[size_t(placement_.head)];
  ops::Norm op = norm_op(s, norm_weight, int64_t(rows.size()));
  op.rows = rows.data();
  s.device->norm(op);
  const ops::Linear linear[] = {{output, s.work.logits.as<float>()}};
  s.device->linear(op.out, linear);
}

void Model::give_logits(const ops::Matrix& output, const float* norm_weight, const Batch& batch,
                        const LogitSink& sink) {
  Stage& s = stages_[size_t(placement_.head)];
  const std::span<const int32_t> rows = batch.logit_rows;
  const size_t vocabulary = size_t(h_.vocabulary);
  const size_t round = size_t(options_.head_rows);
  for (size_t first = 0; first < rows.size(); first += round) {
    const size_t count = std::min(round, rows.size() - first);
    if (!one_round(batch)) head(output, norm_weight, rows.subspan(first, count));
    s.device->copy_to_host(host_logits_.data(), s.work.logits.data(), count * vocabulary * sizeof(float));
    for (size_t i = 0; i < count; ++i)
      sink(first + i, std::span<float>(host_logits_.data() + i * vocabulary, vocabulary));
  }
  s.device->synchronize();
}

int32_t Model::most_top_logits() const {
  return std::min({stages_[size_t(placement_.head)].device->most_top_logits(), kMostTop, h_.vocabulary});
}

void Model::top(int32_t rows, int32_t k) {
  Stage& s = stages_[size_t(placement_.head)];
  const int64_t block = int64_t(rows) * k;
  auto* values = s.work.top.as<float>() + block;
  s.device->top_logits({s.work.logits.as<const float>(), rows, h_.vocabulary, k, s.work.top.as<int32_t>(),
                        values, values + block});
}

void Model::forward_top(const Batch& batch, StateStore& state, int32_t k, const TopSink& sink) {
  check(batch, state);
  DW_CHECK(one_round(batch) && k > 0 && k <= most_top_logits(), "top logits of too many rows or tokens");
  const int32_t rows = int32_t(batch.logit_rows.size());
  begin_batch(batch_op(batch, batch.tokens, state));
  run_pass(pass_key(state, false) ^ (uint64_t(k) << 48), [&] {
    trunk(batch, state);
    top(rows, k);
  });
  Stage& s = stages_[size_t(placement_.head)];
  host_top_.resize(top_bytes(options_.head_rows));
  const int64_t block = int64_t(rows) * k;
  const auto* ids = reinterpret_cast<const int32_t*>(host_top_.data());
  const auto* values = reinterpret_cast<const float*>(host_top_.data()) + block;
  const float* sums = values + block;
  s.device->copy_to_host(host_top_.data(), s.work.top.data(), uint64_t(2 * block + 2 * rows) * sizeof(float));
  for (int32_t i = 0; i < rows; ++i)
    sink(size_t(i), {{ids + int64_t(i) * k, size_t(k)},
                     {values + int64_t(i) * k, size_t(k)},
                     h_.vocabulary,
                     sums[2 * i],
                     sums[2 * i + 1]});
}

void Model::read_logits(size_t index, std::span<float> logits) {
  DW_CHECK(index < size_t(options_.head_rows) && logits.size() == size_t(h_.vocabulary), "row out of range");
  Stage& s = stages_[size_t(placement_.head)];
  s.device->copy_to_host(logits.data(), s.work.logits.as<const float>() + index * logits.size(),
                         logits.size() * sizeof(float));
}

void Model::forward_mtp(const Batch& batch, std::span<const int32_t> next_tokens, StateStore& state,
                        const LogitSink& sink) {
  DW_CHECK(has_mtp(), "the model has no MTP block");
  check(batch, state);
  DW_CHECK(next_tokens.size() == batch.tokens.size(), "one next token a row");
  const MtpWeights& m = weights_.mtp[0];
  begin_batch(batch_op(batch, next_tokens, state));
  run_pass(pass_key(state, true), [&] {
    mtp_block(m, batch, next_tokens, state);
    stages_[size_t(placement_.head)].device->begin_layer(-1);
    if (one_round(batch)) head(m.head, m.head_norm, batch.logit_rows);
  });
  give_logits(m.head, m.head_norm, batch, sink);
}

void Model::mtp_block(const MtpWeights& m, const Batch& batch, std::span<const int32_t> next_tokens,
                      StateStore& state) {
  const int64_t tokens = int64_t(batch.tokens.size());
  Stage& s = stages_[size_t(placement_.head)];
  x_stage_ = placement_.head;
  s.device->begin_layer(h_.layer_count());
  // joined = [ norm(embedding of the next token) * enorm ; norm(norm(trunk) * output_norm) * hnorm ]
  ops::Norm op;
  op.eps = h_.norm_eps;
  auto normed_into_half = [&](const float* x, const float* weight, int64_t offset) {
    op.x = x;
    op.weight = weight;
    op.out = shaped(s.work.h, tokens, h_.hidden);
    s.device->norm(op);
    if (offset < 0) return;
    for (int64_t t = 0; t < tokens; ++t)
      s.device->copy_on_device(s.work.pair.as<float>() + t * 2 * h_.hidden + offset,
                               op.out.values + t * h_.hidden, uint64_t(h_.hidden) * sizeof(float));
  };
  s.device->embed({m.embedding, next_tokens.data(), tokens, s.work.x.as<float>()});
  normed_into_half(s.work.x.as<const float>(), m.embedding_norm, 0);
  normed_into_half(s.work.trunk.as<const float>(), weights_.output_norm, -1);
  s.device->copy_on_device(s.work.x.data(), op.out.values, uint64_t(tokens) * h_.hidden * sizeof(float));
  normed_into_half(s.work.x.as<const float>(), m.hidden_norm, h_.hidden);
  s.device->pack(s.work.pair.as<const float>(), shaped(s.work.joined, tokens, 2 * int64_t(h_.hidden)));
  const ops::Linear project[] = {{m.project, s.work.x.as<float>()}};
  s.device->linear(shaped(s.work.joined, tokens, 2 * int64_t(h_.hidden)), project);

  run_layer(m.block, h_.layer_count(), batch, state);
  move_to(placement_.head, tokens);
}

}  // namespace dw
