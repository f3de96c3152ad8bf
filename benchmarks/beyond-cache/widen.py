"""Makes a checkpoint wider by a whole factor without changing what it computes (Net2Net, arXiv 1511.05641, section 3.1): every hidden
value is there FACTOR times, and what reads it divides its weight among the copies, unevenly, so that training can make them differ.

Usage: widen.py FROM TO FACTOR. Llama checkpoints of one file whose embedding is the output matrix too, in bf16 or f32; writes f32.
The result depends on nothing but its arguments. Key and value heads stay as many as they are: more query heads share them.
"""

import array
import json
import pathlib
import random
import shutil
import struct
import sys

# how unevenly weights are divided among copies: standard deviation relative to an equal share
SPREAD = 0.5
# different divisions in use; rows begin at different ones
DIVISIONS = 8191


def main(source, target, factor):
    config = json.loads((source / "config.json").read_text())
    if config.get("model_type") != "llama" or not config.get("tie_word_embeddings"):
        sys.exit(f"{source} is no Llama checkpoint with tied embeddings: {config.get('model_type')}")
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.suffix == ".json" and file.name not in ["config.json", "training.json"]:
            shutil.copy(file, target)
    tensors = read(source / "model.safetensors")
    widen = Widening(config, factor)
    write(target / "model.safetensors", [widen.tensor(name, *tensors[name]) for name in sorted(tensors)])
    (target / "config.json").write_text(json.dumps(widen.config(), indent=2) + "\n")


class Widening:
    def __init__(self, config, factor):
        self.old, self.factor = config, factor
        self.head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        self.random = random.Random(1)
        self.divisions = [self.division() for _ in range(DIVISIONS)]

    def division(self):
        """Shares of FACTOR copies of a value; their sum is one."""
        parts = [self.random.gauss(1, SPREAD) / self.factor for _ in range(self.factor)]
        return [part + (1 - sum(parts)) / self.factor for part in parts]

    def config(self):
        scaled = ["hidden_size", "intermediate_size", "num_attention_heads"]
        return self.old | {name: self.old[name] * self.factor for name in scaled} | {"head_dim": self.head, "torch_dtype": "float32"}

    def tensor(self, name, shape, values):
        if len(shape) == 1:
            # the embedding's copies each count in the logits, so the last norm makes them smaller
            scale = 1 / self.factor if name == "model.norm.weight" else 1
            return name, [shape[0] * self.factor], array.array("f", [scale * value for value in values] * self.factor)
        rows, columns = shape
        rows = [values[row * columns : (row + 1) * columns] for row in range(rows)]
        if "embed_tokens" in name:
            return name, [shape[0], columns * self.factor], joined(row * self.factor for row in rows)
        order = self.order_of_heads() if "o_proj" in name else list(range(columns)) * self.factor
        if "q_proj" in name:
            rows = [rows[index] for index in self.order_of_heads()]
        elif "k_proj" not in name and "v_proj" not in name:
            rows = rows * self.factor
        return name, [len(rows), len(order)], joined(self.divided(row, order) for row in rows)

    def order_of_heads(self):
        """For each value of the wide attention, the one it copies: the copies of the heads of a group stay in that group."""
        groups = self.old["num_key_value_heads"]
        members = self.old["num_attention_heads"] // groups
        heads = [group * members + member % members for group in range(groups) for member in range(members * self.factor)]
        return [head * self.head + value for head in heads for value in range(self.head)]

    def divided(self, row, order):
        """A row over the copies that `order` names: the weights of the copies of one value add up to its weight."""
        start, copies = self.random.randrange(DIVISIONS), [0] * len(row)
        wide = array.array("f")
        for index in order:
            wide.append(row[index] * self.divisions[(start + index) % DIVISIONS][copies[index]])
            copies[index] += 1
        return wide


def joined(rows):
    values = array.array("f")
    for row in rows:
        values.extend(row)
    return values


def read(path):
    """Shape and values of each tensor (the format: https://github.com/huggingface/safetensors)."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, body = json.loads(data[8 : 8 + length]), memoryview(data)[8 + length :]
    header.pop("__metadata__", None)
    return {name: (entry["shape"], floats(entry["dtype"], body[slice(*entry["data_offsets"])])) for name, entry in header.items()}


def floats(dtype, data):
    values = array.array("f")
    if dtype == "BF16":
        # the upper half of an f32
        padded = bytearray(2 * len(data))
        padded[2::4], padded[3::4] = data[0::2], data[1::2]
        data = padded
    elif dtype != "F32":
        sys.exit(f"weights in {dtype}: BF16 and F32 can be read")
    values.frombytes(data)
    return values


def write(path, tensors):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, values in tensors:
        start, end = end, end + 4 * len(values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, values in tensors:
            values.tofile(file)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))
