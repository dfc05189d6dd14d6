#!/usr/bin/env python3
"""Train the byte-level BPE vocabulary of the demo model with Qwen2's normaliser and pre-tokenizer."""
import argparse
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def build():
    tok = Tokenizer(models.BPE(byte_fallback=False, fuse_unk=False))
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    return tok


def sample(path, limit):
    """Every book, story books whole, others cut so that the total stays near the limit."""
    for line in path.open():
        b = json.loads(line)
        yield b["text"] if b["story"] else b["text"][:limit]


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("train", type=Path, help="train.jsonl of prepare_corpus.py")
    ap.add_argument("out", type=Path)
    ap.add_argument("--vocab", type=int, default=12288)
    ap.add_argument("--chars-per-book", type=int, default=120_000)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tok = build()
    trainer = trainers.BpeTrainer(vocab_size=args.vocab - len(SPECIAL), special_tokens=[],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(sample(args.train, args.chars_per_book), trainer)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    assert tok.get_vocab_size() == args.vocab, tok.get_vocab_size()
    tok.save(str(args.out / "tokenizer.json"))
    tok.model.save(str(args.out))
    added = {str(tok.token_to_id(s)): {"content": s, "lstrip": False, "normalized": False, "rstrip": False,
                                       "single_word": False, "special": True} for s in SPECIAL}
    config = {"add_prefix_space": False, "added_tokens_decoder": added, "bos_token": None,
              "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
              "clean_up_tokenization_spaces": False, "eos_token": "<|endoftext|>",
              "errors": "replace", "model_max_length": 2048, "pad_token": "<|endoftext|>",
              "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}
    (args.out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    text = "Once upon a time, there were 12 bears — \"Hello!\" said Goldilocks.\n\nThey didn't run."
    ids = tok.encode(text).ids
    assert tok.decode(ids) == text
    print(len(text), len(ids), [tok.decode([i]) for i in ids])


if __name__ == "__main__":
    main()
