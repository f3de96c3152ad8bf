"""Golden files for the GGUF reader, from the reference package `gguf`: blocks of every type with their values, and a whole small model.

Usage: make_golden.py FOLDER. The same versions give the same bytes.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

BLOCKS = 6
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
# where the 16-bit scales of a block stand: random bytes there may be infinite
SCALES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, array in sorted(tensors.items()):
        dtype = {"uint8": "U8", "float32": "F32"}[str(array.dtype)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def random_blocks(random, name):
    elements, size = GGML_QUANT_SIZES[Type[name]]
    if elements == 1:
        values = random.standard_normal(64).astype(np.float32)
        return values.view(np.uint8) if name == "F32" else quantize(values, Type[name]).view(np.uint8)
    blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for place in SCALES.get(name, [0]):
        blocks[:, place : place + 2] = random.normal(0, 0.1, (BLOCKS, 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(-1)


def block_tensors(random):
    tensors = {}
    for name in TYPES:
        stored = random_blocks(random, name)
        raw = stored.view(np.float32) if name == "F32" else stored.view(np.float16) if name == "F16" else stored
        tensors[f"{name}.stored"] = stored
        tensors[f"{name}.values"] = dequantize(raw, Type[name]).astype(np.float32).reshape(-1)
    return tensors


HIDDEN, INNER, HEADS, KEY_VALUE_HEADS, HEAD_DIM, VOCABULARY = 64, 96, 4, 2, 16, 262
# GGUF name, Hugging Face name, rows, columns, type, heads whose halves are interleaved
MATRICES = [
    ("token_embd", "model.embed_tokens", VOCABULARY, HIDDEN, "Q8_0", 0),
    ("blk.0.attn_q", "model.layers.0.self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN, "Q4_0", HEADS),
    ("blk.0.attn_k", "model.layers.0.self_attn.k_proj", KEY_VALUE_HEADS * HEAD_DIM, HIDDEN, "Q5_1", KEY_VALUE_HEADS),
    ("blk.0.attn_v", "model.layers.0.self_attn.v_proj", KEY_VALUE_HEADS * HEAD_DIM, HIDDEN, "Q5_0", 0),
    ("blk.0.attn_output", "model.layers.0.self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM, "F16", 0),
    ("blk.0.ffn_gate", "model.layers.0.mlp.gate_proj", INNER, HIDDEN, "BF16", 0),
    ("blk.0.ffn_up", "model.layers.0.mlp.up_proj", INNER, HIDDEN, "Q4_1", 0),
    ("blk.0.ffn_down", "model.layers.0.mlp.down_proj", HIDDEN, INNER, "F32", 0),
]
NORMS = [
    ("blk.0.attn_norm", "model.layers.0.input_layernorm"),
    ("blk.0.ffn_norm", "model.layers.0.post_attention_layernorm"),
    ("output_norm", "model.norm"),
]
# whole weights are large; these show every order of rows, and norms
COMPARED = [
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.self_attn.v_proj.weight",
    "model.norm.weight",
]
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


def byte_characters():
    """The printable character that byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(rest)) for byte in range(256)]


def add_tokenizer(writer):
    tokens = [*byte_characters(), "he", "<|begin|>", "<|end|>", "<|eot_id|>", "<tool>", "[PAD261]"]
    kinds = [1] * 257 + [3, 3, 3, 4, 5]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(True)
    writer.add_chat_template(TEMPLATE)


def add_configuration(writer):
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(50_000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def interleaved(weight, heads):
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_model(random, path):
    """The file, and its weights in the order of Hugging Face."""
    writer = gguf.GGUFWriter(path, "llama")
    add_configuration(writer)
    add_tokenizer(writer)
    expected = {}
    for name, hugging_face, rows, columns, dtype, heads in MATRICES:
        weight = (random.standard_normal((rows, columns)) * 0.3).astype(np.float32)
        stored = quantize(interleaved(weight, heads) if heads else weight, Type[dtype])
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=Type[dtype])
        expected[f"{hugging_face}.weight"] = dequantize(quantize(weight, Type[dtype]), Type[dtype]).astype(np.float32)
    for name, hugging_face in NORMS:
        weight = random.uniform(0.8, 1.2, HIDDEN).astype(np.float32)
        writer.add_tensor(f"{name}.weight", weight)
        expected[f"{hugging_face}.weight"] = weight
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def main():
    folder = Path(sys.argv[1])
    random = np.random.default_rng(6)
    write_safetensors(folder / "blocks.safetensors", block_tensors(random))
    expected = write_model(random, folder / "model.gguf")
    write_safetensors(folder / "model-weights.safetensors", {name: expected[name] for name in COMPARED})


if __name__ == "__main__":
    main()
