#!/usr/bin/env python3
"""Split a corpus of books (JSON lines: id, title, author, story, text) into train and validation.

Books that are not English prose or verse (tables, digit dumps, other languages) are dropped. The
validation books are the first N in the order of SHA-256(id) that pass the filter, lie within a size
range and share (nearly) no ten-word run with the rest of the corpus.
"""
import argparse
import hashlib
import json
import re
from pathlib import Path

WORD = re.compile(r"[a-z']+")


def stats(text):
    """Shares of digits, of non-ASCII characters and of common English words."""
    n = max(1, len(text))
    digits = sum(map(text.count, "0123456789")) / n
    foreign = 1 - len(text.encode("ascii", "ignore")) / n
    words = WORD.findall(text[:400_000].lower())
    common = {"the", "and", "of", "to", "a", "in", "that", "he", "it", "was", "is", "i", "with", "for"}
    english = sum(w in common for w in words) / max(1, len(words))
    return digits, foreign, english


def keep(text):
    digits, foreign, english = stats(text)
    return digits < 0.02 and foreign < 0.06 and english > 0.18


def key(book):
    return hashlib.sha256(str(book["id"]).encode()).hexdigest()


def runs(text, n, stride):
    words = WORD.findall(text.lower())
    return (hash(tuple(words[i:i + n])) for i in range(0, len(words) - n, stride))


def pick_validation(books, count, low, high):
    """Greedy choice in hash order, rejecting candidates that other books quote at length."""
    order = [b for b in sorted(books, key=key) if low <= len(b["text"]) <= high][:2 * count]
    owners = {}
    for b in order:
        for h in runs(b["text"], 10, 7):
            owners.setdefault(h, b["id"])
    hits = {b["id"]: 0 for b in order}
    for b in books:
        seen = {h for h in runs(b["text"], 10, 1) if h in owners}
        for h in seen:
            if owners[h] != b["id"]:
                hits[owners[h]] += 1
    clean = [b for b in order if hits[b["id"]] < 0.002 * len(b["text"]) / 40]
    return [b["id"] for b in clean[:count]], hits


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("corpus", type=Path)
    ap.add_argument("out", type=Path)
    ap.add_argument("--validation-books", type=int, default=12)
    ap.add_argument("--min-chars", type=int, default=150_000)
    ap.add_argument("--max-chars", type=int, default=700_000)
    args = ap.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    books, dropped = [], []
    for line in args.corpus.open():
        b = json.loads(line)
        (books if keep(b["text"]) else dropped).append(b)
    held, hits = pick_validation(books, args.validation_books, args.min_chars, args.max_chars)
    report = {"kept": len(books), "dropped": [[b["id"], b["title"]] for b in dropped],
              "validation": [], "shared_runs": hits}
    with (args.out / "train.jsonl").open("w") as train, (args.out / "valid.jsonl").open("w") as valid:
        for b in books:
            (valid if b["id"] in held else train).write(json.dumps(b) + "\n")
            if b["id"] in held:
                report["validation"].append([b["id"], b["title"], b["author"], len(b["text"].encode())])
    report["train_bytes"] = sum(len(b["text"].encode()) for b in books if b["id"] not in held)
    (args.out / "split.json").write_text(json.dumps(report, indent=1))
    print(json.dumps({k: report[k] for k in ("kept", "dropped", "validation", "train_bytes")}, indent=1))


if __name__ == "__main__":
    main()
