#!/usr/bin/env python3
"""Write a training checkpoint (or a random model) in the layout of a published Qwen3-Next checkpoint."""
import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import DemoModel, ModelConfig

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")


def per_key_head(parts, cfg):
    """Row blocks of several projections, interleaved by key head as in_proj_qkvz and in_proj_ba are stored."""
    return torch.cat([p.reshape(cfg.k_heads, -1, p.shape[-1]) for p in parts], 1).flatten(0, 1)


def moe_tensors(p, prefix):
    out = {prefix + "gate.weight": p["router"][:-1], prefix + "shared_expert_gate.weight": p["router"][-1:]}
    for e in range(p["gate"].shape[0]):
        name = prefix + ("shared_expert." if e == p["gate"].shape[0] - 1 else f"experts.{e}.")
        out[name + "gate_proj.weight"] = p["gate"][e]
        out[name + "up_proj.weight"] = p["up"][e]
        out[name + "down_proj.weight"] = p["down"][e].T
    return out


def delta_tensors(p, prefix, cfg):
    beta, a = p["in_ba"].chunk(2)
    return {prefix + "in_proj_qkvz.weight": per_key_head([p["in_q"], p["in_k"], p["in_v"], p["in_z"]], cfg),
            prefix + "in_proj_ba.weight": per_key_head([beta, a], cfg),
            prefix + "conv1d.weight": p["conv"].unsqueeze(1), prefix + "dt_bias": p["dt_bias"],
            prefix + "A_log": p["A_log"], prefix + "norm.weight": p["norm"],
            prefix + "out_proj.weight": p["out_proj"]}


def block_tensors(p, prefix, cfg):
    out = {prefix + "input_layernorm.weight": p["ln1"], prefix + "post_attention_layernorm.weight": p["ln2"]}
    if "q_proj" in p:
        names = ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")
        out.update({f"{prefix}self_attn.{n}.weight": p[n] for n in names})
    else:
        out.update(delta_tensors(p, prefix + "linear_attn.", cfg))
    out.update(moe_tensors(p, prefix + "mlp."))
    return out


def hf_tensors(model):
    cfg = model.cfg
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    for i, p in enumerate(model.blocks):
        out.update(block_tensors(p, f"model.layers.{i}.", cfg))
    out.update({"mtp.fc.weight": model.mtp["fc"], "mtp.pre_fc_norm_embedding.weight": model.mtp["enorm"],
                "mtp.pre_fc_norm_hidden.weight": model.mtp["hnorm"], "mtp.norm.weight": model.mtp["norm"]})
    out.update(block_tensors(model.mtp_block, "mtp.layers.0.", cfg))
    return {k: v.detach().clone().contiguous() for k, v in out.items()}


def hf_config(cfg):
    end = cfg.vocab - 3
    return {"architectures": ["Qwen3NextForCausalLM"], "model_type": "qwen3_next", "attention_bias": False,
            "attention_dropout": 0.0, "bos_token_id": None, "eos_token_id": end, "pad_token_id": end,
            "decoder_sparse_step": 1, "full_attention_interval": cfg.interval, "head_dim": cfg.head_dim,
            "hidden_act": "silu", "hidden_size": cfg.hidden, "initializer_range": 0.02,
            "intermediate_size": 4 * cfg.hidden, "linear_conv_kernel_dim": cfg.conv,
            "linear_key_head_dim": cfg.delta_dim, "linear_num_key_heads": cfg.k_heads,
            "linear_num_value_heads": cfg.v_heads, "linear_value_head_dim": cfg.delta_dim,
            "max_position_embeddings": cfg.max_positions, "mlp_only_layers": [],
            "moe_intermediate_size": cfg.expert_width, "norm_topk_prob": True,
            "num_attention_heads": cfg.heads, "num_experts": cfg.experts, "num_experts_per_tok": cfg.top_k,
            "num_hidden_layers": cfg.layers, "num_key_value_heads": cfg.kv_heads,
            "num_nextn_predict_layers": 1, "output_router_logits": False,
            "partial_rotary_factor": cfg.rope_dim / cfg.head_dim, "rms_norm_eps": cfg.eps, "rope_scaling": None,
            "rope_theta": cfg.rope_theta, "router_aux_loss_coef": 0.001,
            "shared_expert_intermediate_size": cfg.shared_width, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": cfg.vocab}


def export(model, out, tokenizer=None, dtype=torch.bfloat16):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.to("cpu", dtype) for k, v in hf_tensors(model).items()}
    save_file(tensors, str(out / "model.safetensors"), metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(hf_config(model.cfg), indent=2) + "\n")
    for name in TOKENIZER_FILES if tokenizer else ():
        shutil.copyfile(Path(tokenizer) / name, out / name)
    return sum(v.numel() for v in tensors.values())


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("config", help="demo.json")
    ap.add_argument("out")
    ap.add_argument("--checkpoint", help="ckpt.pt of train.py; without it the weights are random")
    ap.add_argument("--tokenizer")
    args = ap.parse_args()
    cfg = ModelConfig.load(args.config)
    model = DemoModel(cfg)
    if args.checkpoint:
        model.load_state_dict(torch.load(args.checkpoint, map_location="cpu", weights_only=True)["model"])
    else:
        with torch.no_grad():  # zero-initialised projections would make a poor test file
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.02)
    print("parameters", export(model, args.out, args.tokenizer))


if __name__ == "__main__":
    main()
