"""Qwen3-Next for training: the maths of transformers' Qwen3NextForCausalLM (and its MTP head) in few large kernels.

Every block is a pure function of tensors, so that torch.compile builds one graph per block kind. The
experts are evaluated densely as one wide MLP whose columns are scaled by the (sparse) routing weights,
which is the same sum and for eight small experts is faster than gathering tokens.
"""
import json
from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from delta_rule import gated_delta_rule


@dataclass
class ModelConfig:
    vocab: int = 12288
    hidden: int = 512
    layers: int = 8
    interval: int = 4
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 256
    rope_theta: float = 10000.0
    rope_dim: int = 64
    k_heads: int = 2
    v_heads: int = 4
    delta_dim: int = 128
    conv: int = 4
    experts: int = 8
    top_k: int = 4
    expert_width: int = 256
    shared_width: int = 256
    eps: float = 1e-6
    max_positions: int = 2048

    @staticmethod
    def load(path):
        with open(path) as f:
            return ModelConfig(**json.load(f)["model"])

    def is_attention(self, layer):
        return (layer + 1) % self.interval == 0

    def dump(self):
        return asdict(self)


def rms(x, weight, eps):
    x = x.float() if x.dtype == torch.bfloat16 else x
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * (1 + weight)


def linear(x, weight, dtype):
    return F.linear(x.to(dtype), weight.to(dtype))


def rope_tables(cfg, t, device, dtype):
    inv = 1.0 / cfg.rope_theta ** (torch.arange(0, cfg.rope_dim, 2, device=device, dtype=torch.float32) / cfg.rope_dim)
    freqs = torch.arange(t, device=device, dtype=torch.float32)[:, None] * inv
    angles = torch.cat([freqs, freqs], -1)[:, None, :]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rope(x, cos, sin):
    """x [b, t, h, d], rotated in its first cos.shape[-1] dimensions (pairs i, i + half)."""
    n = cos.shape[-1]
    rot, rest = x[..., :n], x[..., n:]
    a, b = rot.chunk(2, -1)
    return torch.cat([rot * cos + torch.cat([-b, a], -1) * sin, rest], -1)


def attention(x, p, cfg, cos, sin, dtype):
    b, t, _ = x.shape
    w = torch.cat([p["q_proj"], p["k_proj"], p["v_proj"]])
    qkv = linear(x, w, dtype)
    nq, nk = 2 * cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim
    q, k, v = qkv.split([nq, nk, nk], -1)
    q, gate = q.reshape(b, t, cfg.heads, 2 * cfg.head_dim).chunk(2, -1)
    q = rope(rms(q, p["q_norm"], cfg.eps), cos, sin).to(dtype).transpose(1, 2)
    k = rope(rms(k.reshape(b, t, cfg.kv_heads, -1), p["k_norm"], cfg.eps), cos, sin).to(dtype).transpose(1, 2)
    v = v.reshape(b, t, cfg.kv_heads, -1).transpose(1, 2)
    rep = cfg.heads // cfg.kv_heads
    k, v = (z.repeat_interleave(rep, 1) for z in (k, v))
    o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    o = o * torch.sigmoid(gate)
    return linear(o.reshape(b, t, -1), p["o_proj"], dtype)


def causal_conv(x, weight):
    """Depthwise causal convolution; x [b, t, c], weight [c, taps], the last tap meets the newest token."""
    taps = weight.shape[1]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    t = x.shape[1]
    return sum(padded[:, j:j + t] * weight[:, j] for j in range(taps))


def delta_net(x, p, cfg, dtype):
    b, t, _ = x.shape
    kd, vd = cfg.k_heads * cfg.delta_dim, cfg.v_heads * cfg.delta_dim
    w = torch.cat([p["in_q"], p["in_k"], p["in_v"], p["in_z"]])
    qkv, z = linear(x, w, dtype).split([2 * kd + vd, vd], -1)
    ba = linear(x, p["in_ba"], dtype).to(p["A_log"].dtype)  # [beta of every head | a of every head]
    beta, a = ba.split(cfg.v_heads, -1)
    g = -p["A_log"].exp() * F.softplus(a + p["dt_bias"])
    qkv = F.silu(causal_conv(qkv.to(p["conv"].dtype), p["conv"])).to(dtype)
    q, k, v = qkv.split([kd, kd, vd], -1)
    q, k, v = (y.reshape(b, t, -1, cfg.delta_dim) for y in (q, k, v))
    o = gated_delta_rule(q, k, v, g, beta.sigmoid()).to(p["norm"].dtype)
    o = o * torch.rsqrt(o.pow(2).mean(-1, keepdim=True) + cfg.eps) * p["norm"]
    o = o * F.silu(z.reshape(b, t, -1, cfg.delta_dim).to(o.dtype))
    return linear(o.reshape(b, t, -1), p["out_proj"], dtype)


