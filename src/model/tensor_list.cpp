#include "model/tensor_list.h"

#include <charconv>

namespace dw {
namespace {

constexpr std::string_view kPartNames[kTensorPartCount] = {
    "embedding",      "output", "attention", "delta layers", "routed experts",
    "shared experts", "router", "norms",     "MTP",          "other",
};

bool contains(std::string_view text, std::string_view piece) {
  return text.find(piece) != std::string_view::npos;
}

class ListBuilder {
 public:
  explicit ListBuilder(const HyperParameters& h) : h_(h) {}

  void add(std::string_view name, std::initializer_list<int64_t> shape) {
    TensorSpec spec{prefix_ + std::string(name), uint32_t(shape.size())};
    size_t d = 0;
    for (const int64_t size : shape) spec.shape[d++] = uint64_t(size);
    list_.push_back(std::move(spec));
  }

  void add_block(int32_t block, bool recurrent) {
    prefix_ = "blk." + std::to_string(block) + ".";
    add("attn_norm.weight", {h_.hidden});
    if (recurrent)
      add_delta();
    else
      add_attention();
    add("post_attention_norm.weight", {h_.hidden});
    add_experts();
  }

  void add_mtp() {
    add("nextn.eh_proj.weight", {2 * int64_t(h_.hidden), h_.hidden});
    add("nextn.enorm.weight", {h_.hidden});
    add("nextn.hnorm.weight", {h_.hidden});
    add("nextn.shared_head_norm.weight", {h_.hidden});
  }

  std::vector<TensorSpec> take() { return std::move(list_); }

 private:
  void add_attention() {
    const int64_t kv = int64_t(h_.kv_heads) * h_.head_dim;
    add("attn_q.weight", {h_.hidden, 2 * h_.attention_width()});
    add("attn_k.weight", {h_.hidden, kv});
    add("attn_v.weight", {h_.hidden, kv});
    add("attn_output.weight", {h_.attention_width(), h_.hidden});
    add("attn_q_norm.weight", {h_.head_dim});
    add("attn_k_norm.weight", {h_.head_dim});
  }

  void add_delta() {
    add("attn_qkv.weight", {h_.hidden, h_.channels()});
    add("attn_gate.weight", {h_.hidden, h_.delta_width()});
    add("ssm_conv1d.weight", {h_.conv_taps, h_.channels()});
    add("ssm_dt.bias", {h_.v_heads});
    add("ssm_a", {h_.v_heads});
    add("ssm_ba.weight", {h_.hidden, 2 * int64_t(h_.v_heads)});
    add("ssm_norm.weight", {h_.v_dim});
    add("ssm_out.weight", {h_.delta_width(), h_.hidden});
  }

  void add_experts() {
    add("ffn_gate_inp.weight", {h_.hidden, h_.expert_count});
    add("ffn_gate_exps.weight", {h_.hidden, h_.expert_width, h_.expert_count});
    add("ffn_up_exps.weight", {h_.hidden, h_.expert_width, h_.expert_count});
    add("ffn_down_exps.weight", {h_.expert_width, h_.hidden, h_.expert_count});
    if (h_.shared_width == 0) return;
    add("ffn_gate_inp_shexp.weight", {h_.hidden});
    add("ffn_gate_shexp.weight", {h_.hidden, h_.shared_width});
    add("ffn_up_shexp.weight", {h_.hidden, h_.shared_width});
    add("ffn_down_shexp.weight", {h_.shared_width, h_.hidden});
  }

  const HyperParameters& h_;
  std::string prefix_;
  std::vector<TensorSpec> list_;
};

}  // namespace

std::string_view tensor_part_name(TensorPart part) {
  return kPartNames[size_t(part)];
}

TensorPart tensor_part(std::string_view name, int32_t first_mtp_block) {
  if (name == "token_embd.weight") return TensorPart::kEmbedding;
  if (name == "output.weight") return TensorPart::kOutput;
  constexpr std::string_view kPrefix = "blk.";
  if (name.starts_with(kPrefix)) {
    int32_t block = 0;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), block);
    if (block >= first_mtp_block) return TensorPart::kMtp;
  }
  if (contains(name, "nextn.")) return TensorPart::kMtp;
  if (contains(name, "norm")) return TensorPart::kNorms;
  if (contains(name, "ffn_gate_inp.")) return TensorPart::kRouter;
  if (contains(name, "shexp")) return TensorPart::kSharedExperts;
  if (contains(name, "_exps")) return TensorPart::kRoutedExperts;
  if (contains(name, "ssm_") || contains(name, "attn_qkv") || contains(name, "attn_gate"))
    return TensorPart::kDelta;
  return contains(name, "attn_") ? TensorPart::kAttention : TensorPart::kOther;
}

std::vector<TensorSpec> tensor_list(const HyperParameters& h, bool tied) {
  ListBuilder list(h);
  list.add("token_embd.weight", {h.hidden, h.vocabulary});
  list.add("output_norm.weight", {h.hidden});
  if (!tied) list.add("output.weight", {h.hidden, h.vocabulary});
  for (int32_t i = 0; i < h.layer_count(); ++i) list.add_block(i, h.recurrent[size_t(i)]);
  for (int32_t i = 0; i < h.mtp_layers; ++i) {
    list.add_block(h.layer_count() + i, false);
    list.add_mtp();
  }
  return list.take();
}

}  // namespace dw
