#!/usr/bin/env python3
"""Tests of tools/convert_hf_to_gguf.py on checkpoints made here (needs numpy; without it, skipped with state 77).

    [TEST_PROGRAM=path/to/deltawing] python3 tests/tools/convert_test.py

TEST_PROGRAM also reads each file. So does the package gguf, where it is installed.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: the converter needs numpy (Debian's python3-numpy)")
    sys.exit(77)
try:
    import gguf
except ImportError:
    gguf = None

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import convert_hf_to_gguf as converter  # noqa: E402
from hf_convert import ConversionError  # noqa: E402
from hf_convert.checkpoint import round_bf16  # noqa: E402
from hf_convert.gguf_file import quantize_q8_0  # noqa: E402
from hf_convert.tensors import Layout  # noqa: E402
from read_gguf import Reader, decode  # noqa: E402

HIDDEN, K_HEADS, RATIO, DIM, HEADS, EXPERTS, WIDTH, VOCABULARY = 32, 2, 2, 16, 2, 3, 32, 40
V_HEADS = K_HEADS * RATIO
CONFIG = {
    "model_type": "qwen3_next", "num_hidden_layers": 2, "full_attention_interval": 2, "hidden_size": HIDDEN,
    "num_attention_heads": HEADS, "num_key_value_heads": 1, "head_dim": 32, "linear_num_key_heads": K_HEADS,
    "linear_num_value_heads": V_HEADS, "linear_key_head_dim": DIM, "linear_value_head_dim": DIM,
    "linear_conv_kernel_dim": 4, "num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH,
    "shared_expert_intermediate_size": WIDTH, "vocab_size": VOCABULARY, "max_position_embeddings": 128,
    "rope_theta": 5e6, "partial_rotary_factor": 0.25, "eos_token_id": [38, 39]}


def moe_tensors(prefix):
    yield prefix + "gate.weight", (EXPERTS, HIDDEN)
    yield prefix + "shared_expert_gate.weight", (1, HIDDEN)
    for expert in [f"experts.{e}." for e in range(EXPERTS)] + ["shared_expert."]:
        yield prefix + expert + "gate_proj.weight", (WIDTH, HIDDEN)
        yield prefix + expert + "up_proj.weight", (WIDTH, HIDDEN)
        yield prefix + expert + "down_proj.weight", (HIDDEN, WIDTH)


def attention_tensors(prefix):
    yield prefix + "q_proj.weight", (2 * HEADS * 32, HIDDEN)
    yield prefix + "k_proj.weight", (32, HIDDEN)
    yield prefix + "v_proj.weight", (32, HIDDEN)
    yield prefix + "o_proj.weight", (HIDDEN, HEADS * 32)
    yield prefix + "q_norm.weight", (32,)
    yield prefix + "k_norm.weight", (32,)


def delta_tensors(prefix):
    yield prefix + "in_proj_qkvz.weight", ((2 * K_HEADS + 2 * V_HEADS) * DIM, HIDDEN)
    yield prefix + "in_proj_ba.weight", (2 * V_HEADS, HIDDEN)
    yield prefix + "conv1d.weight", ((2 * K_HEADS + V_HEADS) * DIM, 1, 4)
    yield prefix + "A_log", (V_HEADS,)
    yield prefix + "dt_bias", (V_HEADS,)
    yield prefix + "norm.weight", (DIM,)
    yield prefix + "out_proj.weight", (HIDDEN, V_HEADS * DIM)


def block_tensors(prefix, mixer):
    yield prefix + "input_layernorm.weight", (HIDDEN,)
    yield prefix + "post_attention_layernorm.weight", (HIDDEN,)
    yield from mixer
    yield from moe_tensors(prefix + "mlp.")


def make_tensors():
    random = np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "lm_head.weight": (VOCABULARY, HIDDEN),
              "model.norm.weight": (HIDDEN,)}
    shapes.update(block_tensors("model.layers.0.", delta_tensors("model.layers.0.linear_attn.")))
    shapes.update(block_tensors("model.layers.1.", attention_tensors("model.layers.1.self_attn.")))
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def mtp_tensors():
    random = np.random.default_rng(2)
    shapes = {"mtp.fc.weight": (HIDDEN, 2 * HIDDEN), "mtp.norm.weight": (HIDDEN,),
              "mtp.pre_fc_norm_embedding.weight": (HIDDEN,), "mtp.pre_fc_norm_hidden.weight": (HIDDEN,)}
    shapes.update(block_tensors("mtp.layers.0.", attention_tensors("mtp.layers.0.self_attn.")))
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def write_safetensors(path, tensors, dtype="F32"):
    encode = {"F32": lambda v: v.tobytes(), "F16": lambda v: v.astype(np.float16).tobytes(),
              "BF16": lambda v: round_bf16(v).tobytes()}[dtype]
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        piece = encode(values)
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


class ConverterTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = Path(self.temporary.name) / "model"
        self.folder.mkdir()
        self.out = Path(self.temporary.name) / "out.gguf"
        self.tensors = make_tensors()
        self.write_config()
        self.write_tokenizer()

    def write_config(self, **changes):
        (self.folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))

    def write_tokenizer(self):
        vocabulary = {f"t{i}": i for i in range(36)}
        added = [{"id": 36, "content": "<think>", "special": False}, {"id": 37, "content": "<|im_end|>", "special": True}]
        (self.folder / "tokenizer.json").write_text(json.dumps({
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [["t1", "t2"], "t3 t4"]}, "added_tokens": added}))
        (self.folder / "tokenizer_config.json").write_text(json.dumps(
            {"eos_token": {"content": "<|im_end|>"}, "bos_token": None, "chat_template": "{{ x }}"}))

    def convert(self, outtype="f32", layout=None, dtype="F32"):
        if self.tensors is not None:
            write_safetensors(self.folder / "model.safetensors", self.tensors, dtype)
        converter.convert(self.folder, self.out, outtype, layout)
        reader = Reader(self.out)
        self.read_elsewhere(reader)
        return reader, reader.tensors, reader.types

    def read_elsewhere(self, reader):
        """Other readers must find the same in the file."""
        if program := os.environ.get("TEST_PROGRAM"):
            shown = subprocess.run([program, "inspect", "--json", "--tensors", self.out], capture_output=True, text=True)
            self.assertEqual(shown.returncode, 0, shown.stderr)
            found = json.loads(shown.stdout)
            self.assertEqual(found["architecture"], "qwen3next")
            self.assertEqual(found["tensors"], len(reader.tensors))
            self.assertEqual(found["hyper_parameters"]["hidden"], HIDDEN)
            self.assertEqual({t["name"]: t["type"] for t in found["tensor_list"]}, reader.types)
        if gguf:
            other = gguf.GGUFReader(self.out)
            keys = {name: field.contents() for name, field in other.fields.items() if not name.startswith("GGUF.")}
            self.assertEqual(keys, reader.keys)
            for tensor in other.tensors:
                values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
                np.testing.assert_array_equal(np.ravel(values), np.ravel(reader.tensors[tensor.name]), tensor.name)

    def value(self, reader, key):
        return reader.keys[key]

    def fails(self, sentence, **kwargs):
        with self.assertRaisesRegex(ConversionError, sentence):
            self.convert(**kwargs)
        self.assertEqual(list(self.out.parent.glob("out*")), [], "nothing may be left behind")

    def test_metadata(self):
        reader, _, _ = self.convert()
        for key, expected in {
                "general.architecture": "qwen3next", "qwen3next.block_count": 2, "qwen3next.embedding_length": HIDDEN,
                "qwen3next.full_attention_interval": 2, "qwen3next.rope.dimension_count": 8,
                "qwen3next.rope.freq_base": 5e6, "qwen3next.ssm.group_count": K_HEADS,
                "qwen3next.ssm.time_step_rank": V_HEADS, "qwen3next.ssm.inner_size": V_HEADS * DIM,
                "qwen3next.ssm.state_size": DIM, "qwen3next.expert_used_count": 2, "tokenizer.ggml.pre": "qwen2",
                "tokenizer.ggml.eos_token_id": 37, "tokenizer.ggml.add_bos_token": False,
                "tokenizer.chat_template": "{{ x }}", "tokenizer.ggml.merges": ["t1 t2", "t3 t4"]}.items():
            self.assertEqual(self.value(reader, key), expected, key)
        self.assertEqual(self.value(reader, "tokenizer.ggml.tokens")[35:], ["t35", "<think>", "<|im_end|>", "[PAD38]", "[PAD39]"])
        self.assertEqual(self.value(reader, "tokenizer.ggml.token_type")[35:], [1, 4, 3, 5, 5])

    def test_values(self):
        _, out, _ = self.convert()
        source = self.tensors
        np.testing.assert_array_equal(out["blk.1.attn_norm.weight"], source["model.layers.1.input_layernorm.weight"] + 1)
        np.testing.assert_array_equal(out["blk.0.ssm_norm.weight"], source["model.layers.0.linear_attn.norm.weight"])
        np.testing.assert_array_equal(out["blk.0.ssm_a"], -np.exp(source["model.layers.0.linear_attn.A_log"]))
        np.testing.assert_array_equal(out["blk.0.ffn_up_exps.weight"][2], source["model.layers.0.mlp.experts.2.up_proj.weight"])
        grouped = source["model.layers.0.linear_attn.in_proj_qkvz.weight"].reshape(K_HEADS, -1, HIDDEN)
        for head in range(K_HEADS):
            rows = grouped[head]
            qkv, z = out["blk.0.attn_qkv.weight"], out["blk.0.attn_gate.weight"]
            wide = RATIO * DIM
            np.testing.assert_array_equal(qkv[head * DIM:(head + 1) * DIM], rows[:DIM])
            np.testing.assert_array_equal(qkv[(K_HEADS + head) * DIM:(K_HEADS + head + 1) * DIM], rows[DIM:2 * DIM])
            values = qkv[2 * K_HEADS * DIM:]
            np.testing.assert_array_equal(values[head * wide:(head + 1) * wide], rows[2 * DIM:2 * DIM + wide])
            np.testing.assert_array_equal(z[head * wide:(head + 1) * wide], rows[2 * DIM + wide:])

    def test_layouts(self):
        _, plain, _ = self.convert()
        _, out, _ = self.convert(layout=Layout(legacy_ssm_in=True, merge_gate_up=True))
        np.testing.assert_array_equal(out["blk.0.ssm_in.weight"], self.tensors["model.layers.0.linear_attn.in_proj_qkvz.weight"])
        self.assertNotIn("blk.0.attn_qkv.weight", out)
        merged = out["blk.1.ffn_gate_up_exps.weight"]
        np.testing.assert_array_equal(merged[:, :WIDTH], plain["blk.1.ffn_gate_exps.weight"])
        np.testing.assert_array_equal(merged[:, WIDTH:], plain["blk.1.ffn_up_exps.weight"])

    def test_other_checkpoint_layouts_give_the_same_file(self):
        self.convert()
        expected = self.out.read_bytes()
        for layer in range(2):  # experts stacked
            prefix = f"model.layers.{layer}.mlp.experts."
            parts = [[self.tensors.pop(f"{prefix}{e}.{name}.weight") for e in range(EXPERTS)]
                     for name in ("gate_proj", "up_proj", "down_proj")]
            self.tensors[prefix + "gate_up_proj"] = np.concatenate([np.stack(parts[0]), np.stack(parts[1])], axis=1)
            self.tensors[prefix + "down_proj"] = np.stack(parts[2])
        prefix = "model.layers.0.linear_attn."  # four projections instead of two
        grouped = self.tensors.pop(prefix + "in_proj_qkvz.weight").reshape(K_HEADS, -1, HIDDEN)
        q, k, v, z = np.split(grouped, np.cumsum([DIM, DIM, RATIO * DIM]), axis=1)
        self.tensors[prefix + "in_proj_qkv.weight"] = np.concatenate([p.reshape(-1, HIDDEN) for p in (q, k, v)])
        self.tensors[prefix + "in_proj_z.weight"] = z.reshape(-1, HIDDEN)
        b, a = np.split(self.tensors.pop(prefix + "in_proj_ba.weight").reshape(K_HEADS, 2 * RATIO, HIDDEN), 2, axis=1)
        self.tensors[prefix + "in_proj_b.weight"] = b.reshape(-1, HIDDEN)
        self.tensors[prefix + "in_proj_a.weight"] = a.reshape(-1, HIDDEN)
        self.convert()
        self.assertEqual(self.out.read_bytes(), expected)

    def test_types(self):
        for dtype in ("F32", "F16", "BF16"):
            for outtype in ("f32", "f16", "bf16", "q8_0"):
                _, out, types = self.convert(outtype, dtype=dtype)
                self.assertEqual(types["blk.1.attn_q.weight"], outtype.upper())
                for name in ("blk.0.ssm_conv1d.weight", "blk.0.ffn_gate_inp.weight", "blk.1.attn_norm.weight"):
                    self.assertEqual(types[name], "F32")
                source = self.tensors["model.layers.1.self_attn.q_proj.weight"]
                np.testing.assert_allclose(out["blk.1.attn_q.weight"], source, atol=0.03, rtol=0.01)

    def test_q8_0_rounds_half_away_from_zero(self):
        halves = np.array([127, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 0.49, -127] + [0] * 23, np.float32)
        block = decode(quantize_q8_0(np.stack([halves, 0 * halves])), "Q8_0")
        np.testing.assert_array_equal(block[0, :9], [127, 1, -1, 2, -2, 3, -3, 0, -127])
        np.testing.assert_array_equal(block[1], np.zeros(32))

    def test_named_templates(self):
        named = [{"name": "default", "template": "{{ d }}"}, {"name": "tool use", "template": "{{ t }}"}, {"name": "x"}]
        (self.folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": named}))
        reader, _, _ = self.convert()
        self.assertEqual(self.value(reader, "tokenizer.chat_template"), "{{ d }}")
        self.assertEqual(self.value(reader, "tokenizer.chat_template.tool_use"), "{{ t }}")
        self.assertEqual(self.value(reader, "tokenizer.chat_templates"), ["tool_use"])

    def test_mtp_head_is_kept_or_left_out(self):
        self.tensors.update(mtp_tensors())
        reader, out, _ = self.convert()
        self.assertEqual(self.value(reader, "qwen3next.block_count"), 3)
        self.assertEqual(self.value(reader, "qwen3next.nextn_predict_layers"), 1)
        np.testing.assert_array_equal(out["blk.2.nextn.eh_proj.weight"], self.tensors["mtp.fc.weight"])
        for name, source in (("enorm", "pre_fc_norm_embedding"), ("hnorm", "pre_fc_norm_hidden"), ("shared_head_norm", "norm")):
            np.testing.assert_array_equal(out[f"blk.2.nextn.{name}.weight"], self.tensors[f"mtp.{source}.weight"] + 1)
        self.assertIn("blk.2.attn_q.weight", out)
        reader, out, _ = self.convert(layout=Layout(mtp=False))
        self.assertEqual(self.value(reader, "qwen3next.block_count"), 2)
        self.assertNotIn("blk.2.attn_q.weight", out)

    def test_tied_output(self):
        self.write_config(tie_word_embeddings=True)
        del self.tensors["lm_head.weight"]
        self.assertNotIn("output.weight", self.convert()[1])

    def test_files_of_an_index(self):
        self.convert()
        expected = self.out.read_bytes()
        (self.folder / "model.safetensors").unlink()
        names = sorted(self.tensors)
        weight_map = {}
        for i, part in enumerate((names[::2], names[1::2])):
            write_safetensors(self.folder / f"part{i}.safetensors", {n: self.tensors[n] for n in part})
            weight_map.update(dict.fromkeys(part, f"part{i}.safetensors"))
        (self.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        self.tensors = None
        self.convert()
        self.assertEqual(self.out.read_bytes(), expected)
        (self.folder / "part1.safetensors").unlink()
        self.out.unlink()
        self.fails("names part1.safetensors, which is missing")

    def test_vocabulary_files(self):
        (self.folder / "tokenizer.json").unlink()
        self.fails("neither tokenizer.json nor vocab.json")
        (self.folder / "vocab.json").write_text(json.dumps({f"t{i}": i for i in range(36)}))
        (self.folder / "merges.txt").write_text("#version: 0.2\nt1 t2\nt3 t4\n")
        settings = {"added_tokens_decoder": {"36": {"content": "<think>", "special": False},
                                             "37": {"content": "<|im_end|>", "special": True}}, "eos_token": "<|im_end|>"}
        (self.folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (self.folder / "chat_template.jinja").write_text("{{ y }}")
        reader, _, _ = self.convert()
        self.assertEqual(self.value(reader, "tokenizer.ggml.token_type")[35:], [1, 4, 3, 5, 5])
        self.assertEqual(self.value(reader, "tokenizer.ggml.merges"), ["t1 t2", "t3 t4"])
        self.assertEqual(self.value(reader, "tokenizer.chat_template"), "{{ y }}")

    def test_layer_types_without_an_interval(self):
        self.write_config(layer_types=["full_attention", "linear_attention"], full_attention_interval=None)
        swapped = {}
        for name, values in self.tensors.items():
            if ".linear_attn." in name:
                name = name.replace("layers.0", "layers.1")
            elif ".self_attn." in name:
                name = name.replace("layers.1", "layers.0")
            swapped[name] = values
        self.tensors = swapped
        reader, _, _ = self.convert()
        self.assertEqual(self.value(reader, "qwen3next.attention.recurrent_layers"), [False, True])

    def test_mistakes_get_a_sentence(self):
        cases = [
            ({"model_type": "llama"}, "only qwen3_next"),
            ({"attention_bias": True}, "no biases"),
            ({"mlp_only_layers": [0]}, "no experts"),
            ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "RoPE of type yarn"),
            ({"num_experts": "three"}, "num_experts must be a positive integer"),
            ({"hidden_size": 64}, "has shape .* asks for"),
            ({"vocab_size": 37}, "has shape|id 37"),
            ({"num_hidden_layers": 1}, "no place in a qwen3next file"),
            ({"num_hidden_layers": 3}, "lacks the tensor model.layers.2"),
        ]
        for changes, sentence in cases:
            self.write_config(**changes)
            with self.subTest(sentence):
                self.fails(sentence)

    def test_damaged_files_get_a_sentence(self):
        self.tensors["model.norm.weight"][3] = np.nan
        self.fails("NaN or infinity")
        self.tensors["model.norm.weight"][3] = 0
        self.tensors["lm_head.weight"][0, 0] = 1e6
        self.fails("beyond the range of f16", outtype="f16")
        write_safetensors(self.folder / "model.safetensors", self.tensors)
        whole = (self.folder / "model.safetensors").read_bytes()
        self.tensors = None
        for size in (3, 100, len(whole) - 1):
            (self.folder / "model.safetensors").write_bytes(whole[:size])
            self.fails("cut off|damaged header")
        (self.folder / "config.json").write_text("{")
        self.fails("cannot read .*config.json")


if __name__ == "__main__":
    unittest.main()
