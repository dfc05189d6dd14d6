#!/usr/bin/env python3
"""Converts a Qwen3-Next checkpoint of transformers (safetensors) into a GGUF file.

    python3 tools/convert_hf_to_gguf.py FOLDER -o model.gguf --outtype bf16

Needs the package numpy. Weights are streamed: memory is that of the largest single matrix. Names,
shapes and keys are those that llama.cpp's own files have, so the result runs there too. The file appears
under its final name only when it is complete.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from hf_convert import ConversionError
from hf_convert.checkpoint import Checkpoint, round_bf16
from hf_convert.gguf_file import FileType, GgufWriter, TensorType, quantize_q8_0, stored_bytes
from hf_convert.hparams import ARCHITECTURE, read_hyper_parameters, rope_settings, write_hyper_parameters
from hf_convert.tensors import Layout, Planner
from hf_convert.tokenizer import read_tokenizer, write_tokenizer

OUTPUT_TYPES = {name: (TensorType[name.upper()], FileType[name.upper()]) for name in ("f32", "f16", "bf16", "q8_0")}
QUANTIZATION_VERSION = 2
# Small tensors that every engine keeps in fp32.
ALWAYS_F32 = ("_norm.weight", "ffn_gate_inp.weight", "ssm_conv1d.weight")


def tensor_type(output, wanted):
    if len(output.shape) == 1 or output.name.endswith(ALWAYS_F32):
        return TensorType.F32
    if wanted == TensorType.Q8_0 and output.shape[-1] % 32 != 0:
        return TensorType.F16  # rows are no whole number of blocks
    return wanted


def encode(values, kind, name):
    """float32 -> the bytes of the type"""
    if kind == TensorType.F32:
        return values.tobytes()
    if kind == TensorType.BF16:
        return round_bf16(values).tobytes()
    if kind == TensorType.F16:
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if not np.isfinite(halves).all():
            raise ConversionError(f"tensor {name} has values beyond the range of f16; choose --outtype bf16 or f32")
        return halves.tobytes()
    return quantize_q8_0(values)


def write_metadata(writer, checkpoint, h, mtp_layers, tokenizer, name, file_type):
    writer.add_string("general.type", "model")
    writer.add_string("general.name", name)
    writer.add_uint32("general.file_type", file_type)
    writer.add_uint32("general.quantization_version", QUANTIZATION_VERSION)
    write_hyper_parameters(writer, checkpoint.config, h, mtp_layers)
    write_tokenizer(writer, tokenizer)


def write_tensors(writer, plan, progress):
    """plan: [(Output, type)], in the order in which they were announced."""
    for number, (output, kind) in enumerate(plan):
        progress(number, len(plan), output, kind)
        written = writer.write_tensor(encode(piece, kind, output.name) for piece in output.pieces())
        assert written == stored_bytes(output.shape, kind), output.name


def show_progress(number, count, output, kind):
    shape = " x ".join(str(n) for n in reversed(output.shape))
    print(f"[{number + 1:4d}/{count}] {output.name}: {shape}, {kind.name}", file=sys.stderr)


def convert(folder, out_path, outtype="bf16", layout=None, name=None, progress=lambda *_: None):
    """Converts the checkpoint in `folder`; raises ConversionError with a sentence for the user."""
    wanted, file_type = OUTPUT_TYPES[outtype]
    checkpoint = Checkpoint(folder)
    h = read_hyper_parameters(checkpoint.config)
    rope_settings(checkpoint.config)
    outputs, mtp_layers = Planner(checkpoint, h, layout or Layout()).plan()
    tokenizer = read_tokenizer(checkpoint.folder, checkpoint.config)
    plan = [(output, tensor_type(output, wanted)) for output in outputs]

    partial = Path(f"{out_path}.partial")
    writer = None
    try:
        writer = GgufWriter(partial, ARCHITECTURE)
        write_metadata(writer, checkpoint, h, mtp_layers, tokenizer,
                       name or checkpoint.folder.resolve().name, file_type)
        for output, kind in plan:
            writer.add_tensor(output.name, output.shape, kind)
        writer.write_header()
        write_tensors(writer, plan, progress)
        writer.close()
        os.replace(partial, out_path)
    except OSError as error:
        raise ConversionError(f"cannot write {out_path}: {error.strerror or error}") from None
    finally:
        if writer:
            writer.close()
        partial.unlink(missing_ok=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Convert a Qwen3-Next checkpoint (safetensors) to GGUF.")
    parser.add_argument("folder", help="folder with config.json, *.safetensors and the tokenizer's files")
    parser.add_argument("-o", "--outfile", help="default: FOLDER-OUTTYPE.gguf beside the folder")
    parser.add_argument("--outtype", choices=OUTPUT_TYPES, default="bf16", help="type of the matrices (bf16)")
    parser.add_argument("--legacy-ssm-in", action="store_true",
                        help="DeltaNet input as the one tensor ssm_in, as in files older than January 2026")
    parser.add_argument("--merge-gate-up", action="store_true", help="gate and up experts in one tensor")
    parser.add_argument("--no-mtp", action="store_true", help="leave the multi-token prediction head out")
    parser.add_argument("--name", help="the model's name (default: the folder's)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    folder = Path(arguments.folder)
    out_path = arguments.outfile or f"{folder.resolve()}-{arguments.outtype}.gguf"
    layout = Layout(arguments.legacy_ssm_in, arguments.merge_gate_up, not arguments.no_mtp)
    try:
        convert(folder, out_path, arguments.outtype, layout, arguments.name, show_progress)
    except ConversionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(out_path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
