"""What was measured, and what `training.json` says of it."""

from dataclasses import dataclass, field

import settings
from common import turns
from common.rounding import rounded

OURS, TORCH = "ours", "torch"


@dataclass
class Measured:
    """A stage at a size."""

    size: settings.Size
    stage: str
    passes: int
    parameters: int = 0
    # of a pass
    rows: int = 0
    # seconds of the timed passes, {OURS: …, TORCH: …} a round
    rounds: list = field(default_factory=list)
    differences: dict = field(default_factory=dict)
    # rows per second of torch by its way to attend, and the fastest, which it is measured with
    attentions: dict = field(default_factory=dict)
    attention: str = ""
    # {side: what profiles.py says}
    profiles: dict = field(default_factory=dict)


def result(measured, conditions):
    return rounded({
        "command": "make bench-training",
        "conditions": {
            **conditions,
            "threads": settings.THREADS,
            "rounds": len(measured[0].rounds),
            "storage": "f32",
            "stepsOfPass": settings.STEPS_OF_PASS,
            "autoregressiveWeight": settings.AUTOREGRESSIVE_WEIGHT,
        },
        "runs": [described(run) for run in measured],
        "ratios": {f"{run.stage}_{run.size.name}": turns.ratio(run.rounds, OURS, TORCH)["median"] for run in measured},
    })


def described(run):
    rates = turns.rates(run.rows * run.passes, run.rounds)
    return {
        "size": run.size.name,
        "model": run.size.model(),
        "parameters": run.parameters,
        "stage": run.stage,
        "batch_size": settings.BATCH_SIZES[run.stage],
        "rows_of_step": run.rows / settings.STEPS_OF_PASS,
        "steps": run.passes * settings.STEPS_OF_PASS,
        "rows_per_second": rates,
        "ours_over_torch": turns.ratio(run.rounds, OURS, TORCH),
        "loss_differences": run.differences,
        "torch_attention": {"chosen": run.attention, "rows_per_second": run.attentions},
        "profiles": run.profiles,
    }
