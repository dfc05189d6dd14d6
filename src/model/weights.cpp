#include "model/weights.h"

#include <algorithm>
#include <string>
#include <utility>

namespace dw {
namespace {

std::string shape_text(const gguf::TensorInfo& tensor) {
  std::string text = "{";
  for (uint32_t i = 0; i < std::max(1u, tensor.dimension_count); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(tensor.shape[i]);
  }
  return text + "}";
}

// Looks tensors up, checks them, and keeps the first error.
class Binder {
 public:
  Binder(const gguf::File& file, DeviceList devices, Weights& weights,
         const std::function<void(uint64_t, uint64_t)>& progress)
      : file_(file), devices_(devices), weights_(weights), progress_(progress) {
    for (const auto& tensor : file.tensors()) total_bytes_ += tensor.size_bytes;
  }

  void set_block(int32_t block) { prefix_ = "blk." + std::to_string(block) + "."; }
  void set_global() { prefix_.clear(); }
  void set_device(int32_t index) { device_ = devices_[size_t(index)]; }
  bool has(std::string_view name) const { return file_.find_tensor(prefix_ + std::string(name)) != nullptr; }

  // A matrix of `rows` outputs and `columns` inputs, `count` of them. Required unless optional.
  ops::Matrix matrix(std::string_view name, int64_t columns, int64_t rows, int64_t count = 1,
                     bool optional = false) {
    const gguf::TensorInfo* tensor = find(name, optional);
    if (tensor == nullptr) return {};
    const bool fits = tensor->shape[0] == uint64_t(columns) && tensor->shape[1] == uint64_t(rows) &&
                      tensor->shape[2] == uint64_t(count) && tensor->shape[3] == 1;
    if (!fits) {
      wrong_shape(*tensor, count == 1 ? make_error("{", columns, ", ", rows, "}")
                                      : make_error("{", columns, ", ", rows, ", ", count, "}"));
      return {};
    }
    ops::Matrix host{tensor->type, tensor->data, rows, columns, count};
    auto imported = device_->import(host);
    if (!imported) {
      fail(imported.error());
      return {};
    }
    weights_.matrix_bytes += tensor->size_bytes;
    report(tensor->size_bytes);
    return *imported;
  }

  ops::Matrix global_matrix(std::string_view name, int64_t columns, int64_t rows) {
    const std::string block = std::exchange(prefix_, "");
    const ops::Matrix result = matrix(name, columns, rows);
    prefix_ = block;
    return result;
  }

  // A small tensor as fp32 on the device; its dimensions need only have `count` elements in all.
  const float* vector(std::string_view name, int64_t count, bool optional = false) {
    const gguf::TensorInfo* tensor = find(name, optional);
    if (tensor == nullptr) return nullptr;
    if (tensor->element_count() != uint64_t(count)) {
      wrong_shape(*tensor, make_error(count, " elements"));
      return nullptr;
    }
    std::vector<float> values(static_cast<size_t>(count));
    quant::type_info(tensor->type).dequantize(tensor->data, values.data(), count);
    auto buffer = device_->allocate(values.size() * sizeof(float));
    if (!buffer) {
      fail(buffer.error());
      return nullptr;
    }
    device_->copy_to_device(buffer->data(), values.data(), buffer->size_bytes());
    weights_.vector_bytes += buffer->size_bytes();
    report(tensor->size_bytes);
    weights_.vectors.push_back(std::move(*buffer));
    return weights_.vectors.back().as<const float>();
  }

  void fail(const Error& error) {
    if (!error_) error_ = error;
  }
  const std::optional<Error>& error() const { return error_; }
  const std::string& prefix() const { return prefix_; }