def route(logits, top_k):
    """Renormalised top-k softmax weights (zero elsewhere) and the load-balancing loss (1 when balanced)."""
    prob = logits.softmax(-1)
    n = prob.shape[-1]
    one, other = prob.unsqueeze(-1), prob.unsqueeze(-2)
    index = torch.arange(n, device=prob.device)
    earlier = index[None, :] < index[:, None]
    rank = ((other > one) | ((other == one) & earlier)).sum(-1)
    chosen = (rank < top_k).to(prob.dtype)
    weight = prob * chosen
    weight = weight / weight.sum(-1, keepdim=True)
    lead = tuple(range(prob.dim() - 1))
    share = chosen.mean(lead) / top_k
    return weight, n * (share.detach() * prob.mean(lead)).sum(), share.detach()


def moe(x, p, cfg, dtype):
    """gate, up, down: [experts + 1, width, hidden], the last one shared; router: [experts + 1, hidden] likewise."""
    scores = linear(x, p["router"], dtype).to(p["router"].dtype)
    weight, aux, share = route(scores[..., :-1], cfg.top_k)
    weight = torch.cat([weight, scores[..., -1:].sigmoid()], -1).to(dtype)
    gate, up, down = (p[n].flatten(0, 1) for n in ("gate", "up", "down"))
    h = F.silu(linear(x, gate, dtype)) * linear(x, up, dtype)
    h = h.unflatten(-1, (cfg.experts + 1, cfg.expert_width)) * weight[..., None]
    return h.flatten(-2).to(dtype) @ down.to(dtype), aux, share


def attention_block(x, p, cfg, cos, sin, dtype):
    x = x + attention(rms(x, p["ln1"], cfg.eps), p, cfg, cos, sin, dtype)
    y, aux, share = moe(rms(x, p["ln2"], cfg.eps), p, cfg, dtype)
    return x + y, aux, share


def delta_block(x, p, cfg, dtype):
    x = x + delta_net(rms(x, p["ln1"], cfg.eps), p, cfg, dtype)
    y, aux, share = moe(rms(x, p["ln2"], cfg.eps), p, cfg, dtype)
    return x + y, aux, share


def mtp_input(h, nxt, p, cfg, dtype):
    both = torch.cat([rms(nxt, p["enorm"], cfg.eps), rms(h, p["hnorm"], cfg.eps)], -1)
    return linear(both, p["fc"], dtype).to(h.dtype)


def head_loss(h, embed, target, dtype):
    logits = linear(h, embed, dtype)
    return F.cross_entropy(logits.flatten(0, -2).float(), target.flatten(), reduction="mean")


def moe_params(cfg, init):
    n, h, w = cfg.experts + 1, cfg.hidden, cfg.expert_width
    return {"ln2": torch.zeros(h), "router": init(n, h), "gate": init(n, w, h), "up": init(n, w, h),
            "down": torch.zeros(n, w, h)}


def attention_params(cfg, init):
    h, d = cfg.hidden, cfg.head_dim
    return {"ln1": torch.zeros(h), "q_proj": init(2 * cfg.heads * d, h), "k_proj": init(cfg.kv_heads * d, h),
            "v_proj": init(cfg.kv_heads * d, h), "o_proj": torch.zeros(h, cfg.heads * d),
            "q_norm": torch.zeros(d), "k_norm": torch.zeros(d), **moe_params(cfg, init)}


