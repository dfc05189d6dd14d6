"""The parts of convert_hf_to_gguf.py: reading a checkpoint, its tokenizer, and laying out GGUF tensors."""


class ConversionError(Exception):
    """One sentence for the user: what is wrong, where, and what to do about it."""
