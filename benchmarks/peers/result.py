"""What was measured, and what `peers.json` says of it."""

from dataclasses import dataclass, field

import figures
import llama
import own
from common.rounding import rounded


@dataclass
class Measured:
    """All parties on one file."""

    model: str
    is_cllm: bool
    storage: str
    # of each prompt
    sets: list
    conditions: dict = field(default_factory=dict)
    rounds: list = field(default_factory=list)
    # why a party is not in the rounds
    unavailable: dict = field(default_factory=dict)
    own_forward_seconds: list = field(default_factory=list)
    llama_forward_seconds: list = field(default_factory=list)

    def names(self):
        """Parties that answered in all rounds in which they were asked."""
        return [name for name in self.rounds[0] if name not in self.unavailable]

    def peers(self):
        return [name for name in self.names() if not name.startswith("ours")]


def result(measured, candle, versions=()):
    """`measured`: of each file. `candle`: {storage: {rows: seconds}} on the shapes of SmolLM2. `versions`: of the peers' packages."""
    found = {
        "command": "make bench-peers",
        "conditions": {**conditions(measured[0]), "peers": list(versions)},
        "files": [described(file) for file in measured],
        "candle_forward_seconds": candle,
        "ratios": ratios(measured),
    }
    return rounded(found)


def conditions(file):
    shared = ["hardware", "threads", "instructionSet", "cllmVersion", "maxNewTokens", "sampling"]
    return {**{name: file.conditions[name] for name in shared}, "concurrency": 1, "rounds": len(file.rounds)}


def described(file):
    rounds = file.rounds
    parties = {}
    for name in sorted(file.names(), key=lambda name: -figures.median_rate(rounds, name)):
        same = figures.same_before_first_difference(rounds[0][own.AUTOREGRESSIVE], rounds[0][name])
        parties[name] = {
            "tokens_per_second": figures.median_rate(rounds, name),
            "over_llama_cpp": figures.ratio(rounds, name, llama.PLAIN),
            "over_own_autoregressive": figures.ratio(rounds, name, own.AUTOREGRESSIVE),
            "tokens_per_forward": figures.tokens_per_forward(rounds, name),
            "same_tokens_before_first_difference": same,
        }
    return {
        "model": file.model,
        "is_cllm": file.is_cllm,
        "storage": file.storage,
        "prompts": {name: file.sets.count(name) for name in dict.fromkeys(file.sets)},
        "parties": parties,
        "unavailable": file.unavailable,
        "adaptive_over_autoregressive": figures.paired(rounds, own.ADAPTIVE, own.AUTOREGRESSIVE, file.sets),
        "forward_seconds": {
            "ours": figures.median_seconds(file.own_forward_seconds),
            "llama.cpp": figures.median_seconds(file.llama_forward_seconds),
        },
    }


def ratios(measured):
    """By storage. Those of Jacobi are on a CLLM; they are absent where none was measured."""
    plain = {file.storage: file for file in measured if not file.is_cllm}
    cllm = {file.storage: file for file in measured if file.is_cllm}
    over = lambda name, base, files: {storage: figures.ratio(file.rounds, name, base) for storage, file in files.items()}
    found = {
        "autoregressive_over_llama_cpp": over(own.AUTOREGRESSIVE, llama.PLAIN, plain),
        "adaptive_on_plain_model": {
            storage: figures.paired(file.rounds, own.ADAPTIVE, own.AUTOREGRESSIVE, file.sets) for storage, file in plain.items()},
    }
    for storage in {"f32", "q8_0"} & plain.keys():
        curve = figures.over_one_row(figures.median_seconds(plain[storage].own_forward_seconds))
        found[f"t8_over_t1_{storage}"] = curve[8]
    if cllm:
        found |= {
            "jacobi_over_own_autoregressive": {storage: jacobi(file) for storage, file in cllm.items()},
            "jacobi_over_best_peer": {storage: over_best_peer(file) for storage, file in cllm.items()},
        }
    return found


def jacobi_name(file):
    """The fastest with a fixed number of rows."""
    sizes = {own.jacobi(size): size for size in [2, 4, 8, 16]}
    name = figures.best(file.rounds, [name for name in sizes if name in file.names()])
    return name, sizes[name]


def jacobi(file):
    """With what tokens per forward and t(1)/t(n) predict."""
    name, rows = jacobi_name(file)
    per_forward = figures.tokens_per_forward(file.rounds, name)
    cost = figures.over_one_row(figures.median_seconds(file.own_forward_seconds))[rows]
    return {
        "ratio": figures.ratio(file.rounds, name, own.AUTOREGRESSIVE),
        "rows": rows,
        "tokens_per_forward": per_forward,
        "forward_cost": cost,
        "predicted": per_forward / cost,
    }


def over_best_peer(file):
    name, peer = jacobi_name(file)[0], figures.best(file.rounds, file.peers())
    return {"ratio": figures.ratio(file.rounds, name, peer), "peer": peer}
