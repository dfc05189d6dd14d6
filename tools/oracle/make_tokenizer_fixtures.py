#!/usr/bin/env python3
"""Writes tokenizer fixtures: a vocabulary, texts with the ids Hugging Face `tokenizers` gives, ids with its text.

    make_tokenizer_fixtures.py                                  the committed fixture, a small vocabulary trained here
    make_tokenizer_fixtures.py --vocabulary FILE --out DIR      the same for a real vocabulary: a tokenizer.json of
        [--count N] [--seed S]                                  the Qwen2 family or a qwen.tiktoken
Then DELTAWING_QWEN_TOKENIZER=DIR test_text checks DIR too.

Files in DIR (lines; \\\\ \\n \\r \\t and \\xNN stand for backslash, newline, return, tab and control bytes):
  vocabulary.txt  T<type> <token> in the order of ids, then M<left> <right> in the order of ranks
  encode.txt      pre TAB 1 if special tokens are parsed else 0 TAB ids TAB text
  decode.txt      1 if special tokens are shown else 0 TAB ids TAB text
"""
import argparse
import base64
import json
import pathlib
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "qwen2": rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACE}",
    "qwen35": rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACE}",
    "llama-bpe": rf"{CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{SPACE}",
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}
QWEN_CONTROL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
).split()
QWEN_USER = (
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<tool_response> </tool_response> <think> </think>"
).split()

SENTENCES = r"""The quick brown fox jumps over the lazy dog; it's what they've always done, we'll see, I'd say. DON'T!
In 2024, 1,234,567 people paid $19.99 for version 3.11.4 at 12:34:56.
Der Fluß fließt überall, größer als früher. L'été dernier, ça coûtait déjà très cher à l'hôtel.
El niño comió piñas en la mañana. Não há ninguém às três. Příliš žluťoučký kůň úpěl ďábelské ódy.
Зачем ты пришёл сюда вчера вечером? Ήταν μια όμορφη μέρα στην Αθήνα. Türkçe İstanbul ığdır.
今天天气很好,我们去公园散步吧。人工智能正在改变世界。 昨日は東京へ行きました。カタカナとひらがな。
안녕하세요, 반갑습니다. 오늘은 날씨가 좋네요. สวัสดีครับ วันนี้อากาศดีมาก
मैं हिन्दी सीख रहा हूँ। আমি বাংলায় গান গাই। தமிழ் மொழி அழகானது. שָׁלוֹם עולם, مرحبا بالعالم السَّلامُ
Tiếng Việt có nhiều dấu thanh điệu. Xin chào các bạn! Việt Nam đất nước con người.
int main(int argc, char** argv) { for (int i = 0; i < 10; ++i) { printf("%d\\n", i); } return 0; }
def f(x):\n    if x is None:\n        return {'a': [1, 2, 3]}\n\n    return x ** 2 != 0x7f  # comment
SELECT name, COUNT(*) FROM users WHERE id >= 42 GROUP BY name;\t<div class="row">&nbsp;</div>
https://example.org/path?query=value&x=%20#frag  user.name+tag@mail.example  C:\\Users\\dir\\file.txt
{"role": "assistant", "content": null, "tool_calls": [{"id": 1.5e-3}]}  ---\n\n## Title\n\n* item\n* **bold**
👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ 🤷🏻‍♀️ 😀😃😄 ∑∫√π≈∞ → ⇒ … — “quoted” ‘single’ «guillemets» ½ ² ³ Ⅷ ① 你好！""".split("\n")
SENTENCES = [s.replace("\\n", "\n").replace("\\t", "\t") for s in SENTENCES]
WHITESPACE = [" ", " ", " ", "  ", "\n", "\n", "\r", "\r\n", "\t", "\v", "\f", "\x85", "\xa0", "\u1680", "\u2003",
              "\u2028", "\u2029", "\u202f", "\u3000", "\u200b", "\ufeff", "\u180e", "\x1c", "\x1f"]
EMOJI = "👍👩👨👧👦🏳🌈❤🤷😀🇩🇪🇫🇷🏽🏻♀♂\u200d\u200d\u200d\ufe0f\ufe0f\u20e30123#"
BLOCKS = [(0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x400), (0x400, 0x530), (0x590, 0x700),
          (0x900, 0xD80), (0xE00, 0x1000), (0x1000, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3000, 0x3400),
          (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xF900, 0x10000), (0x10000, 0x12000), (0x1D000, 0x1D800),
          (0x1F000, 0x1FB00), (0x20000, 0x20200), (0x2F800, 0x2FA20), (0xE0000, 0xE0200)]
