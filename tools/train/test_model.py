#!/usr/bin/env python3
"""Checks of the training model on a CPU: against transformers, against the plain recurrence, gradients."""
import tempfile

import torch
import torch.nn.functional as F

from delta_rule import gated_delta_rule, l2norm
from export_hf import export
from model import DemoModel, ModelConfig

TINY = ModelConfig(vocab=320, hidden=64, layers=4, heads=2, kv_heads=1, k_heads=2, v_heads=4, expert_width=32,
                   shared_width=32)


def recurrence(q, k, v, g, beta):
    r = v.shape[2] // q.shape[2]
    q, k = (l2norm(x).repeat_interleave(r, 2) for x in (q, k))
    s = torch.zeros(v.shape[0], v.shape[2], q.shape[-1], v.shape[-1], dtype=v.dtype)
    out = []
    for t in range(v.shape[1]):
        s = s * g[:, t].exp()[..., None, None]
        d = beta[:, t, :, None] * (v[:, t] - torch.einsum("bhkv,bhk->bhv", s, k[:, t]))
        s = s + k[:, t, :, :, None] * d[..., None, :]
        out.append(torch.einsum("bhkv,bhk->bhv", s, q[:, t]) * q.shape[-1] ** -0.5)
    return torch.stack(out, 1)


def delta_case(name, t, scale=1.0, repeat=False, dtype=torch.float64, tol=1e-9):
    torch.manual_seed(0)
    b, hk, hv, d = 2, 2, 4, 128
    q, k = torch.randn(b, t, hk, d, dtype=dtype), torch.randn(b, t, hk, d, dtype=dtype)
    if repeat:
        k = k[:, :1].expand_as(k).clone() + 0.01 * k
    v = torch.randn(b, t, hv, d, dtype=dtype)
    g = -torch.rand(b, t, hv, dtype=dtype) * scale
    beta = torch.sigmoid(torch.randn(b, t, hv, dtype=dtype) + (6 if repeat else 0))
    args = [x.requires_grad_() for x in (q, k, v, g, beta)]
    probe = torch.randn(b, t, hv, d, dtype=dtype)
    want, got = recurrence(*args), gated_delta_rule(*args)
    gw = torch.autograd.grad((want * probe).sum(), args)
    gg = torch.autograd.grad((got * probe).sum(), args)
    errors = [float((x - y).norm() / x.norm()) for x, y in zip((want, *gw), (got, *gg))]
    print(f"delta {name}: " + " ".join(f"{e:.1e}" for e in errors))
    assert max(errors) < tol


def random_model(cfg, dtype):
    model = DemoModel(cfg, dtype=dtype).to(dtype)
    gen = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=gen, dtype=dtype) * 0.05)
    return model


def against_transformers():
    from transformers import AutoModelForCausalLM
    model = random_model(TINY, torch.float32)
    tokens = torch.randint(0, TINY.vocab, (2, 150))
    with tempfile.TemporaryDirectory() as d:
        export(model, d, dtype=torch.float32)
        ref, info = AutoModelForCausalLM.from_pretrained(d, dtype=torch.float32, output_loading_info=True)
    print("missing", info["missing_keys"], "unexpected", len(info["unexpected_keys"]))
    assert ref.config.rope_parameters["rope_theta"] == TINY.rope_theta
    with torch.no_grad():
        want = ref(tokens).logits
        got, _ = model.logits(tokens)
    err = (want - got).abs().max().item()
    print(f"logits: std {want.std():.3f}, largest difference {err:.2e}")
    assert err < 1e-4 * want.abs().max()


def overfit():
    torch.manual_seed(0)
    model = DemoModel(TINY, dtype=torch.float32)
    tokens = torch.randint(0, TINY.vocab, (2, 98))
    opt = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(60):
        main, ahead, aux, _ = model.losses(tokens)
        opt.zero_grad()
        (main + ahead + 0.01 * aux).backward()
        opt.step()
    print(f"overfit: loss {main:.3f} mtp {ahead:.3f} aux {aux:.3f}")
    assert main < 1.0
    assert all(p.grad is not None for p in model.parameters())


if __name__ == "__main__":
    delta_case("plain", 128)
    delta_case("ragged", 100)
    delta_case("strong decay", 192, scale=5.0)
    delta_case("repeated keys", 128, repeat=True)
    delta_case("short", 3)
    against_transformers()
    overfit()
