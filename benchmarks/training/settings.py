"""What both sides of the benchmark have in common."""

import pathlib
from dataclasses import dataclass

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
THREADS = 2
ADAPT, TRAIN = "adapt", "train"
# examples of a step
BATCH_SIZES = {ADAPT: 16, TRAIN: 8}
# steps that see every example once: timed are whole passes, so both sides have the same rows whatever order they shuffle them into
STEPS_OF_PASS = 5
# steps of the check on one batch
CHECK_STEPS = 5
LEARNING_RATE, WARM_UP_STEPS, FINAL_FRACTION = 1e-3, 2, 0.02
BETAS, EPSILON, CLIP = (0.9, 0.98), 1e-8, 1.0
AUTOREGRESSIVE_WEIGHT = 10.0
# how rows see each other in PyTorch: one attention over all rows of the batch; or, for attention alone, examples padded to the longest,
# with PyTorch's kernel or with products and a softmax
ATTENTIONS = ["packed", "padded", "explicit"]
# terms of the loss that are compared, as history.json calls them
TERMS = {ADAPT: ["loss"], TRAIN: ["consistencyLoss", "autoregressiveLoss"]}


@dataclass(frozen=True)
class Size:
    name: str
    config: pathlib.Path
    # timed ones in a round
    passes: int

    def model(self):
        return f"the size of {self.config.relative_to(REPOSITORY)}"


SIZES = {
    "small": Size("small", REPOSITORY / "examples/text2sql/target.config.json", 12),
    "large": Size("large", REPOSITORY / "benchmarks/training/large.config.json", 4),
}


def learning_rate(step, steps):
    """Of a step, counted from 0: what `--decay=Linear` of the trainer does."""
    if step < WARM_UP_STEPS:
        return LEARNING_RATE * (step + 1) / WARM_UP_STEPS
    gone = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return LEARNING_RATE * (FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 - gone))