MARKS = [c for c in range(0x110000) if unicodedata.combining(chr(c))]
DIGITS = [c for c in range(0x110000) if unicodedata.category(chr(c))[0] == "N"]
NOT_NFC = [c for c in range(0x110000) if unicodedata.normalize("NFC", chr(c)) != chr(c)]


class Texts:
    """Random texts of every kind a tokenizer could stumble on."""

    def __init__(self, seed, special, longest_run):
        self.random = random.Random(seed)
        self.special = special
        self.longest_run = longest_run
        self.kinds = [self.words, self.sentence, self.script, self.any_characters, self.emoji, self.marks,
                      self.control, self.whitespace, self.decomposed, self.contractions, self.digits,
                      self.specials, self.jamo, self.runs, self.punctuation]

    def pick(self, sequence, low, high):
        return "".join(self.random.choice(sequence) for _ in range(self.random.randint(low, high)))

    def words(self):
        pool = " ".join(SENTENCES).split()
        return self.random.choice([" ", "  ", "_", "\n", ""]).join(self.random.choices(pool, k=self.random.randint(1, 9)))

    def sentence(self):
        text = self.random.choice(SENTENCES)
        first = self.random.randrange(len(text))
        return text[first : first + self.random.randint(1, 60)]

    def script(self):
        low, high = self.random.choice(BLOCKS)
        return "".join(chr(self.random.randrange(low, high)) for _ in range(self.random.randint(1, 12)))

    def any_characters(self):
        out = []
        while len(out) < self.random.randint(1, 8):
            c = self.random.randrange(0x110000 if self.random.random() < 0.5 else 0x3000)
            if not 0xD800 <= c < 0xE000:
                out.append(chr(c))
        return "".join(out)

    def emoji(self):
        return self.pick(EMOJI, 1, 10)

    def marks(self):
        base = self.random.choice(["a", "e", "O", "क", "가", "ᄀ", "ü", "", " ", "\n", "'", "1", "ạ"])
        pool = MARKS if self.random.random() < 0.5 else [0x300, 0x301, 0x308, 0x323, 0x327, 0x328, 0x345, 0x5B0, 0x94D]
        return base + "".join(chr(self.random.choice(pool)) for _ in range(self.random.randint(1, 6)))

    def control(self):
        return "".join(chr(self.random.choice([*range(32), 127, *range(128, 160)])) for _ in range(self.random.randint(1, 6)))

    def whitespace(self):
        return self.pick(WHITESPACE, 1, 9)

    def decomposed(self):
        if self.random.random() < 0.5:
            return "".join(chr(self.random.choice(NOT_NFC)) for _ in range(self.random.randint(1, 4)))
        return unicodedata.normalize(self.random.choice(["NFD", "NFKD"]), self.sentence())

    def contractions(self):
        return "'" + self.random.choice("s t re ve m ll d S T RE Ve M lL D \u017f r v l \u017ft Re' x".split()) + self.pick("ab ' \n1", 0, 3)

    def digits(self):
        if self.random.random() < 0.5:
            return self.pick("0123456789.,", 1, 12)
        return "".join(chr(self.random.choice(DIGITS)) for _ in range(self.random.randint(1, 5)))

    def specials(self):
        token = self.random.choice(self.special)
        return self.random.choice([token, token, token[: self.random.randint(1, len(token))], token[1:], token.upper()])

    def jamo(self):
        pool = [*range(0x1100, 0x1115), *range(0x1161, 0x1177), *range(0x11A6, 0x11C5), 0xAC00, 0xAC01, 0xD788]
        return "".join(chr(self.random.choice(pool)) for _ in range(self.random.randint(1, 8)))

    def runs(self):
        return self.random.choice(["a", "ab", " ", "=", "\n", "é", "字", "0", "🙂", "e\u0301", "-+", "haha", "\t"]) * self.random.randint(2, self.longest_run)

    def punctuation(self):
        return self.pick("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \n\r«»“”…—、。", 1, 10)

    def text(self):
        return "".join(self.random.choice(self.kinds)() for _ in range(self.random.choice([1, 1, 2, 3, 4, 6])))


def escape(text):
    out = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return "".join(f"\\x{ord(c):02x}" if ord(c) < 32 or ord(c) == 127 else c for c in out)


def finish(model, pre, control, user):
    """A Tokenizer that treats text as the Qwen2 family does, or as the family `pre` names."""
    tokenizer = Tokenizer(model)
    if pre.startswith("qwen"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in user])
    return tokenizer


def train():
    tokenizer = finish(models.BPE(), "qwen2", [], [])
    trainer = trainers.BpeTrainer(vocab_size=1800, min_frequency=1, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(m) for m in model["merges"]]


