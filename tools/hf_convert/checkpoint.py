"""Reads a Hugging Face checkpoint folder: config.json and one or many safetensors files, memory-mapped.

Needs numpy only. A tensor is read when it is asked for, as float32, so that a converter holds one at a time.
Format: https://github.com/huggingface/safetensors (8 bytes header length, JSON header, data).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import ConversionError

ELEMENT_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConversionError(f"cannot read {path}: {error}") from None


def round_bf16(values):
    """float32 -> the bits of the nearest bfloat16, ties to even (uint16). NaN is not expected."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_float32(raw, dtype):
    if dtype == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    kinds = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
    return raw.view(kinds[dtype]).astype(np.float32)


@dataclass
class Entry:
    path: Path
    dtype: str
    shape: tuple
    begin: int  # byte offsets in the file
    end: int


class Checkpoint:
    """config: the parsed config.json; tensors: name -> Entry; names asked for are remembered in `used`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ConversionError(f"{folder} is not a folder with config.json and *.safetensors files")
        self.config = read_json(self.folder / "config.json")
        if not isinstance(self.config, dict):
            raise ConversionError(f"{self.folder / 'config.json'} does not hold a JSON object")
        self.tensors = {}
        self.used = set()
        self._maps = {}
        for path in self._files():
            self._read_header(path)

    def _files(self):
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise ConversionError(f"{index} has no weight_map")
            paths = [self.folder / name for name in sorted(set(weight_map.values()))]
            for path in paths:
                if not path.exists():
                    raise ConversionError(f"{index.name} names {path.name}, which is missing from {self.folder}")
            return paths
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            raise ConversionError(f"{self.folder} holds no *.safetensors file")
        return paths

    def _read_header(self, path):
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ConversionError(f"{path} is cut off or no safetensors file: its header does not fit in it")
            try:
                header = json.loads(file.read(length))
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise ConversionError(f"{path} has a damaged header: {error}") from None
        header.pop("__metadata__", None)
        for name, info in header.items():
            begin, end = (8 + length + offset for offset in info["data_offsets"])
            entry = Entry(path, info["dtype"], tuple(info["shape"]), begin, end)
            if end > size:
                raise ConversionError(f"{path} is cut off: tensor {name} ends at byte {end} of {size}")
            if name in self.tensors:
                raise ConversionError(f"tensor {name} is in both {self.tensors[name].path.name} and {path.name}")
            width = ELEMENT_BYTES.get(entry.dtype)
            if width is not None and end - begin != width * int(np.prod(entry.shape, dtype=np.int64)):
                raise ConversionError(f"tensor {name} in {path} has {end - begin} bytes, which is not its shape's")
            self.tensors[name] = entry

    def __contains__(self, name):
        return name in self.tensors

    def require(self, name, shape):
        """Checks that the tensor is there with this shape and counts it as used."""
        entry = self.tensors.get(name)
        if entry is None:
            raise ConversionError(f"the checkpoint lacks the tensor {name}")
        if entry.shape != tuple(shape):
            raise ConversionError(
                f"tensor {name} has shape {list(entry.shape)}; config.json asks for {list(shape)}")
        if entry.dtype not in ELEMENT_BYTES:
            raise ConversionError(
                f"tensor {name} is of type {entry.dtype}; only {', '.join(ELEMENT_BYTES)} can be converted")
        self.used.add(name)

    def read(self, name, index=None):
        """The tensor as float32; with index, that element of the first dimension only."""
        entry = self.tensors[name]
        shape, begin, end = entry.shape, entry.begin, entry.end
        if index is not None:
            stride = (end - begin) // shape[0]
            shape, begin, end = shape[1:], begin + index * stride, begin + (index + 1) * stride
        if entry.path not in self._maps:
            self._maps[entry.path] = np.memmap(entry.path, dtype=np.uint8, mode="r")
        raw = np.array(self._maps[entry.path][begin:end])  # a copy is aligned
        values = to_float32(raw, entry.dtype).reshape(shape)
        if not np.isfinite(values).all():
            raise ConversionError(f"tensor {name} holds NaN or infinity; the checkpoint is damaged")
        return values
