"""A Llama in eager PyTorch, written to be fast on a processor: rows without padding in all products, one product for queries, keys and
values and one for gate and up, logits of the rows that need them only.
"""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class Rows:
    """A batch of packing.py as tensors, with everything that does not depend on weights worked out: a loader could do it beside the training."""

    def __init__(self, batch, attention, frequencies):
        self.tokens, self.selected = torch.tensor(batch.tokens), torch.tensor(batch.selected)
        self.targets, self.teachers = torch.tensor(batch.targets), torch.tensor(batch.teachers, dtype=torch.long)
        angles = torch.outer(torch.tensor(batch.positions, dtype=torch.float64), frequencies)
        self.cosines, self.sines = angles.cos().float()[:, None], angles.sin().float()[:, None]
        self.shape, self.places = places(batch, attention)
        # the kernel knows causal attention; padding comes after the rows of an example, so none of them sees it
        self.causal = attention == "padded" and len(batch.spans) == len(batch.examples)
        self.mask = None if self.causal else mask(batch, self.shape, self.places)

    def padded(self, x):
        """[rows, heads, width] to [examples, heads, longest, width]."""
        rows, heads, width = x.shape
        flat = x.new_zeros(self.shape[0] * self.shape[1], heads * width).index_copy(0, self.places, x.reshape(rows, -1))
        return flat.view(*self.shape, heads, width).transpose(1, 2)

    def unpadded(self, x):
        """And back, heads side by side."""
        return x.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, self.places)


def places(batch, attention):
    """How many sequences of which length attention is over, and where each row is among them."""
    if attention == "packed":
        return (1, len(batch.tokens)), torch.arange(len(batch.tokens))
    longest = max(length for _, length in batch.examples)
    of_rows = [number * longest + row for number, (_, length) in enumerate(batch.examples) for row in range(length)]
    return (len(batch.examples), longest), torch.tensor(of_rows)


def mask(batch, shape, places):
    """What is added to scores, [sequences, 1, length, length]. Padding sees itself, so that its softmax is a number."""
    count, length = shape
    sees = torch.eye(length, dtype=torch.bool).repeat(count, 1, 1)
    for start, rows, prefix_start, prefix in batch.spans:
        sequence, first = divmod(int(places[start]), length)
        before = int(places[prefix_start]) % length if prefix else 0
        own = slice(first, first + rows)
        sees[sequence, own, before : before + prefix] = True
        sees[sequence, own, own] = torch.ones(rows, rows, dtype=torch.bool).tril()
    return torch.zeros(sees.shape).masked_fill(~sees, float("-inf"))[:, None]


class Llama:
    def __init__(self, folder, attention):
        config = json.loads((folder / "config.json").read_text())
        self.attention, self.epsilon = attention, config["rms_norm_eps"]
        self.hidden, self.heads, self.kv_heads = (
            config[name] for name in ["hidden_size", "num_attention_heads", "num_key_value_heads"])
        self.head_width = config.get("head_dim") or self.hidden // self.heads
        exponents = torch.arange(0, self.head_width, 2, dtype=torch.float64) / self.head_width
        self.frequencies = config["rope_theta"] ** -exponents
        weights = load_file(folder / "model.safetensors")
        learnt = lambda *names: torch.cat([weights[name].float() for name in names]).requires_grad_()
        self.embedding, self.norm = learnt("model.embed_tokens.weight"), learnt("model.norm.weight")
        self.layers = [layer(learnt, f"model.layers.{index}.") for index in range(config["num_hidden_layers"])]
        # the same tensor: its gradients add up
        self.head = self.embedding if config.get("tie_word_embeddings") else learnt("lm_head.weight")

    def parameters(self):
        head = [] if self.head is self.embedding else [self.head]
        return [self.embedding, self.norm, *head, *(weight for layer in self.layers for weight in layer.values())]

    def logits(self, rows):
        """Of the selected rows."""
        x = F.embedding(rows.tokens, self.embedding)
        for layer in self.layers:
            x = x + F.linear(self.attended(layer, self.normed(x, layer["input_norm"]), rows), layer["o"])
            gate, up = F.linear(self.normed(x, layer["post_norm"]), layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.linear(self.normed(x.index_select(0, rows.selected), self.norm), self.head)

    def normed(self, x, weight):
        return F.rms_norm(x, (self.hidden,), weight, self.epsilon)

    def attended(self, layer, x, rows):
        both, width = self.heads + self.kv_heads, self.head_width
        qk, v = F.linear(x, layer["qkv"]).split([both * width, self.kv_heads * width], -1)
        qk = rotated(qk.unflatten(-1, (both, width)), rows)
        q, k = (rows.padded(part) for part in qk.split([self.heads, self.kv_heads], 1))
        k, v = self.repeated(k), self.repeated(rows.padded(v.unflatten(-1, (self.kv_heads, width))))
        if self.attention == "explicit":
            scores = q @ k.transpose(2, 3) * width**-0.5 + rows.mask
            return rows.unpadded(scores.softmax(-1) @ v)
        return rows.unpadded(F.scaled_dot_product_attention(q, k, v, attn_mask=rows.mask, is_causal=rows.causal))

    def repeated(self, x):
        """The kernel for processors wants as many heads of keys and values as of queries."""
        return x[:, :, None].expand(-1, -1, self.heads // self.kv_heads, -1, -1).flatten(1, 2)


def layer(learnt, prefix):
    of = lambda part, *names: learnt(*(f"{prefix}{part}.{name}_proj.weight" for name in names))
    return {
        "input_norm": learnt(f"{prefix}input_layernorm.weight"),
        "qkv": of("self_attn", "q", "k", "v"),
        "o": of("self_attn", "o"),
        "post_norm": learnt(f"{prefix}post_attention_layernorm.weight"),
        "gate_up": of("mlp", "gate", "up"),
        "down": of("mlp", "down"),
    }


def rotated(x, rows):
    first, second = x.chunk(2, -1)
    return torch.cat([first * rows.cosines - second * rows.sines, second * rows.cosines + first * rows.sines], -1)
