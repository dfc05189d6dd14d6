#!/usr/bin/env python3
"""Writes tests/data/quant/<TYPE>.bin: blocks and the floats gguf.quants makes of them.

File: uint32 block_count, uint32 block_bytes, uint32 block_size; the blocks; block_count * block_size float32.
Blocks are random bytes with finite scales of every size (subnormal, zero, largest); the grid indices of the
IQ types run through the whole grid. usage: make_quant_fixtures.py OUTPUT_FOLDER
"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

# Byte offsets of the binary16 scales in a block.
HALVES = {
    T.F16: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82],
    T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ1_S: [0], T.IQ2_XXS: [0], T.IQ2_XS: [0],
    T.IQ2_S: [0], T.IQ3_XXS: [0], T.IQ3_S: [0], T.IQ4_NL: [0], T.IQ4_XS: [0],
}
TYPES = [T.F32, T.BF16, T.MXFP4, T.Q8_K, T.IQ1_M, *HALVES]
# Blocks enough to hold every grid index once.
COUNTS = {T.IQ1_S: 64, T.IQ2_S: 32, T.IQ2_XS: 16, T.IQ2_XXS: 8, T.IQ3_S: 8, T.IQ3_XXS: 8}
EDGES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00, 0xbc00]


def finite_halves(rng, count):
    values = rng.integers(0, 0x10000, count).astype(np.uint16)
    special = (values & 0x7c00) == 0x7c00
    values[special] ^= 0x4000
    edges = min(count // 2, len(EDGES))
    values[:edges] = EDGES[:edges]
    return values


def run_through_grid(rng, kind, blocks):
    """Overwrites the grid index bits so that the blocks together hold every index."""
    count = len(blocks)

    def order(grid_size, per_block):
        indices = np.concatenate([rng.permutation(grid_size) for _ in range(-(-count * per_block // grid_size))])
        return indices[:count * per_block].reshape(count, per_block)

    def merge(high, width, groups):  # `groups` fields of `width` bits a word
        fields = high.reshape(count, -1, groups)
        return sum(fields[..., i] << (width * i) for i in range(groups))

    if kind == T.IQ1_S:
        index = order(2048, 32)
        blocks[:, 2:34] = index & 255
        words = blocks[:, 34:].copy().view(np.uint16)
        blocks[:, 34:] = ((words & 0xf000) | merge(index >> 8, 3, 4).astype(np.uint16)).view(np.uint8)
    elif kind == T.IQ2_S:
        index = order(1024, 32)
        blocks[:, 2:34] = index & 255
        blocks[:, 66:74] = merge(index >> 8, 2, 4)
    elif kind == T.IQ2_XS:
        words = blocks[:, 2:66].copy().view(np.uint16)
        blocks[:, 2:66] = ((words & 0xfe00) | order(512, 32).astype(np.uint16)).view(np.uint8)
    elif kind == T.IQ2_XXS:
        index = order(256, 32).reshape(count, 8, 4)
        for s in range(8):
            blocks[:, 2 + 8 * s:6 + 8 * s] = index[:, s]
    elif kind == T.IQ3_S:
        index = order(512, 64)
        blocks[:, 2:66] = index & 255
        blocks[:, 66:74] = merge(index >> 8, 1, 8)
    elif kind == T.IQ3_XXS:
        blocks[:, 2:66] = order(256, 64)


def make_blocks(rng, kind):
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    count = COUNTS.get(kind, {1: 512, 32: 32, 256: 12}[block_size])
    blocks = rng.integers(0, 256, (count, block_bytes)).astype(np.uint8)
    for offset in HALVES.get(kind, []):
        halves = finite_halves(rng, count)
        blocks[:, offset:offset + 2] = rng.permutation(halves).reshape(-1, 1).view(np.uint8)
    if kind in (T.F32, T.BF16):
        top = blocks[:, block_bytes - 2:].copy().view(np.uint16)
        top[(top & 0x7f80) == 0x7f80] ^= 0x4000
        blocks[:, block_bytes - 2:] = top.view(np.uint8)
    if kind == T.MXFP4:
        blocks[:, 0] = rng.integers(0, 252, count)  # larger exponents overflow float
        blocks[:6, 0] = [0, 1, 2, 3, 127, 251]
    if kind == T.Q8_K:
        scale = (rng.standard_normal(count) * 10.0 ** rng.integers(-30, 30, count)).astype(np.float32)
        scale[:3] = [0, 1e-42, -1e35]
        blocks[:, :4] = scale.reshape(-1, 1).view(np.uint8)
        sums = blocks[:, 4:260].view(np.int8).reshape(count, 16, 16).sum(axis=-1).astype(np.int16)
        blocks[:, 260:] = sums.view(np.uint8)
    if kind == T.IQ1_M:
        halves = finite_halves(rng, count)
        words = blocks[:, 48:].copy().view(np.uint16) & 0x0fff
        for i in range(4):
            words[:, i] |= ((halves >> (4 * i)) & 15) << 12
        blocks[:, 48:] = words.view(np.uint8)
    run_through_grid(rng, kind, blocks)
    return blocks


def expected_floats(kind, blocks):
    if kind == T.Q8_K:  # not in the package; block definition: float d, int8 q[256], int16 sums[16]
        return blocks[:, :4].copy().view(np.float32) * blocks[:, 4:260].copy().view(np.int8).astype(np.float32)
    return dequantize(blocks, kind)


def main():
    folder = Path(sys.argv[1])
    for kind in sorted(TYPES):
        rng = np.random.default_rng(1000 + int(kind))
        blocks = make_blocks(rng, kind)
        floats = np.ascontiguousarray(expected_floats(kind, blocks), dtype=np.float32)
        assert np.isfinite(floats).all(), kind.name
        header = np.array([len(blocks), blocks.shape[1], GGML_QUANT_SIZES[kind][0]], dtype=np.uint32)
        assert floats.size == header[0] * header[2]
        (folder / f"{kind.name}.bin").write_bytes(header.tobytes() + blocks.tobytes() + floats.tobytes())


if __name__ == "__main__":
    main()
