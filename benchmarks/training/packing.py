"""From examples to the rows of one forward, by the rules of the trainer (trainer/src/adapt.rs, trainer/src/consistency/packing.rs). Pure."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Span(NamedTuple):
    """Consecutive rows: each sees the prefix, the rows of the span before it and itself."""

    start: int
    length: int
    prefix_start: int
    prefix_length: int


@dataclass
class Batch:
    # inputs of the rows, without padding
    tokens: list = field(default_factory=list)
    positions: list = field(default_factory=list)
    # of each example: its first row and how many it has
    examples: list = field(default_factory=list)
    spans: list = field(default_factory=list)
    # rows whose logits are needed: those with a target first, then those that learn from one of them
    selected: list = field(default_factory=list)
    targets: list = field(default_factory=list)
    # for each one that learns: the place in `selected` of the one that teaches it
    teachers: list = field(default_factory=list)

    def push(self, tokens, prefix_start, prefix_length):
        """Gives the first of the new rows, which continue a prefix of earlier ones."""
        start = len(self.tokens)
        self.spans.append(Span(start, len(tokens), prefix_start, prefix_length))
        self.tokens += tokens
        self.positions += range(prefix_length, prefix_length + len(tokens))
        return start


def supervised(examples):
    """Of pairs (tokens with the end marker, tokens of the prompt): completion and end marker are learnt."""
    batch = Batch()
    for tokens, prompt_len in examples:
        push_clean(batch, tokens, prompt_len)
        close(batch)
    return batch


def consistency(examples):
    """Of trajectories with one wrong state a block: the fixed point is learnt, and teaches the wrong states."""
    batch, learning = Batch(), []
    for example in examples:
        place = len(batch.selected)
        start = push_clean(batch, example.tokens, example.prompt_len)
        for block in example.blocks:
            prefix, inputs = noisy_inputs(example, block)
            if inputs:
                first = batch.push(inputs, start, prefix)
                learning += range(first, first + len(inputs))
                first_place = place + prefix - (example.prompt_len - 1)
                batch.teachers += range(first_place, first_place + len(inputs))
        close(batch)
    batch.selected += learning
    return batch


def push_clean(batch, tokens, prompt_len):
    start = batch.push(tokens[:-1], len(batch.tokens), 0)
    batch.selected += range(start + prompt_len - 1, start + len(tokens) - 1)
    batch.targets += tokens[prompt_len:]
    return start


def close(batch):
    """Ends an example."""
    start = sum(batch.examples[-1]) if batch.examples else 0
    batch.examples.append((start, len(batch.tokens) - start))


def noisy_inputs(example, block):
    """Clean rows before the first wrong input, and the inputs from it on, none where all are right. The last token of a state is the input of
    no row.
    """
    start = example.prompt_len + block.position
    inputs = block.states[0][:-1] if len(block.states) > 1 else []
    pairs = enumerate(zip(inputs, example.tokens[start:]))
    wrong = next((index for index, (noisy, right) in pairs if noisy != right), len(inputs))
    return start + wrong, inputs[wrong:]