 private:
  const gguf::TensorInfo* find(std::string_view name, bool optional) {
    if (error_) return nullptr;
    const std::string full = prefix_ + std::string(name);
    const gguf::TensorInfo* tensor = file_.find_tensor(full);
    if (tensor == nullptr) {
      if (!optional) fail(make_error("the file lacks the tensor ", full));
      return nullptr;
    }
    const quant::TypeInfo& type = quant::type_info(tensor->type);
    if (type.dequantize == nullptr) {
      fail(make_error("tensor ", full, " has type ", type.name,
                      ", which holds no weights the engine can use"));
      return nullptr;
    }
    return tensor;
  }
  void wrong_shape(const gguf::TensorInfo& tensor, const Error& expected) {
    fail(make_error("tensor ", tensor.name, " has shape ", shape_text(tensor),
                    "; the hyper-parameters ask for ", expected.message));
  }
  void report(uint64_t bytes) {
    done_bytes_ += bytes;
    if (progress_) progress_(done_bytes_, total_bytes_);
  }

  const gguf::File& file_;
  DeviceList devices_;
  Device* device_ = nullptr;
  Weights& weights_;
  const std::function<void(uint64_t, uint64_t)>& progress_;
  std::string prefix_;
  std::optional<Error> error_;
  uint64_t done_bytes_ = 0, total_bytes_ = 0;
};

void bind_attention(Binder& bind, const HyperParameters& h, LayerWeights& w) {
  const int64_t kv = int64_t(h.kv_heads) * h.head_dim;
  w.q_gate = bind.matrix("attn_q.weight", h.hidden, 2 * h.attention_width());
  w.k = bind.matrix("attn_k.weight", h.hidden, kv);
  w.v = bind.matrix("attn_v.weight", h.hidden, kv);
  w.attn_output = bind.matrix("attn_output.weight", h.attention_width(), h.hidden);
  w.q_norm = bind.vector("attn_q_norm.weight", h.head_dim);
  w.k_norm = bind.vector("attn_k_norm.weight", h.head_dim);
}

void bind_delta(Binder& bind, const HyperParameters& h, LayerWeights& w) {
  if (bind.has("attn_qkv.weight") || !bind.has("ssm_in.weight")) {
    w.qkv = bind.matrix("attn_qkv.weight", h.hidden, h.channels());
    w.z = bind.matrix("attn_gate.weight", h.hidden, h.delta_width());
  } else {
    w.ssm_in = bind.matrix("ssm_in.weight", h.hidden, h.channels() + h.delta_width());
  }
  w.ba = bind.matrix("ssm_ba.weight", h.hidden, 2 * int64_t(h.v_heads));
  w.delta_output = bind.matrix("ssm_out.weight", h.delta_width(), h.hidden);
  w.conv = bind.vector("ssm_conv1d.weight", h.channels() * h.conv_taps);
  w.dt_bias = bind.vector(bind.has("ssm_dt.bias") ? "ssm_dt.bias" : "ssm_dt", h.v_heads);
  w.a = bind.vector("ssm_a", h.v_heads);
  w.delta_norm = bind.vector("ssm_norm.weight", h.v_dim);
}

void bind_experts(Binder& bind, const HyperParameters& h, LayerWeights& w) {
  w.router = bind.matrix("ffn_gate_inp.weight", h.hidden, h.expert_count);
  if (bind.has("ffn_gate_up_exps.weight")) {
    w.gate_up = bind.matrix("ffn_gate_up_exps.weight", h.hidden, 2 * int64_t(h.expert_width), h.expert_count);
  } else {
    w.gate = bind.matrix("ffn_gate_exps.weight", h.hidden, h.expert_width, h.expert_count);
    w.up = bind.matrix("ffn_up_exps.weight", h.hidden, h.expert_width, h.expert_count);
  }
  w.down = bind.matrix("ffn_down_exps.weight", h.expert_width, h.hidden, h.expert_count);
  if (h.shared_width == 0) return;
  w.shared_gate = bind.matrix("ffn_gate_shexp.weight", h.hidden, h.shared_width);
  w.shared_up = bind.matrix("ffn_up_shexp.weight", h.hidden, h.shared_width);
  w.shared_down = bind.matrix("ffn_down_shexp.weight", h.shared_width, h.hidden);
  w.shared_router = bind.vector("ffn_gate_inp_shexp.weight", h.hidden, true);
}

LayerWeights bind_layer(Binder& bind, const HyperParameters& h, const Placement& placement, int32_t block,
                        bool recurrent) {
  LayerWeights w;
  bind.set_block(block);
  bind.set_device(placement.mixer[size_t(block)]);
  w.recurrent = recurrent;
  w.attn_norm = bind.vector("attn_norm.weight", h.hidden);
  if (recurrent)
    bind_delta(bind, h, w);
  else
    bind_attention(bind, h, w);
  bind.set_device(placement.experts[size_t(block)]);
  w.post_norm = bind.vector("post_attention_norm.weight", h.hidden);
  bind_experts(bind, h, w);
  return w;
}

// The MTP block lies where the head does, so that it may share the trunk's.
MtpWeights bind_mtp(Binder& bind, const HyperParameters& h, const Placement& placement, const Weights& trunk,
                    int32_t block) {
  MtpWeights m;
  m.block = bind_layer(bind, h, placement, block, false);
  bind.set_device(placement.head);
  m.project = bind.matrix("nextn.eh_proj.weight", 2 * int64_t(h.hidden), h.hidden);
  m.embedding_norm = bind.vector("nextn.enorm.weight", h.hidden);
  m.hidden_norm = bind.vector("nextn.hnorm.weight", h.hidden);
  m.head_norm = bind.vector("nextn.shared_head_norm.weight", h.hidden, true);
  m.embedding = bind.matrix("nextn.embed_tokens.weight", h.hidden, h.vocabulary, 1, true);
  m.head = bind.matrix("nextn.shared_head_head.weight", h.hidden, h.vocabulary, 1, true);
  if (m.head_norm == nullptr) m.head_norm = trunk.output_norm;
  if (!m.embedding)
    m.embedding = placement.head == placement.embedding
                      ? trunk.embedding
                      : bind.global_matrix("token_embd.weight", h.hidden, h.vocabulary);
  if (!m.head) m.head = trunk.output;
  return m;
}

}  // namespace

Expected<Weights> bind_weights(const gguf::File& file, const HyperParameters& h, DeviceList devices,
                               const Placement& placement,
                               const std::function<void(uint64_t, uint64_t)>& progress) {
  Weights weights;
  weights.vectors.reserve(file.tensors().size());
  Binder bind(file, devices, weights, progress);
  bind.set_device(placement.embedding);
  weights.embedding = bind.matrix("token_embd.weight", h.hidden, h.vocabulary);
  bind.set_device(placement.head);
  weights.output = bind.matrix("output.weight", h.hidden, h.vocabulary, 1, true);
  if (!weights.output)
    weights.output = placement.head == placement.embedding
                         ? weights.embedding
                         : bind.matrix("token_embd.weight", h.hidden, h.vocabulary);
  weights.output_norm = bind.vector("output_norm.weight", h.hidden);
  for (int32_t i = 0; i < h.layer_count() && !bind.error(); ++i)
    weights.layers.push_back(bind_layer(bind, h, placement, i, h.recurrent[size_t(i)]));
  for (int32_t i = 0; i < h.mtp_layers && !bind.error(); ++i)
    weights.mtp.push_back(bind_mtp(bind, h, placement, weights, h.layer_count() + i));
  if (bind.error()) return *bind.error();
  return weights;
}

void load_dense_weights(const gguf::File& file, uint64_t budget_bytes,
                        const std::function<void(uint64_t, uint64_t)>& progress) {
  const bool tied = file.find_tensor("output.weight") == nullptr;
  auto is_dense = [&](const gguf::TensorInfo& tensor) {
    return tensor.shape[2] == 1 && (tied || tensor.name != "token_embd.weight");
  };
  uint64_t total = 0, done = 0;
  for (const gguf::TensorInfo& tensor : file.tensors()) total += is_dense(tensor) ? tensor.size_bytes : 0;
  for (const MappedFile& map : file.maps()) map.expect_random_access();
  // Locked memory is lost to everything else: at most half of what there is.
  bool keep = total <= budget_bytes / 2;
  for (const gguf::TensorInfo& tensor : file.tensors()) {
    if (!is_dense(tensor)) continue;
    if (done + tensor.size_bytes > budget_bytes) return;
    keep = file.maps()[tensor.file_index].load(tensor.file_offset, tensor.size_bytes, keep);
    done += tensor.size_bytes;
    if (progress) progress(done, total);
  }
}

}  // namespace dw