def read_tiktoken(path):
    """Ranks of byte strings; the merge of a token is the last two parts it has before its own rank."""
    byte_characters = {}
    spare = 256
    for b in range(256):
        printable = 0x21 <= b <= 0x7E or (b >= 0xA1 and b != 0xAD)
        byte_characters[b] = chr(b) if printable else chr(spare)
        spare += not printable
    spell = lambda part: "".join(byte_characters[b] for b in part)
    ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in path.read_text().splitlines() if line)}
    merges = []
    for token, own in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 2:
            pairs = [(ranks.get(parts[i] + parts[i + 1], own), i) for i in range(len(parts) - 1)]
            rank, i = min(pairs)
            assert rank < own, token
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        if len(parts) == 2:
            merges.append((spell(parts[0]), spell(parts[1])))
    return {spell(t): r for t, r in ranks.items()}, merges


def read_vocabulary(path):
    """(vocab, merges, control, user-defined) of a tokenizer.json or a qwen.tiktoken."""
    if path.suffix != ".json":
        return *read_tiktoken(path), QWEN_CONTROL, QWEN_USER
    root = json.loads(path.read_text())
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in root["model"]["merges"]]
    added = sorted(root["added_tokens"], key=lambda t: t["id"])
    if added and added[0]["id"] != len(root["model"]["vocab"]):
        sys.exit(f"{path}: the added tokens do not follow the vocabulary")
    return (root["model"]["vocab"], merges, [t["content"] for t in added if t["special"]],
            [t["content"] for t in added if not t["special"]])


def write_vocabulary(out, tokenizer, merges, control, user):
    with open(out / "vocabulary.txt", "w", encoding="utf-8", newline="") as file:
        for i in range(tokenizer.get_vocab_size()):
            token = tokenizer.id_to_token(i)
            kind = 3 if token in control else 4 if token in user else 1
            file.write(f"T{kind} {escape(token)}\n")
        for left, right in merges:
            file.write(f"M{left} {right}\n")


def write_encode(out, tokenizers, texts, counts, long_count):
    total = 0
    with open(out / "encode.txt", "w", encoding="utf-8", newline="") as file:
        for pre, count in counts:
            for i in range(count):
                text = "".join(texts.text() for _ in range(400)) if i < long_count else texts.text()
                parse = texts.random.random() < 0.5
                tokenizers[pre].encode_special_tokens = not parse
                ids = tokenizers[pre].encode(text).ids
                file.write(f"{pre}\t{int(parse)}\t{' '.join(map(str, ids))}\t{escape(text)}\n")
                total += 1
    return total


def write_decode(out, tokenizer, rng, count):
    byte_ids = [tokenizer.token_to_id(c) for c in pre_tokenizers.ByteLevel.alphabet()]
    with open(out / "decode.txt", "w", encoding="utf-8", newline="") as file:
        for _ in range(count):
            size = tokenizer.get_vocab_size()
            low = rng.choice([0, 0, size - 30])
            ids = [rng.choice(byte_ids) if rng.random() < 0.5 else rng.randrange(low, size)
                   for _ in range(rng.randint(1, 8))]
            show = rng.random() < 0.5
            text = tokenizer.decode(ids, skip_special_tokens=not show)
            file.write(f"{int(show)}\t{' '.join(map(str, ids))}\t{escape(text)}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests" / "data" / "text" / "tokenizer")
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.vocabulary:
        vocab, merges, control, user = read_vocabulary(options.vocabulary)
        counts = [("qwen2", options.count), ("qwen35", options.count // 10), ("llama-bpe", options.count // 10),
                  ("gpt-2", options.count // 10)]
        decode_count, long_count = options.count // 10, 50
    else:
        vocab, merges = train()
        control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|a|>", "<|a|><|b|>"]
        user = ["<tool_call>", "</tool_call>", "<think>", "</think>", "<think", "e\u0301!"]
        counts = [("qwen2", 1200), ("qwen35", 300), ("llama-bpe", 250), ("gpt-2", 250)]
        decode_count, long_count = 300, 0
    tokenizers = {
        pre: finish(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe"), pre, control, user)
        for pre in PATTERNS
    }
    texts = Texts(options.seed, control + user, 200 if options.vocabulary else 40)
    write_vocabulary(options.out, tokenizers["qwen2"], merges, control, user)
    total = write_encode(options.out, tokenizers, texts, counts, long_count)
    write_decode(options.out, tokenizers["qwen2"], texts.random, decode_count)
    print(f"{options.out}: {len(vocab)} tokens, {total} texts, {decode_count} id sequences")


if __name__ == "__main__":
    main()
