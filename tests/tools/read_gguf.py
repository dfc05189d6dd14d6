"""A small GGUF reader for tests, with numpy only. It shares no code with the converter's writer."""

import struct

import numpy as np

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
TYPES = {0: "F32", 1: "F16", 8: "Q8_0", 30: "BF16"}
BYTES_OF_32 = {"F32": 128, "F16": 64, "BF16": 64, "Q8_0": 34}


class Reader:
    """keys: name -> value; tensors: name -> float32 array, slowest dimension first; types: name -> "F32"..."""

    def __init__(self, path):
        self.data = path.read_bytes()
        self.at = 0
        assert self.take(4) == b"GGUF"
        assert self.scalar("<I") == 3
        tensor_count, key_count = self.scalar("<Q"), self.scalar("<Q")
        self.keys = {}
        for _ in range(key_count):
            name = self.text()
            assert name not in self.keys, name
            self.keys[name] = self.value(self.scalar("<I"))
        table = [self.tensor_row() for _ in range(tensor_count)]
        start = -(-self.at // 32) * 32
        self.tensors, self.types, end = {}, {}, 0
        for name, shape, kind, offset in table:
            assert offset == end, f"{name} does not follow the tensor before it"
            size = int(np.prod(shape)) * BYTES_OF_32[kind] // 32
            self.types[name] = kind
            self.tensors[name] = decode(self.data[start + offset:start + offset + size], kind).reshape(shape)
            end = -(-(offset + size) // 32) * 32
        assert len(self.data) == start + end, "bytes are missing or left over"

    def take(self, count):
        piece = self.data[self.at:self.at + count]
        assert len(piece) == count
        self.at += count
        return piece

    def scalar(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self):
        return self.take(self.scalar("<Q")).decode("utf-8")

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.scalar(SCALARS[kind])
        element, count = self.scalar("<I"), self.scalar("<Q")
        return [self.value(element) for _ in range(count)]

    def tensor_row(self):
        name = self.text()
        shape = [self.scalar("<Q") for _ in range(self.scalar("<I"))][::-1]
        return name, shape, TYPES[self.scalar("<I")], self.scalar("<Q")


def decode(data, kind):
    if kind == "F32":
        return np.frombuffer(data, "<f4")
    if kind == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("values", "i1", 32)]))
    return blocks["values"].astype(np.float32) * blocks["scale"].astype(np.float32)[:, None]
