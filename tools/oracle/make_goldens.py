#!/usr/bin/env python3
"""Writes tests/data/model: tiny random Qwen3-Next models as GGUF and the logits transformers gives for them.

    python3 tools/oracle/make_goldens.py [NAME ...]       (needs torch, transformers, safetensors, gguf)

For each model NAME:
  NAME.gguf           the weights, converted by tools/convert_hf_to_gguf.py from a saved checkpoint
  NAME.txt            the sequences: lines `vocabulary V`, then per sequence `tokens ...`, `rows ...` (the
                      positions whose logits are stored) and `next T` (the token after the last, for MTP)
  NAME.logits         float32 [all rows of all sequences, V], transformers in fp32, each sequence alone
  NAME.f16kv.logits   the same with every key (after RoPE) and value rounded to f16, as a KV cache stores them
  NAME.mtp.logits     models with an MTP head: its logits for the same rows, keys and values in f16
Weights are rounded to few distinct values, or are those that Q4_0 blocks hold, so that the files pack well.
"""

import argparse
import json
import math
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers.models.qwen3_next.modeling_qwen3_next as modeling
from safetensors.torch import load_file, save_file
from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import convert_hf_to_gguf as converter  # noqa: E402
from hf_convert.tensors import Layout  # noqa: E402
from hf_convert.tokenizer import QWEN2_PATTERN  # noqa: E402

converter.OUTPUT_TYPES["q4_0"] = (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0)
MERGES = ["Ġ t", "h e", "Ġ a", "i n", "Ġt he", "r e", "o n", "e r", "Ġ s", "a t", "o u", "n d", "i s"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 256 + len(MERGES) + len(SPECIALS)


@dataclass
class Golden:
    lengths: list
    seed: int
    outtype: str = "f32"
    layout: Layout = field(default_factory=Layout)
    mtp: bool = False
    decay: float = 1.0       # multiplies the decay of every second V head
    repeated: bool = False   # runs of one token, so that keys repeat
    config: dict = field(default_factory=dict)


SMALL = {"num_hidden_layers": 2, "full_attention_interval": 2, "hidden_size": 32, "linear_num_key_heads": 1,
         "linear_num_value_heads": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 4,
         "num_experts_per_tok": 2}
GOLDENS = {
    # The usual shape: four layers, V heads = 2 x K heads; a ragged batch of three.
    "base": Golden([17, 1, 40], 1, config={"num_experts": 6, "num_experts_per_tok": 3, "num_hidden_layers": 4,
                                           "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
                                           "linear_num_key_heads": 1, "linear_num_value_heads": 2}),
    "equal_heads": Golden([64, 3, 200], 2, config={
        **SMALL, "linear_num_key_heads": 2, "linear_num_value_heads": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "linear_conv_kernel_dim": 3, "tie_word_embeddings": True}),
    "triple_heads": Golden([65, 5], 3, outtype="bf16", config={
        **SMALL, "linear_num_key_heads": 2, "linear_num_value_heads": 6, "hidden_size": 64,
        "layer_types": ["full_attention", "linear_attention", "linear_attention"], "num_hidden_layers": 3}),
    "strong_decay": Golden([1000, 130], 4, decay=60.0, repeated=True, config=SMALL),
    "experts512": Golden([1, 3, 64], 5, outtype="q4_0", config={
        **SMALL, "num_experts": 512, "num_experts_per_tok": 10}),
    "wide": Golden([20, 65], 6, outtype="q4_0", config={
        **SMALL, "hidden_size": 256, "moe_intermediate_size": 256, "shared_expert_intermediate_size": 256,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "num_attention_heads": 1, "head_dim": 256,
        "num_experts": 2, "num_experts_per_tok": 2, "tie_word_embeddings": True}),
    "legacy": Golden([9, 66], 7, layout=Layout(legacy_ssm_in=True), config={
        **SMALL, "linear_num_key_heads": 2, "linear_num_value_heads": 4}),
    "merged": Golden([9, 66], 8, outtype="f16", layout=Layout(merge_gate_up=True), config=SMALL),
    "tied_mtp": Golden([33, 4], 9, mtp=True, config={**SMALL, "tie_word_embeddings": True}),
}


def make_config(golden):
    settings = {
        "vocab_size": VOCABULARY, "head_dim": 32, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
        "linear_conv_kernel_dim": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
        "intermediate_size": 64, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25, "eos_token_id": VOCABULARY - 3, "attn_implementation": "eager"}
    return Qwen3NextConfig(**{**settings, **golden.config})


def coarse(values, deviation, steps=4):
    """Normal values of the deviation on a grid of `steps` points a deviation, at most 3 (or 2) away."""
    step = 2.0 ** round(math.log2(deviation / steps))
    limit = 12 if steps > 1 else 2
    return (values * deviation / step).round().clamp(-limit, limit) * step


def as_stored(name, values, golden):
    """What is left of the values in the file's type."""
    if values.dim() < 2 or golden.outtype != "q4_0" or name.endswith((".gate.weight", "conv1d.weight")):
        return values
    kind = gguf.GGMLQuantizationType.Q4_0
    return torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(values.numpy(), kind), kind)).reshape(
        values.shape)


