"""Writing GGUF version 3: header, metadata, tensor table, then each tensor at a multiple of 32 bytes.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Little-endian throughout.
"""

import enum
import struct

import numpy as np

ALIGNMENT = 32
Q8_BLOCK = 32


class TensorType(enum.IntEnum):
    F32 = 0
    F16 = 1
    Q8_0 = 8
    BF16 = 30


class FileType(enum.IntEnum):
    F32 = 0
    F16 = 1
    Q8_0 = 7
    BF16 = 32


class TokenType(enum.IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


class ValueType(enum.IntEnum):
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9


SCALARS = {ValueType.UINT32: "<I", ValueType.INT32: "<i", ValueType.FLOAT32: "<f", ValueType.BOOL: "<?"}


def pack(kind, value):
    if kind != ValueType.STRING:
        return struct.pack(SCALARS[kind], value)
    text = value.encode("utf-8")
    return struct.pack("<Q", len(text)) + text


def element_type(value):
    if isinstance(value, str):
        return ValueType.STRING
    return ValueType.BOOL if isinstance(value, bool) else ValueType.INT32


def stored_bytes(shape, kind):
    count = int(np.prod(shape, dtype=np.int64))
    if kind == TensorType.Q8_0:
        return count // Q8_BLOCK * (2 + Q8_BLOCK)
    return count * (4 if kind == TensorType.F32 else 2)


def padding(size):
    return bytes(-size % ALIGNMENT)


def quantize_q8_0(values):
    """float32 [..., multiple of 32] -> blocks of an f16 scale and 32 int8, rounded half away from zero."""
    blocks = values.reshape(-1, Q8_BLOCK)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(scale == 0, np.float32(0), np.float32(1) / scale)
    scaled = blocks * inverse
    whole = np.floor(np.abs(scaled))
    rounded = np.sign(scaled) * (whole + np.floor(2 * (np.abs(scaled) - whole)))
    return np.concatenate([scale.astype("<f2").view(np.uint8), rounded.astype(np.int8).view(np.uint8)], axis=1).tobytes()


class GgufWriter:
    """Announce metadata and tensors, then write_header(), then write_tensor() in the order of announcement."""

    def __init__(self, path, architecture):
        self.architecture = architecture
        self.file = open(path, "wb")
        self.keys = {}
        self.tensors = []
        self.add_string("general.architecture", architecture)

    def close(self):
        self.file.close()

    def full(self, key):
        """A key that begins with a dot belongs to the architecture."""
        return self.architecture + key if key.startswith(".") else key

    def add(self, key, kind, value):
        self.keys[self.full(key)] = struct.pack("<I", kind) + pack(kind, value)

    def add_uint32(self, key, value):
        self.add(key, ValueType.UINT32, value)

    def add_float32(self, key, value):
        self.add(key, ValueType.FLOAT32, value)

    def add_bool(self, key, value):
        self.add(key, ValueType.BOOL, value)

    def add_string(self, key, value):
        self.add(key, ValueType.STRING, value)

    def add_array(self, key, values):
        """Strings, booleans or 32-bit integers; all of one kind, at least one."""
        kind = element_type(values[0])
        self.keys[self.full(key)] = (struct.pack("<IIQ", ValueType.ARRAY, kind, len(values))
                                     + b"".join(pack(kind, value) for value in values))

    def add_tensor(self, name, shape, kind):
        self.tensors.append((name, shape, kind))

    def write_header(self):
        parts = [b"GGUF", struct.pack("<IQQ", 3, len(self.tensors), len(self.keys))]
        for key, value in self.keys.items():
            parts += [pack(ValueType.STRING, key), value]
        offset = 0
        for name, shape, kind in self.tensors:
            parts += [pack(ValueType.STRING, name), struct.pack("<I", len(shape))]
            parts += [struct.pack("<Q", length) for length in reversed(shape)]
            parts.append(struct.pack("<IQ", kind, offset))
            size = stored_bytes(shape, kind)
            offset += size + len(padding(size))
        header = b"".join(parts)
        self.file.write(header + padding(len(header)))

    def write_tensor(self, pieces):
        size = sum(self.file.write(piece) for piece in pieces)
        self.file.write(padding(size))
        return size
