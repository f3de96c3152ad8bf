"""Trajectories as `cllm-trainer collect` writes them (trainer/src/trajectories): read, cut to what every visit sees alike, written again."""

import hashlib
import json
import struct
from itertools import accumulate
from typing import NamedTuple

KEY = "cllm"
VERSION = 2


class Block(NamedTuple):
    # index of its first token among the generated ones
    position: int
    # initial draft first, fixed point last
    states: list


class Example(NamedTuple):
    index: int
    # prompt and generation, end marker included
    tokens: list
    prompt_len: int
    blocks: list


def read(path):
    """Examples and metadata of a shard."""
    bytes_ = path.read_bytes()
    (length,) = struct.unpack_from("<Q", bytes_)
    header = json.loads(bytes_[8 : 8 + length])
    metadata = json.loads(header.pop("__metadata__")[KEY])

    def column(entry):
        start, end = entry["data_offsets"]
        return list(struct.unpack_from(f"<{(end - start) // 4}I", bytes_, 8 + length + start))

    return assembled({name: column(entry) for name, entry in header.items()}), metadata


def assembled(columns):
    tokens, states = iter(columns["tokens"]), iter(columns["states"])
    take = lambda values, count: [next(values) for _ in range(count)]
    blocks = iter([
        Block(position, [take(states, length) for _ in range(count)])
        for position, length, count in zip(columns["block_positions"], columns["block_lens"], columns["state_counts"])
    ])
    lengths = lambda ends: [end - start for start, end in zip([0, *ends], ends)]
    rows = zip(columns["example_indexes"], lengths(columns["token_ends"]), columns["prompt_lens"], lengths(columns["block_ends"]))
    return [Example(index, take(tokens, length), prompt_len, take(blocks, count)) for index, length, prompt_len, count in rows]


def one_state_a_block(example):
    """Leaves one wrong state to a block, a later one from block to block, so that all degrees of noise are there."""
    def thinned(number, block):
        *wrong, fixed_point = block.states
        return Block(block.position, [wrong[number % len(wrong)], fixed_point] if wrong else [fixed_point])
    return example._replace(blocks=[thinned(example.index + number, block) for number, block in enumerate(example.blocks)])


def write(path, examples, metadata, model):
    """As the trajectories of `model`, a digest. `metadata` is that of the shard that the examples came from."""
    columns = {name: struct.pack(f"<{len(values)}I", *values) for name, values in columns_of(examples).items()}
    blocks = [block for example in examples for block in example.blocks]
    counts = {
        "examples": len(examples), "blocks": len(blocks), "states": sum(len(block.states) for block in blocks),
        "tokens": sum(len(example.tokens) - example.prompt_len for example in examples)}
    metadata = {**metadata, "model": model, "counts": {**metadata["counts"], **counts}, "version": VERSION, "checksum": ""}
    metadata["checksum"] = checksum({"columns": checksum(columns).encode(), "metadata": json.dumps(metadata).encode()})
    header, end = {"__metadata__": {KEY: json.dumps(metadata)}}, 0
    for name, bytes_ in columns.items():
        header[name] = {"dtype": "U32", "shape": [len(bytes_) // 4], "data_offsets": [end, end + len(bytes_)]}
        end += len(bytes_)
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(columns.values()))


def columns_of(examples):
    """In the order of their names."""
    blocks = [block for example in examples for block in example.blocks]
    return {
        "block_ends": list(accumulate(len(example.blocks) for example in examples)),
        "block_lens": [len(block.states[-1]) for block in blocks],
        "block_positions": [block.position for block in blocks],
        "example_indexes": [example.index for example in examples],
        "prompt_lens": [example.prompt_len for example in examples],
        "state_counts": [len(block.states) for block in blocks],
        "states": [token for block in blocks for state in block.states for token in state],
        "token_ends": list(accumulate(len(example.tokens) for example in examples)),
        "tokens": [token for example in examples for token in example.tokens],
    }


def checksum(columns):
    """Over names, lengths and contents."""
    digest = hashlib.sha256()
    for name, bytes_ in columns.items():
        digest.update(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<Q", len(bytes_)) + bytes_)
    return f"sha256:{digest.hexdigest()}"