def random_weight(name, shape, golden, generator):
    normal = torch.randn(shape, generator=generator)
    if name.endswith("A_log"):
        factor = torch.ones(shape)
        factor[::2] = golden.decay
        return torch.log(coarse(torch.rand(shape, generator=generator) + 0.05, 1.0) * 0.1 * factor + 0.005)
    if name.endswith("dt_bias"):
        return coarse(normal, 1.0) + (2.0 if golden.decay > 1 else 0.0)
    if name.endswith("linear_attn.norm.weight"):
        return 1 + coarse(normal, 0.25)
    if name.endswith("norm.weight") or "pre_fc_norm" in name:
        return coarse(normal, 0.25)
    if name.endswith("conv1d.weight"):
        return coarse(normal, 0.5)
    if "embed_tokens" in name:
        return coarse(normal, 1.0)
    gain = 2.0 if name.endswith((".gate.weight", "lm_head.weight", "in_proj_ba.weight")) else 1.0
    steps = 1 if golden.outtype == "q4_0" and len(shape) == 3 else 4
    return coarse(normal, gain / math.sqrt(shape[-1]), steps)


def randomise(named_tensors, golden, generator):
    with torch.no_grad():
        for name, tensor in sorted(named_tensors):
            values = random_weight(name, tensor.shape, golden, generator)
            tensor.copy_(as_stored(name, values, golden))


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + i) for i, b in enumerate(others)}


def write_tokenizer(folder):
    tokens = [byte_alphabet()[b] for b in range(256)] + [merge.replace(" ", "") for merge in MERGES]
    added = [{"id": len(tokens) + i, "content": s, "special": True, "normalized": False, "lstrip": False,
              "rstrip": False, "single_word": False} for i, s in enumerate(SPECIALS)]
    split = {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "decoder": level,
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in MERGES]}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "bos_token": None, "add_bos_token": False,
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                         "{% endfor %}<|im_start|>assistant\n"}))


def save_checkpoint(model, mtp_tensors, folder):
    """In two files with an index, the way large checkpoints are."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    tensors.update(mtp_tensors)
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2:]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name].contiguous() for name in part}, folder / file)
        weight_map.update({name: file for name in part})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    write_tokenizer(folder)


class KvRounding:
    """While active, attention sees keys and values as an f16 cache gives them back."""

    def __enter__(self):
        self.original = modeling.eager_attention_forward
        modeling.eager_attention_forward = lambda module, query, key, value, *args, **kwargs: self.original(
            module, query, key.half().float(), value.half().float(), *args, **kwargs)

    def __exit__(self, *_):
        modeling.eager_attention_forward = self.original


class MtpHead(torch.nn.Module):
    """fc([norm(embedding of the next token) ; norm(hidden)]), one attention block, norm, the shared head."""

    def __init__(self, config):
        super().__init__()
        one_layer = Qwen3NextConfig(**{**config.to_dict(), "num_hidden_layers": 1, "layer_types": ["full_attention"],
                                       "attn_implementation": "eager"})
        self.fc = torch.nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.pre_fc_norm_embedding = modeling.Qwen3NextRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.pre_fc_norm_hidden = modeling.Qwen3NextRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.layers = torch.nn.ModuleList([modeling.Qwen3NextDecoderLayer(one_layer, 0)])
        self.norm = modeling.Qwen3NextRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, model, hidden, next_tokens):
        x = self.fc(torch.cat([self.pre_fc_norm_embedding(model.model.embed_tokens(next_tokens)),
                               self.pre_fc_norm_hidden(hidden)], dim=-1))
        count = x.shape[1]
        mask = torch.full((count, count), -torch.inf).triu(1)[None, None]
        positions = model.model.rotary_emb(x, torch.arange(count)[None])
        return model.lm_head(self.norm(self.layers[0](x, position_embeddings=positions, attention_mask=mask)))

    def checkpoint(self):
        """Its tensors as published checkpoints name them: mtp.*, one tensor for each expert's matrix."""
        tensors = {}
        for name, tensor in self.state_dict().items():
            if name.endswith("experts.gate_up_proj"):
                for e, both in enumerate(tensor):
                    gate, up = both.chunk(2)
                    tensors[f"mtp.{name[:-12]}{e}.gate_proj.weight"] = gate
                    tensors[f"mtp.{name[:-12]}{e}.up_proj.weight"] = up
            elif name.endswith("experts.down_proj"):
                for e, down in enumerate(tensor):
                    tensors[f"mtp.{name[:-9]}{e}.down_proj.weight"] = down
            else:
                tensors[f"mtp.{name}"] = tensor
        return tensors


