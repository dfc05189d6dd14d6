#!/usr/bin/env python3
"""Judge an exported checkpoint with transformers itself: bits per byte, samples, reference logits, MTP."""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

PROMPTS = ["Once upon a time, in a small village by the sea, there lived",
           "The old man closed the door, lit his pipe, and began:",
           "\"You must not go there alone,\" said the captain."]


@torch.no_grad()
def bits_per_byte(model, ids, size, window, batch=32):
    """Non-overlapping windows; every token but the very first is predicted exactly once."""
    n, total = len(ids) - 1, 0.0
    full = n // window
    span = torch.arange(window + 1)
    blocks = [ids[torch.arange(lo, min(full, lo + batch))[:, None] * window + span] for lo in range(0, full, batch)]
    if n > full * window:
        blocks.append(ids[None, full * window:])
    for block in blocks:
        block = block.to(model.device)
        logits = model(block[:, :-1], use_cache=False).logits.float()
        total += F.cross_entropy(logits.flatten(0, 1), block[:, 1:].flatten(), reduction="sum").double().item()
    return {"window": window, "tokens": n, "bits_per_byte": total / math.log(2) / size, "nll": total / n,
            "perplexity": math.exp(total / n)}


def sample(model, tok, prompt, length, temperature, seed=1):
    torch.manual_seed(seed)
    ids = torch.tensor([tok.encode(prompt).ids], device=model.device)
    choice = {"do_sample": True, "temperature": temperature, "top_p": 0.95, "top_k": 0} if temperature else {"do_sample": False}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, **choice)
    return tok.decode(out[0].tolist())


@torch.no_grad()
def golden(folder, tok, out, rows=4):
    """Logits in fp32 of the last rows of a fixed prompt, from the stored bf16 weights."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tok.encode(" ".join(PROMPTS)).ids
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    np.savez(out, tokens=np.array(ids, np.int32), positions=np.arange(len(ids) - rows, len(ids)),
             logits=logits[-rows:].numpy(), argmax=logits.argmax(-1).numpy().astype(np.int32))


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("folder", type=Path)
    ap.add_argument("--valid", type=Path, help="valid.u16")
    ap.add_argument("--valid-bytes", type=int)
    ap.add_argument("--windows", type=int, nargs="*", default=[1024, 2048])
    ap.add_argument("--samples", type=int, default=0, help="tokens of each sample")
    ap.add_argument("--golden", type=Path)
    args = ap.parse_args()
    tok = Tokenizer.from_file(str(args.folder / "tokenizer.json"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.bfloat16).eval().to(device)
    if args.valid:
        ids = torch.from_numpy(np.fromfile(args.valid, np.uint16).astype(np.int64))
        for window in args.windows:
            print(json.dumps(bits_per_byte(model, ids, args.valid_bytes, window)), flush=True)
    if args.samples:
        for prompt in PROMPTS:
            for temperature in (0.0, 0.8):
                print(f"--- temperature {temperature}\n{sample(model, tok, prompt, args.samples, temperature)}", flush=True)
    if args.golden:
        golden(args.folder, tok, args.golden)


if __name__ == "__main__":
    main()