def delta_params(cfg, init, gen):
    h, kd, vd = cfg.hidden, cfg.k_heads * cfg.delta_dim, cfg.v_heads * cfg.delta_dim
    conv = torch.randn(2 * kd + vd, cfg.conv, generator=gen) * 0.1
    conv[:, -1] += 0.7
    span = torch.exp(torch.linspace(0, 1, cfg.v_heads) * torch.log(torch.tensor(100.0))) * 0.001
    dt = span + torch.log(-torch.expm1(-span))  # inverse softplus
    return {"ln1": torch.zeros(h), "in_q": init(kd, h), "in_k": init(kd, h), "in_v": init(vd, h),
            "in_z": init(vd, h), "in_ba": init(2 * cfg.v_heads, h), "conv": conv, "dt_bias": dt,
            "A_log": torch.log(torch.linspace(1, 8, cfg.v_heads)), "norm": torch.ones(cfg.delta_dim),
            "out_proj": torch.zeros(h, vd), **moe_params(cfg, init)}


class DemoModel(nn.Module):
    def __init__(self, cfg, seed=1, dtype=torch.bfloat16):
        super().__init__()
        gen = torch.Generator().manual_seed(seed)
        self.cfg, self.dtype = cfg, dtype

        def init(*shape):
            return torch.randn(*shape, generator=gen) * 0.5 * shape[-1] ** -0.5

        self.embed = nn.Parameter(torch.randn(cfg.vocab, cfg.hidden, generator=gen) * 0.02)
        self.norm = nn.Parameter(torch.zeros(cfg.hidden))
        self.blocks = nn.ModuleList(
            nn.ParameterDict(attention_params(cfg, init) if cfg.is_attention(i) else delta_params(cfg, init, gen))
            for i in range(cfg.layers))
        h = cfg.hidden
        self.mtp = nn.ParameterDict({"enorm": torch.zeros(h), "hnorm": torch.zeros(h), "fc": init(h, 2 * h),
                                     "norm": torch.zeros(h)})
        self.mtp_block = nn.ParameterDict(attention_params(cfg, init))
        self.plain = {"attn": attention_block, "delta": delta_block, "head": head_loss, "mtp": mtp_input}
        self.fns = self.plain

    def compile(self, **kw):
        self.fns = {k: torch.compile(f, dynamic=False, fullgraph=True, **kw) for k, f in self.plain.items()}

    def _tables(self, t):
        dev = self.embed.device
        return rope_tables(self.cfg, t, dev, torch.float32 if self.dtype == torch.bfloat16 else self.dtype)

    def trunk(self, x):
        """Embedded tokens -> hidden states after the final norm, the routing losses and expert shares."""
        cos, sin = self._tables(x.shape[1])
        aux, shares = [], []
        for i, p in enumerate(self.blocks):
            if self.cfg.is_attention(i):
                x, a, s = self.fns["attn"](x, dict(p.items()), self.cfg, cos, sin, self.dtype)
            else:
                x, a, s = self.fns["delta"](x, dict(p.items()), self.cfg, self.dtype)
            aux.append(a)
            shares.append(s)
        return rms(x, self.norm, self.cfg.eps), aux, shares

    def mtp_hidden(self, h, nxt):
        cos, sin = self._tables(h.shape[1])
        y = self.fns["mtp"](h, nxt, dict(self.mtp.items()), self.cfg, self.dtype)
        y, aux, share = self.fns["attn"](y, dict(self.mtp_block.items()), self.cfg, cos, sin, self.dtype)
        return rms(y, self.mtp["norm"], self.cfg.eps), aux, share

    def losses(self, tokens):
        """tokens [b, t + 2] -> (next-token loss, MTP loss, mean routing loss, expert shares [blocks, experts])."""
        e = F.embedding(tokens[:, :-1], self.embed)
        h, aux, shares = self.trunk(e[:, :-1])
        main = self.fns["head"](h, self.embed, tokens[:, 1:-1].contiguous(), self.dtype)
        m, a, s = self.mtp_hidden(h, e[:, 1:])
        ahead = self.fns["head"](m, self.embed, tokens[:, 2:].contiguous(), self.dtype)
        return main, ahead, torch.stack(aux + [a]).mean(), torch.stack(shares + [s])

    def logits(self, tokens):
        h, _, _ = self.trunk(F.embedding(tokens, self.embed))
        return linear(h, self.embed, self.dtype), h
