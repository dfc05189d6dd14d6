"""config.json of a Qwen3NextForCausalLM as the qwen3next keys of a GGUF file."""

from dataclasses import dataclass

from . import ConversionError

ARCHITECTURE = "qwen3next"


@dataclass
class HyperParameters:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    k_heads: int
    v_heads: int
    k_dim: int
    v_dim: int
    conv_taps: int
    experts: int
    expert_width: int
    shared_width: int
    vocabulary: int
    recurrent: list  # per layer
    tied: bool

    @property
    def ratio(self):  # V heads of a K head
        return self.v_heads // self.k_heads

    @property
    def channels(self):
        return 2 * self.k_heads * self.k_dim + self.v_heads * self.v_dim

    @property
    def delta_width(self):
        return self.v_heads * self.v_dim


def integer(config, name, default=None):
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConversionError(f"config.json: {name} must be a positive integer, not {value!r}")
    return value


def refuse_what_the_format_cannot_say(config):
    name = config.get("model_type", "absent")
    if name != "qwen3_next":
        raise ConversionError(f"config.json: model_type is {name}; only qwen3_next checkpoints can be converted")
    if config.get("hidden_act", "silu") != "silu":
        raise ConversionError(f"config.json: hidden_act is {config['hidden_act']}; qwen3next files mean silu")
    if config.get("attention_bias"):
        raise ConversionError("config.json: attention_bias is true; qwen3next files have no biases")
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ConversionError("config.json: some layers have no experts; qwen3next files have them in every layer")
    if config.get("quantization_config"):
        raise ConversionError("the checkpoint is quantised; convert the unquantised one instead")


def layer_kinds(config, layers):
    interval = config.get("full_attention_interval") or 4
    kinds = config.get("layer_types")
    if kinds is None:
        return [(i + 1) % interval != 0 for i in range(layers)]
    if len(kinds) < layers or any(kind not in ("linear_attention", "full_attention") for kind in kinds):
        raise ConversionError("config.json: layer_types must say linear_attention or full_attention for each layer")
    return [kind == "linear_attention" for kind in kinds[:layers]]


def read_hyper_parameters(config):
    refuse_what_the_format_cannot_say(config)
    layers = integer(config, "num_hidden_layers")
    h = HyperParameters(
        layers=layers,
        hidden=integer(config, "hidden_size"),
        heads=integer(config, "num_attention_heads"),
        kv_heads=integer(config, "num_key_value_heads"),
        head_dim=integer(config, "head_dim", 256),
        k_heads=integer(config, "linear_num_key_heads"),
        v_heads=integer(config, "linear_num_value_heads"),
        k_dim=integer(config, "linear_key_head_dim"),
        v_dim=integer(config, "linear_value_head_dim"),
        conv_taps=integer(config, "linear_conv_kernel_dim"),
        experts=integer(config, "num_experts"),
        expert_width=integer(config, "moe_intermediate_size"),
        shared_width=integer(config, "shared_expert_intermediate_size"),
        vocabulary=integer(config, "vocab_size"),
        recurrent=layer_kinds(config, layers),
        tied=bool(config.get("tie_word_embeddings", False)))
    if h.v_heads % h.k_heads != 0:
        raise ConversionError("config.json: linear_num_value_heads is not a multiple of linear_num_key_heads")
    if integer(config, "num_experts_per_tok") > h.experts:
        raise ConversionError("config.json: num_experts_per_tok is larger than num_experts")
    return h


def rope_settings(config):
    """base, fraction of the head that turns"""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConversionError(f"config.json: RoPE of type {kind} cannot be converted; only unscaled positions can")
    base = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    return float(base), float(rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 0.25)))


def write_layer_kinds(writer, config, h, block_count):
    for interval in (config.get("full_attention_interval") or 4, *range(1, h.layers + 2)):
        if h.recurrent == [(i + 1) % interval != 0 for i in range(h.layers)]:
            writer.add_uint32(".full_attention_interval", interval)
            return
    flags = h.recurrent + [False] * (block_count - h.layers)
    writer.add_array(".attention.recurrent_layers", flags)


def write_hyper_parameters(writer, config, h, mtp_layers):
    base, fraction = rope_settings(config)
    block_count = h.layers + mtp_layers
    writer.add_uint32(".block_count", block_count)
    writer.add_uint32(".context_length", integer(config, "max_position_embeddings", 32768))
    writer.add_uint32(".embedding_length", h.hidden)
    if isinstance(config.get("intermediate_size"), int):
        writer.add_uint32(".feed_forward_length", config["intermediate_size"])
    writer.add_uint32(".attention.head_count", h.heads)
    writer.add_uint32(".attention.head_count_kv", h.kv_heads)
    writer.add_uint32(".attention.key_length", h.head_dim)
    writer.add_uint32(".attention.value_length", h.head_dim)
    writer.add_float32(".attention.layer_norm_rms_epsilon", float(config.get("rms_norm_eps", 1e-6)))
    writer.add_float32(".rope.freq_base", base)
    writer.add_uint32(".rope.dimension_count", int(h.head_dim * fraction))
    writer.add_uint32(".expert_count", h.experts)
    writer.add_uint32(".expert_used_count", config["num_experts_per_tok"])
    writer.add_uint32(".expert_feed_forward_length", h.expert_width)
    writer.add_uint32(".expert_shared_feed_forward_length", h.shared_width)
    if not config.get("norm_topk_prob", True):
        writer.add_bool(".expert_weights_norm", False)
    writer.add_uint32(".ssm.conv_kernel", h.conv_taps)
    writer.add_uint32(".ssm.state_size", h.k_dim)
    writer.add_uint32(".ssm.group_count", h.k_heads)
    writer.add_uint32(".ssm.time_step_rank", h.v_heads)
    writer.add_uint32(".ssm.inner_size", h.delta_width)
    write_layer_kinds(writer, config, h, block_count)
    if mtp_layers:
        writer.add_uint32(".nextn_predict_layers", mtp_layers)
