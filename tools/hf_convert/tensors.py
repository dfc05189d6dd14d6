"""Which GGUF tensors a Qwen3-Next checkpoint becomes, and how each is made from the checkpoint's own.

An Output names a tensor, its shape (slowest dimension first) and a function that yields its values in pieces
(one expert, or the whole), so that a 160 GB checkpoint is converted in the memory of one matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import ConversionError


@dataclass
class Output:
    name: str
    shape: tuple
    pieces: Callable  # () -> iterator of float32 arrays, in order, that together fill the shape


@dataclass
class Layout:
    """Choices of the file's layout."""
    legacy_ssm_in: bool = False  # one tensor for the DeltaNet input, rows grouped by K head (before 2026)
    merge_gate_up: bool = False  # gate and up of an expert in one matrix
    mtp: bool = True


class Planner:
    def __init__(self, checkpoint, h, layout):
        self.checkpoint = checkpoint
        self.h = h
        self.layout = layout
        self.outputs = []

    def add(self, name, shape, pieces):
        self.outputs.append(Output(name, tuple(shape), pieces))

    def copy(self, name, source, shape, change=lambda values: values, source_shape=None):
        """One tensor from one tensor, changed elementwise or reshaped."""
        self.checkpoint.require(source, source_shape or shape)
        self.add(name, shape, lambda: iter([change(self.checkpoint.read(source)).reshape(shape)]))

    def norm(self, name, source, size):
        self.copy(name, source, (size,), lambda w: w + np.float32(1))  # the checkpoint's are centred on zero

    def plan(self):
        h = self.h
        self.copy("token_embd.weight", "model.embed_tokens.weight", (h.vocabulary, h.hidden))
        for layer in range(h.layers):
            self.block(f"model.layers.{layer}.", f"blk.{layer}.", h.recurrent[layer])
        mtp_layers = self.plan_mtp()
        self.norm("output_norm.weight", "model.norm.weight", h.hidden)
        if h.tied:
            self.checkpoint.used.add("lm_head.weight")  # a copy of the embedding, if it is there at all
        else:
            self.copy("output.weight", "lm_head.weight", (h.vocabulary, h.hidden))
        self.refuse_leftovers()
        return self.outputs, mtp_layers

    def block(self, source, target, recurrent):
        hidden = self.h.hidden
        self.norm(target + "attn_norm.weight", source + "input_layernorm.weight", hidden)
        if recurrent:
            self.delta_net(source + "linear_attn.", target)
        else:
            self.attention(source + "self_attn.", target)
        self.norm(target + "post_attention_norm.weight", source + "post_attention_layernorm.weight", hidden)
        self.experts(source + "mlp.", target)

    def attention(self, source, target):
        h = self.h
        self.copy(target + "attn_q.weight", source + "q_proj.weight", (2 * h.heads * h.head_dim, h.hidden))
        self.copy(target + "attn_k.weight", source + "k_proj.weight", (h.kv_heads * h.head_dim, h.hidden))
        self.copy(target + "attn_v.weight", source + "v_proj.weight", (h.kv_heads * h.head_dim, h.hidden))
        self.copy(target + "attn_output.weight", source + "o_proj.weight", (h.hidden, h.heads * h.head_dim))
        self.norm(target + "attn_q_norm.weight", source + "q_norm.weight", h.head_dim)
        self.norm(target + "attn_k_norm.weight", source + "k_norm.weight", h.head_dim)

    def delta_net(self, source, target):
        h = self.h
        self.delta_inputs(source, target)
        self.copy(target + "ssm_conv1d.weight", source + "conv1d.weight", (h.channels, h.conv_taps),
                  source_shape=(h.channels, 1, h.conv_taps))
        self.copy(target + "ssm_dt.bias", source + "dt_bias", (h.v_heads,))
        self.copy(target + "ssm_a", source + "A_log", (h.v_heads,), lambda a: -np.exp(a))
        self.copy(target + "ssm_norm.weight", source + "norm.weight", (h.v_dim,))  # centred on one already
        self.copy(target + "ssm_out.weight", source + "out_proj.weight", (h.hidden, h.delta_width))

    def delta_inputs(self, source, target):
        """qkvz and ba; fused in the checkpoint (rows grouped by K head) or as four projections."""
        h = self.h
        fused = source + "in_proj_qkvz.weight" in self.checkpoint
        names = (["in_proj_qkvz", "in_proj_ba"] if fused else
                 ["in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a"])
        rows = ([h.channels + h.delta_width, 2 * h.v_heads] if fused else
                [h.channels, h.delta_width, h.v_heads, h.v_heads])
        names = [f"{source}{name}.weight" for name in names]
        for name, count in zip(names, rows):
            self.checkpoint.require(name, (count, h.hidden))
        read = self.checkpoint.read

        def by_head():  # q, k [K heads, k_dim, hidden]; v, z [K heads, ratio * v_dim, hidden]
            width = h.ratio * h.v_dim
            if fused:
                grouped = read(names[0]).reshape(h.k_heads, -1, h.hidden)
                return np.split(grouped, np.cumsum([h.k_dim, h.k_dim, width]), axis=1)
            q, k, v = np.split(read(names[0]), np.cumsum([h.k_heads * h.k_dim] * 2), axis=0)
            return [part.reshape(h.k_heads, -1, h.hidden) for part in (q, k, v, read(names[1]))]

        def flat(parts):
            return iter([np.concatenate([part.reshape(-1, h.hidden) for part in parts])])

        def ba():
            if fused:
                return iter([read(names[1])])
            b, a = (read(name).reshape(h.k_heads, h.ratio, h.hidden) for name in names[2:])
            return iter([np.concatenate([b, a], axis=1).reshape(2 * h.v_heads, h.hidden)])

        if self.layout.legacy_ssm_in:
            self.add(target + "ssm_in.weight", (h.channels + h.delta_width, h.hidden),
                     lambda: iter([np.concatenate(by_head(), axis=1).reshape(-1, h.hidden)]))
        else:
            self.add(target + "attn_qkv.weight", (h.channels, h.hidden), lambda: flat(by_head()[:3]))
            self.add(target + "attn_gate.weight", (h.delta_width, h.hidden), lambda: flat(by_head()[3:]))
        self.add(target + "ssm_ba.weight", (2 * h.v_heads, h.hidden), ba)

    def experts(self, source, target):
        h = self.h
        self.copy(target + "ffn_gate_inp.weight", source + "gate.weight", (h.experts, h.hidden))
        gate_up, down = self.expert_readers(source + "experts.")
        wide = (h.experts, h.expert_width, h.hidden)
        if self.layout.merge_gate_up:
            self.add(target + "ffn_gate_up_exps.weight", (h.experts, 2 * h.expert_width, h.hidden),
                     lambda: (np.concatenate(gate_up(e)) for e in range(h.experts)))
        else:
            self.add(target + "ffn_gate_exps.weight", wide, lambda: (gate_up(e)[0] for e in range(h.experts)))
            self.add(target + "ffn_up_exps.weight", wide, lambda: (gate_up(e)[1] for e in range(h.experts)))
        self.add(target + "ffn_down_exps.weight", (h.experts, h.hidden, h.expert_width),
                 lambda: (down(e) for e in range(h.experts)))
        shared = source + "shared_expert."
        self.copy(target + "ffn_gate_inp_shexp.weight", source + "shared_expert_gate.weight", (h.hidden,),
                  source_shape=(1, h.hidden))
        self.copy(target + "ffn_gate_shexp.weight", shared + "gate_proj.weight", (h.shared_width, h.hidden))
        self.copy(target + "ffn_up_shexp.weight", shared + "up_proj.weight", (h.shared_width, h.hidden))
        self.copy(target + "ffn_down_shexp.weight", shared + "down_proj.weight", (h.hidden, h.shared_width))

    def expert_readers(self, source):
        """Functions of the expert's number: (gate, up), and down. Experts are stacked or one tensor each."""
        h, checkpoint = self.h, self.checkpoint
        if source + "gate_up_proj" in checkpoint:
            checkpoint.require(source + "gate_up_proj", (h.experts, 2 * h.expert_width, h.hidden))
            checkpoint.require(source + "down_proj", (h.experts, h.hidden, h.expert_width))
            return (lambda e: np.split(checkpoint.read(source + "gate_up_proj", e), 2),
                    lambda e: checkpoint.read(source + "down_proj", e))
        for e in range(h.experts):
            for name in ("gate_proj", "up_proj"):
                checkpoint.require(f"{source}{e}.{name}.weight", (h.expert_width, h.hidden))
            checkpoint.require(f"{source}{e}.down_proj.weight", (h.hidden, h.expert_width))
        return (lambda e: [checkpoint.read(f"{source}{e}.{name}.weight") for name in ("gate_proj", "up_proj")],
                lambda e: checkpoint.read(f"{source}{e}.down_proj.weight"))

    def plan_mtp(self):
        """The multi-token prediction head becomes one more block; returns how many (0 or 1)."""
        h = self.h
        names = [name for name in self.checkpoint.tensors if name.startswith("mtp.")]
        if not names:
            return 0
        if not self.layout.mtp:
            self.checkpoint.used.update(names)
            return 0
        target = f"blk.{h.layers}."
        self.block("mtp.layers.0.", target, recurrent=False)
        self.copy(target + "nextn.eh_proj.weight", "mtp.fc.weight", (h.hidden, 2 * h.hidden))
        self.norm(target + "nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight", h.hidden)
        self.norm(target + "nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight", h.hidden)
        self.norm(target + "nextn.shared_head_norm.weight", "mtp.norm.weight", h.hidden)
        for name, source in (("embed_tokens", "mtp.embed_tokens"), ("shared_head_head", "mtp.lm_head")):
            if source + ".weight" in self.checkpoint:
                self.copy(f"{target}nextn.{name}.weight", source + ".weight", (h.vocabulary, h.hidden))
        return 1

    def refuse_leftovers(self):
        left = sorted(set(self.checkpoint.tensors) - self.checkpoint.used)
        if left:
            raise ConversionError(
                f"the checkpoint holds {len(left)} tensors that have no place in a qwen3next file, such as {left[0]}")
