"""The tokenizer of a checkpoint folder as GGUF keeps it: model gpt2 (byte-level BPE), pre qwen2."""

from dataclasses import dataclass, field

from . import ConversionError
from .checkpoint import read_json
from .gguf_file import TokenType

# The splits of Qwen2, Qwen3 and Qwen3-Next tokenizers; GGUF calls this pre-tokenizer "qwen2".
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+")
SPECIAL_IDS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}  # name in a checkpoint -> in GGUF


@dataclass
class Tokenizer:
    tokens: list = field(default_factory=list)
    types: list = field(default_factory=list)
    merges: list = field(default_factory=list)
    special_ids: dict = field(default_factory=dict)  # "eos" -> id
    add_bos: bool = False
    add_eos: bool = False
    chat_template: object = None  # str, or a list of {name, template}


def split_pattern(pre_tokenizer):
    """The regular expression of the (first) Split step, or None."""
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer]) if pre_tokenizer else []
    for step in steps:
        if step.get("type") == "Split":
            return step.get("pattern", {}).get("Regex")
    return None


def read_model(folder):
    """vocabulary {token: id}, merges, added tokens [{id, content, special}]"""
    path = folder / "tokenizer.json"
    if path.exists():
        data = read_json(path)
        model = data.get("model", {})
        if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
            raise ConversionError(f"{path} holds no BPE model; only byte-level BPE tokenizers can be converted")
        pattern = split_pattern(data.get("pre_tokenizer"))
        if pattern is not None and pattern != QWEN2_PATTERN:
            raise ConversionError(f"the pre-tokenizer in {path} is not the one of Qwen2 that qwen3next files use")
        return model["vocab"], model.get("merges", []), data.get("added_tokens", [])
    if not (folder / "vocab.json").exists() or not (folder / "merges.txt").exists():
        raise ConversionError(f"{folder} has neither tokenizer.json nor vocab.json with merges.txt")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    if lines and lines[0].startswith("#version"):
        lines = lines[1:]
    return read_json(folder / "vocab.json"), [line for line in lines if line.strip()], []


def merge_text(merge):
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if len(parts) != 2 or not all(parts):
        raise ConversionError(f"the tokenizer's merge {merge!r} is not a pair of tokens")
    return " ".join(parts)


def looks_special(content):
    return content.startswith("<|") and content.endswith("|>")


def optional_json(path):
    return read_json(path) if path.exists() else {}


def add_tokens(tokenizer, vocabulary, added, vocabulary_size):
    by_id = {}
    for token, number in vocabulary.items():
        by_id[number] = (token, TokenType.NORMAL)
    for item in added:
        special = item.get("special") or looks_special(item["content"])
        by_id[item["id"]] = (item["content"], TokenType.CONTROL if special else TokenType.USER_DEFINED)
    if by_id and max(by_id) >= vocabulary_size:
        raise ConversionError(
            f"the tokenizer has a token of id {max(by_id)}, but vocab_size in config.json is {vocabulary_size}")
    for number in range(vocabulary_size):
        token, kind = by_id.get(number, (f"[PAD{number}]", TokenType.UNUSED))
        tokenizer.tokens.append(token)
        tokenizer.types.append(kind)


def read_chat_template(folder, settings):
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    if settings.get("chat_template"):
        return settings["chat_template"]
    return optional_json(folder / "chat_template.json").get("chat_template")


def find_special_ids(tokenizer, settings, *configs):
    """A token named in tokenizer_config.json first, then an id from config.json or generation_config.json."""
    ids = {}
    numbers = {token: number for number, token in enumerate(tokenizer.tokens)}
    for kind in SPECIAL_IDS:
        named = settings.get(f"{kind}_token")
        content = named.get("content") if isinstance(named, dict) else named
        candidates = [numbers.get(content)] + [config.get(f"{kind}_token_id") for config in configs]
        for value in candidates:
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, int) and 0 <= value < len(tokenizer.tokens):
                ids[kind] = value
                break
    return ids


def read_tokenizer(folder, config):
    settings = optional_json(folder / "tokenizer_config.json")
    vocabulary, merges, added = read_model(folder)
    known = {item["id"] for item in added}
    added = list(added)
    for number, item in settings.get("added_tokens_decoder", {}).items():
        if int(number) not in known:
            added.append({"id": int(number), **item})
    if not added:
        added = [{"id": number, "content": content}
                 for content, number in optional_json(folder / "added_tokens.json").items()]
    tokenizer = Tokenizer()
    add_tokens(tokenizer, vocabulary, added, config["vocab_size"])
    tokenizer.merges = [merge_text(merge) for merge in merges]
    generation = optional_json(folder / "generation_config.json")
    tokenizer.special_ids = find_special_ids(tokenizer, settings, config, generation)
    tokenizer.add_bos = bool(settings.get("add_bos_token", False))
    tokenizer.add_eos = bool(settings.get("add_eos_token", False))
    tokenizer.chat_template = read_chat_template(folder, settings)
    return tokenizer


def write_tokenizer(writer, tokenizer):
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", "qwen2")
    writer.add_array("tokenizer.ggml.tokens", tokenizer.tokens)
    writer.add_array("tokenizer.ggml.token_type", tokenizer.types)
    if tokenizer.merges:
        writer.add_array("tokenizer.ggml.merges", tokenizer.merges)
    for kind, number in tokenizer.special_ids.items():
        writer.add_uint32(f"tokenizer.ggml.{SPECIAL_IDS[kind]}_token_id", number)
    writer.add_bool("tokenizer.ggml.add_bos_token", tokenizer.add_bos)
    writer.add_bool("tokenizer.ggml.add_eos_token", tokenizer.add_eos)
    write_chat_templates(writer, tokenizer.chat_template)


def write_chat_templates(writer, templates):
    """One template, or a list of named ones of which "default" is the one that counts."""
    named = templates if isinstance(templates, list) else [{"name": "default", "template": templates}]
    others = []
    for item in named:
        name = "".join(c if c.isascii() and c.isalnum() else "_" for c in item.get("name", ""))
        if not name or not item.get("template"):
            continue
        if name != "default":
            others.append(name)
        writer.add_string("tokenizer.chat_template" + (f".{name}" if name != "default" else ""), item["template"])
    if others:
        writer.add_array("tokenizer.chat_templates", others)
