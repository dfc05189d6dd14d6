#include "model/hparams.h"

#include <algorithm>
#include <limits>
#include <string>

namespace dw {
namespace {

constexpr std::string_view kPrefix = "qwen3next.";

// Collects look-ups and keeps the first error, so that the caller reads straight down.
class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}

  int32_t integer(std::string_view key, int64_t low, int64_t high, std::optional<int64_t> when_absent = {}) {
    if (error_) return 0;
    const std::string name = std::string(kPrefix) + std::string(key);
    auto value = file_.get_uint(name);
    if (!value) return fail(value.error());
    if (!value->has_value()) {
      if (when_absent) return int32_t(*when_absent);
      return fail(make_error("the file lacks the key ", name));
    }
    if (**value < uint64_t(low) || **value > uint64_t(high))
      return fail(make_error(name, " is ", **value, "; it must lie between ", low, " and ", high));
    return int32_t(**value);
  }

  float number(std::string_view key, double low, double high, double when_absent) {
    if (error_) return 0;
    const std::string name = std::string(kPrefix) + std::string(key);
    auto value = file_.get_float(name);
    if (!value) return float(fail(value.error()));
    const double result = value->value_or(when_absent);
    if (!(result >= low && result <= high))
      return float(fail(make_error(name, " is ", result, "; it must lie between ", low, " and ", high)));
    return float(result);
  }

  bool flag(std::string_view key, bool when_absent) {
    if (error_) return when_absent;
    auto value = file_.get_bool(std::string(kPrefix) + std::string(key));
    if (!value) return fail(value.error()) != 0;
    return value->value_or(when_absent);
  }

  void require(bool condition, const Error& error) {
    if (!condition) fail(error);
  }

  int32_t fail(const Error& error) {
    if (!error_) error_ = error;
    return 0;
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const gguf::File& file_;
  std::optional<Error> error_;
};

void read_layer_kinds(const gguf::File& file, Reader& reader, int32_t blocks, HyperParameters& h) {
  const int32_t trunk = blocks - h.mtp_layers;
  const std::string key = std::string(kPrefix) + "attention.recurrent_layers";
  if (file.find(key) != nullptr) {
    const auto flags = file.get_ints(key);
    if (!flags || int64_t(flags->size()) < trunk) {
      reader.fail(make_error(key, " must be an array with an entry for each of the ", trunk, " layers"));
      return;
    }
    for (int32_t i = 0; i < trunk; ++i) h.recurrent.push_back((*flags)[size_t(i)] != 0);
    return;
  }
  const int32_t interval = reader.integer("full_attention_interval", 1, 1 << 20, 4);
  for (int32_t i = 0; i < trunk && interval > 0; ++i) h.recurrent.push_back((i + 1) % interval != 0);
}

void read_attention(Reader& reader, HyperParameters& h) {
  h.heads = reader.integer("attention.head_count", 1, 1 << 16);
  h.kv_heads = reader.integer("attention.head_count_kv", 1, 1 << 16, h.heads);
  h.head_dim = reader.integer("attention.key_length", 1, 1 << 14);
  const int32_t value_dim = reader.integer("attention.value_length", 1, 1 << 14, h.head_dim);
  h.rope_dims = reader.integer("rope.dimension_count", 0, h.head_dim, h.head_dim);
  h.rope_base = reader.number("rope.freq_base", 1, 1e12, 10000);
  if (reader.error()) return;
  reader.require(value_dim == h.head_dim,
                 make_error("qwen3next.attention.value_length is ", value_dim,
                            " but the gate needs it equal to key_length, ", h.head_dim));
  reader.require(h.heads % h.kv_heads == 0,
                 make_error("qwen3next.attention.head_count (", h.heads,
                            ") is not a multiple of attention.head_count_kv (", h.kv_heads, ")"));
  reader.require(h.head_dim % 32 == 0, make_error("qwen3next.attention.key_length is ", h.head_dim,
                                                  "; it must be a multiple of 32"));
  reader.require(h.rope_dims % 2 == 0,
                 make_error("qwen3next.rope.dimension_count is ", h.rope_dims, "; it must be even"));
}

void read_delta(Reader& reader, HyperParameters& h) {
  h.conv_taps = reader.integer("ssm.conv_kernel", 1, 64);
  h.k_dim = reader.integer("ssm.state_size", 1, 1 << 12);
  h.k_heads = reader.integer("ssm.group_count", 1, 1 << 14);
  h.v_heads = reader.integer("ssm.time_step_rank", 1, 1 << 14);
  const int32_t inner = reader.integer("ssm.inner_size", 1, 1 << 24);
  if (reader.error()) return;
  reader.require(
      h.v_heads % h.k_heads == 0,
      make_error("qwen3next.ssm.time_step_rank (", h.v_heads,
                 ", the V heads) is not a multiple of ssm.group_count (", h.k_heads, ", the K heads)"));
  reader.require(inner % h.v_heads == 0,
                 make_error("qwen3next.ssm.inner_size (", inner,
                            ") is not a multiple of ssm.time_step_rank (", h.v_heads, ")"));
  h.v_dim = inner / h.v_heads;
  reader.require(h.delta_width() % 32 == 0,
                 make_error("qwen3next.ssm.inner_size is ", inner, "; it must be a multiple of 32"));
}

// Some files leave the widths out; the tensors say them.
std::optional<int64_t> width_of(const gguf::File& file, std::string_view tensor, int dimension) {
  const gguf::TensorInfo* info = file.find_tensor(tensor);
  if (info == nullptr || info->shape[size_t(dimension)] > (1u << 24)) return {};
  return int64_t(info->shape[size_t(dimension)]);
}

void read_experts(const gguf::File& file, Reader& reader, HyperParameters& h) {
  h.expert_count = reader.integer("expert_count", 1, 1 << 16);
  h.top_k = reader.integer("expert_used_count", 1, 1 << 16);
  h.normalise_experts = reader.flag("expert_weights_norm", true);
  h.expert_width = reader.integer("expert_feed_forward_length", 1, 1 << 24,
                                  width_of(file, "blk.0.ffn_down_exps.weight", 0));
  h.shared_width = reader.integer("expert_shared_feed_forward_length", 0, 1 << 24,
                                  width_of(file, "blk.0.ffn_gate_shexp.weight", 1).value_or(0));
  if (reader.error()) return;
  reader.require(h.top_k <= h.expert_count,
                 make_error("qwen3next.expert_used_count (", h.top_k, ") is larger than expert_count (",
                            h.expert_count, ")"));
  reader.require(h.expert_width % 32 == 0 && h.shared_width % 32 == 0,
                 make_error("the widths of the experts (", h.expert_width, " and ", h.shared_width,
                            ") must be multiples of 32"));
}

}  // namespace

