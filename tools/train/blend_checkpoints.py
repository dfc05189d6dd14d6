#!/usr/bin/env python3
"""Weighted mean of two exported checkpoints of one run: weight * first + (1 - weight) * second."""
import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("first", type=Path)
    ap.add_argument("second", type=Path)
    ap.add_argument("out", type=Path)
    ap.add_argument("--weight", type=float, default=0.7)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    a, b = (load_file(str(p / "model.safetensors")) for p in (args.first, args.second))
    if a.keys() != b.keys():
        raise SystemExit("the checkpoints hold different tensors")
    mean = {k: (args.weight * a[k].float() + (1 - args.weight) * b[k].float()).to(torch.bfloat16) for k in a}
    save_file(mean, str(args.out / "model.safetensors"), metadata={"format": "pt"})
    for f in args.first.iterdir():
        if f.suffix in (".json", ".txt"):
            shutil.copyfile(f, args.out / f.name)


if __name__ == "__main__":
    main()