def make_sequences(golden, generator):
    for length in golden.lengths:
        tokens = torch.randint(VOCABULARY, (length + 1,), generator=generator)
        if golden.repeated:  # runs of 1 to 30 tokens
            run_of = torch.cumsum(torch.rand(length + 1, generator=generator) < 0.15, 0)
            tokens = tokens[run_of]
        rows = {0, 1, 3, 15, 16, 31, 32, 63, 64, 127, length // 2, length - 2, length - 1}
        rows = sorted(r for r in rows if 0 <= r < length)
        yield tokens, rows if length <= 200 else rows[:3] + rows[-7:]


def write_logits(path, rows):
    data = torch.cat(rows).float().numpy()
    assert np.isfinite(data).all()
    path.write_bytes(data.tobytes())
    return data


def make(name, golden, out):
    generator = torch.Generator().manual_seed(golden.seed)
    model = Qwen3NextForCausalLM(make_config(golden)).float().eval()
    randomise(model.named_parameters(), golden, generator)
    mtp = MtpHead(model.config).float().eval() if golden.mtp else None
    if mtp:
        randomise(mtp.named_parameters(), golden, generator)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, mtp.checkpoint() if mtp else {}, Path(folder))
        converter.convert(folder, out / f"{name}.gguf", golden.outtype, golden.layout, f"golden {name}")

    lines, exact, rounded, drafts = [f"vocabulary {VOCABULARY}"], [], [], []
    with torch.no_grad():
        for tokens, rows in make_sequences(golden, generator):
            ids = tokens[None, :-1]
            exact.append(model(ids, use_cache=False).logits[0, rows])
            with KvRounding():
                result = model.model(ids, use_cache=False).last_hidden_state
                rounded.append(model.lm_head(result)[0, rows])
                if mtp:
                    drafts.append(mtp(model, result, tokens[None, 1:])[0, rows])
            lines += ["tokens " + " ".join(str(int(t)) for t in ids[0]), "rows " + " ".join(map(str, rows)),
                      f"next {int(tokens[-1])}"]
    (out / f"{name}.txt").write_text("\n".join(lines) + "\n")
    a = write_logits(out / f"{name}.logits", exact)
    b = write_logits(out / f"{name}.f16kv.logits", rounded)
    if mtp:
        write_logits(out / f"{name}.mtp.logits", drafts)
    size = (out / f"{name}.gguf").stat().st_size
    print(f"{name}: {size / 1e6:.2f} MB, logits deviate by {a.std():.2f}, "
          f"f16 keys and values change them by NMSE {((a - b) ** 2).sum() / (a ** 2).sum():.1e}")


def main():
    parser = argparse.ArgumentParser(description="Make the golden models and logits of the model tests.")
    parser.add_argument("names", nargs="*", choices=[*GOLDENS, []], help="which (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "model")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in arguments.names or GOLDENS:
        make(name, GOLDENS[name], arguments.out)


if __name__ == "__main__":
    main()