int32_t HyperParameters::recurrent_layer_count() const {
  return int32_t(std::count(recurrent.begin(), recurrent.end(), true));
}

Expected<HyperParameters> read_hyper_parameters(const gguf::File& file) {
  auto architecture = file.get_string("general.architecture");
  if (!architecture) return architecture.error();
  if (!architecture->has_value()) return make_error("the file lacks the key general.architecture");
  if (**architecture != "qwen3next")
    return make_error("the file's architecture is '", **architecture,
                      "'; this program runs 'qwen3next' models");

  HyperParameters h;
  Reader reader(file);
  const int32_t blocks = reader.integer("block_count", 1, 1 << 16);
  h.mtp_layers = reader.integer("nextn_predict_layers", 0, 1, 0);
  h.hidden = reader.integer("embedding_length", 1, 1 << 20);
  h.context_length = reader.integer("context_length", 1, std::numeric_limits<int32_t>::max());
  h.norm_eps = reader.number("attention.layer_norm_rms_epsilon", 0, 1, 1e-6);
  if (reader.error()) return *reader.error();
  if (h.mtp_layers >= blocks)
    return make_error("qwen3next.nextn_predict_layers (", h.mtp_layers, ") leaves no layer of block_count (",
                      blocks, ")");
  if (h.hidden % 32 != 0)
    return make_error("qwen3next.embedding_length is ", h.hidden, "; it must be a multiple of 32");
  read_layer_kinds(file, reader, blocks, h);
  read_attention(reader, h);
  read_delta(reader, h);
  read_experts(file, reader, h);

  const std::string scaling = std::string(kPrefix) + "rope.scaling.type";
  auto rope = file.get_string(scaling);
  if (!rope) return rope.error();
  if (rope->has_value() && **rope != "none")
    return make_error(scaling, " is '", **rope, "'; only unscaled rotary positions are supported");
  if (reader.error()) return *reader.error();

  const gguf::TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) return make_error("the file lacks the tensor token_embd.weight");
  if (embedding->shape[1] > (1u << 24))
    return make_error("token_embd.weight has ", embedding->shape[1], " rows; at most ", 1 << 24,
                      " are supported");
  h.vocabulary = int32_t(embedding->shape[1]);
  return h;
}

}  // namespace dw
