"""Read an exported checkpoint back into the training model (the inverse of export_hf.hf_tensors)."""
from pathlib import Path

import torch
from safetensors.torch import load_file


def from_key_heads(w, sizes, cfg):
    """Undo the interleaving by key head; sizes are the rows of each part in one key head."""
    parts = w.reshape(cfg.k_heads, sum(sizes), w.shape[-1]).split(sizes, 1)
    return [p.reshape(-1, w.shape[-1]) for p in parts]


def delta_state(t, p, cfg):
    r, d = cfg.v_heads // cfg.k_heads, cfg.delta_dim
    q, k, v, z = from_key_heads(t[p + "in_proj_qkvz.weight"], [d, d, r * d, r * d], cfg)
    beta, a = from_key_heads(t[p + "in_proj_ba.weight"], [r, r], cfg)
    return {"in_q": q, "in_k": k, "in_v": v, "in_z": z, "in_ba": torch.cat([beta, a]),
            "conv": t[p + "conv1d.weight"].squeeze(1), "dt_bias": t[p + "dt_bias"], "A_log": t[p + "A_log"],
            "norm": t[p + "norm.weight"], "out_proj": t[p + "out_proj.weight"]}


def block_state(t, p, cfg):
    names = [f"experts.{e}." for e in range(cfg.experts)] + ["shared_expert."]
    out = {"ln1": t[p + "input_layernorm.weight"], "ln2": t[p + "post_attention_layernorm.weight"],
           "router": torch.cat([t[p + "mlp.gate.weight"], t[p + "mlp.shared_expert_gate.weight"]]),
           "gate": torch.stack([t[f"{p}mlp.{n}gate_proj.weight"] for n in names]),
           "up": torch.stack([t[f"{p}mlp.{n}up_proj.weight"] for n in names]),
           "down": torch.stack([t[f"{p}mlp.{n}down_proj.weight"].T for n in names])}
    if p + "self_attn.q_proj.weight" in t:
        return out | {n: t[f"{p}self_attn.{n}.weight"] for n in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")}
    return out | delta_state(t, p + "linear_attn.", cfg)


def load_hf(model, folder):
    t = {k: v.float() for k, v in load_file(str(Path(folder) / "model.safetensors")).items()}
    state = {"embed": t["model.embed_tokens.weight"], "norm": t["model.norm.weight"],
             "mtp.fc": t["mtp.fc.weight"], "mtp.enorm": t["mtp.pre_fc_norm_embedding.weight"],
             "mtp.hnorm": t["mtp.pre_fc_norm_hidden.weight"], "mtp.norm": t["mtp.norm.weight"]}
    for i in range(model.cfg.layers):
        state |= {f"blocks.{i}.{k}": v for k, v in block_state(t, f"model.layers.{i}.", model.cfg).items()}
    state |= {f"mtp_block.{k}": v for k, v in block_state(t, "mtp.layers.0.", model.cfg).items()}
    model.load_state_dict(state)
    return model
