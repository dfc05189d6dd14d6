#!/usr/bin/env python3
"""Cross-check of the GGUF room with the `gguf` Python package.

  make_gguf_fixtures.py write DIR     writes DIR/python_all_types.gguf (committed under tests/data/gguf) and the
                                      seeds of the fuzz target (tests/fuzz/corpus/gguf)
  make_gguf_fixtures.py read FILE     reads a file written by our Writer with the package's GGUFReader and
                                      prints every field and tensor (sizes and a checksum)
"""
import sys
import zlib
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V


def fill_metadata(w):
    w.add_key_value("t.uint8", 255, V.UINT8)
    w.add_key_value("t.int8", -128, V.INT8)
    w.add_key_value("t.uint16", 65535, V.UINT16)
    w.add_key_value("t.int16", -32768, V.INT16)
    w.add_key_value("t.uint32", 2**32 - 1, V.UINT32)
    w.add_key_value("t.int32", -(2**31), V.INT32)
    w.add_key_value("t.float32", 0.1, V.FLOAT32)
    w.add_key_value("t.bool.true", True, V.BOOL)
    w.add_key_value("t.bool.false", False, V.BOOL)
    w.add_key_value("t.string", "Grüße, 世界 🎉", V.STRING)
    w.add_key_value("t.uint64", 2**64 - 1, V.UINT64)
    w.add_key_value("t.int64", -(2**63), V.INT64)
    w.add_key_value("t.float64", 0.1, V.FLOAT64)
    for kind, values in (
        ("uint8", [0, 255]), ("int8", [-128, 127]), ("uint16", [0, 65535]), ("int16", [-32768, 32767]),
        ("uint32", [0, 2**32 - 1]), ("int32", [-(2**31), 2**31 - 1]), ("uint64", [0, 2**64 - 1]),
        ("int64", [-(2**63), 2**63 - 1]), ("float32", [0.1, -2.5]), ("float64", [0.1, -1e300]),
        ("bool", [True, False, True]), ("string", ["", "abc", "ü"]),
    ):
        w.add_key_value("a." + kind, values, V.ARRAY, sub_type=getattr(V, kind.upper()))
    w.add_key_value("a.nested", [[1, 2, 3], [4]], V.ARRAY, sub_type=V.ARRAY)


def write_all_types(path):
    w = gguf.GGUFWriter(str(path), "qwen3next")
    w.add_custom_alignment(64)
    fill_metadata(w)
    rng = np.random.default_rng(1)
    for kind in T:
        # Not types of this engine; and Q8_1, of which the package has an outdated block size (40 for 36).
        if kind.name in ("TQ1_0", "TQ2_0", "NVFP4", "Q1_0", "Q8_1"):
            continue
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = rng.integers(0, 256, size=(2, 3, size), dtype=np.uint8)  # [2, 3 rows, 1 block]
        w.add_tensor(kind.name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    sums = {t.name: zlib.crc32(t.data.tobytes()) for t in gguf.GGUFReader(str(path)).tensors}
    text = "".join(f"{name} {crc:08x}\n" for name, crc in sums.items())
    path.with_suffix(".crc32").write_text(text)


def write_seed(path, alignment, tensors):
    w = gguf.GGUFWriter(str(path), "qwen3next")
    if alignment != 32:
        w.add_custom_alignment(alignment)
    if tensors:
        w.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
        w.add_tensor("blk.0.attn_norm.weight", np.ones(8, np.float32))
        w.add_tensor("blk.0.attn_q.weight", np.zeros((2, 34), np.uint8), raw_dtype=T.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read(path):
    reader = gguf.GGUFReader(path)
    for name, field in reader.fields.items():
        print(name, [t.name for t in field.types], field.contents())
    for t in reader.tensors:
        print(t.name, t.tensor_type.name, list(map(int, t.shape)), t.n_bytes, f"{zlib.crc32(t.data.tobytes()):08x}")


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "read"):
        sys.exit(__doc__)
    if sys.argv[1] == "read":
        return read(sys.argv[2])
    out = Path(sys.argv[2])
    write_all_types(out / "python_all_types.gguf")
    seeds = Path(__file__).parents[2] / "tests/fuzz/corpus/gguf"
    seeds.mkdir(parents=True, exist_ok=True)
    write_seed(seeds / "small.gguf", 32, True)
    write_seed(seeds / "aligned64.gguf", 64, True)
    write_seed(seeds / "empty.gguf", 32, False)
    (seeds / "all_types.gguf").write_bytes((out / "python_all_types.gguf").read_bytes())


main()
