#!/usr/bin/env python3
"""Encode train.jsonl and valid.jsonl as uint16 token files; every book ends with <|endoftext|>."""
import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer


def encode(tok, path, end, batch=32):
    texts, size = [], 0
    for line in path.open():
        text = json.loads(line)["text"]
        size += len(text.encode())
        texts.append(text)
        if len(texts) == batch:
            yield from (e.ids + [end] for e in tok.encode_batch_fast(texts))
            texts = []
    yield from (e.ids + [end] for e in tok.encode_batch_fast(texts))
    print(path.name, "bytes", size)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("data", type=Path, help="folder of prepare_corpus.py")
    ap.add_argument("tokenizer", type=Path, help="tokenizer.json")
    args = ap.parse_args()
    tok = Tokenizer.from_file(str(args.tokenizer))
    end = tok.token_to_id("<|endoftext|>")
    for name in ("valid", "train"):
        ids = np.concatenate([np.asarray(i, np.uint16) for i in encode(tok, args.data / f"{name}.jsonl", end)])
        ids.tofile(args.data / f"{name}.u16")
        print(name, "tokens", len(ids))


if __name__ == "__main__":
    main()
