"""Adaptive decoding against autoregressive decoding of the same model with several prompts at the same time: what a server does with a
model that is no CLLM must not cost its users anything. Writes batches.json and batches.md into --output.
"""

import argparse
import itertools
import json
import pathlib
import random
import subprocess
import tempfile

import figures
from common.output import publish
from common.rounding import rounded
from party import MAX_NEW_TOKENS

# prompts at the same time
SIZES = [1, 2, 4, 8, 16]
# times as many wait for their places at the beginning of a group
WAITING = 3
# by their names in the result, as `cllm bench` calls them: what a server does unless told otherwise, and the same without lookup
ADAPTIVE = {"adaptive_over_autoregressive": "AdaptiveJacobiWithLookup", "adaptive_without_lookup_over_autoregressive": "AdaptiveJacobi"}


def main():
    parser = argparse.ArgumentParser()
    for name in ["cllm", "model", "output"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--groups", type=int, default=10, help="groups of each set with each number of prompts at a time")
    parser.add_argument("--sets", nargs="+", default=[], help="measure only these sets again, and leave what --output says of the others")
    options = parser.parse_args()
    sets = {}
    for line in filter(str.strip, "\n".join(path.read_text() for path in options.prompts).splitlines()):
        sets.setdefault(json.loads(line)["set"], []).append(line)
    unknown = set(options.sets) - set(sets)
    if unknown:
        raise SystemExit(f"there is no set {', '.join(sorted(unknown))}; there are {', '.join(sets)}")
    # read first: what is not there is told before anything is measured
    before = json.loads((options.output / "batches.json").read_text()) if options.sets else None
    measured, conditions = {name: {} for name in ADAPTIVE}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.sets or sets:
            for size in SIZES:
                answers, conditions = measure(options, in_groups(sets[name], (1 + WAITING) * size * options.groups), size, pathlib.Path(scratch))
                for way, strategy in ADAPTIVE.items():
                    ratios = group_ratios(answers, size, strategy)
                    measured[way].setdefault(name, {})[size] = figures.interval([[ratio] for ratio in ratios])
    found = rounded({"command": "make bench-batches", "model": options.model.name, "conditions": conditions, "groups": options.groups, **measured})
    if before:
        found = renewed(before, found)
    publish(options.output, "batches", found, page(found))


def renewed(before, found):
    """What was found before, with the sets that were measured again. They stand in one table, so everything else must be the same."""
    different = [key for key in before if key not in ADAPTIVE and before[key] != found[key]]
    if different:
        raise SystemExit(f"not as before: {', '.join(different)}; measure all sets again, without --sets")
    by_size = lambda sets: {name: {int(size): interval for size, interval in sizes.items()} for name, sizes in sets.items()}
    return {**found, **{way: {**by_size(before[way]), **found[way]} for way in ADAPTIVE}}


def in_groups(lines, count):
    """So many of the lines: all of them again and again, each time in another order, so that groups differ. The same in every run."""
    order = random.Random(1)
    shuffled = (order.sample(lines, len(lines)) for _ in itertools.count())
    return list(itertools.islice(itertools.chain.from_iterable(shuffled), count))


def measure(options, lines, size, scratch):
    """What `cllm bench` says of each prompt, so many at a time, and the conditions of all."""
    prompts, tokens, report = (scratch / name for name in ["prompts.jsonl", "tokens.jsonl", "report.json"])
    prompts.write_text("\n".join(lines) + "\n")
    subprocess.run(
        [options.cllm, "bench", "--model", options.model, "--prompts", prompts, "--block-size", "16", "--lookup", "--adaptive-only", "--concurrency", str(size), "--queue", str(WAITING * size),
         "--max-new-tokens", str(MAX_NEW_TOKENS), "--tokens", tokens, "--report", report], check=True, stdout=subprocess.DEVNULL)
    answers = [json.loads(line) for line in tokens.read_text().splitlines()]
    conditions = json.loads(report.read_text())["conditions"]
    # these are not those of the whole benchmark
    return answers, {name: value for name, value in conditions.items() if name not in {"dataset", "prompts", "concurrency"}}


def group_ratios(answers, size, strategy):
    """Seconds of each group, autoregressive over a strategy, of so many at a time. All prompts of a group have the same share of its time,
    so the first tells.
    """
    seconds = lambda answer, name: next(arm["decodeSeconds"] for arm in answer["arms"] if arm["strategy"] == name)
    return [seconds(first, "Autoregressive") / seconds(first, strategy) for first in answers[:: (1 + WAITING) * size]]


def page(found):
    conditions = found["conditions"]
    return "\n".join([
        "# Adaptive decoding of several prompts at the same time",
        "",
        f"`{found['command']}` on {conditions['hardware']}, {conditions['threads']} threads, {conditions['instructionSet']}: {found['model']}, which is no CLLM;",
        f"at most {conditions['maxNewTokens']} new tokens each, greedy. Tokens per second of adaptive decoding over those of autoregressive decoding of",
        f"the same group of prompts, in turns of eight forwards: median of {found['groups']} groups with its 95 % interval (bootstrap). Below 1 is a loss. A group has",
        f"{1 + WAITING} times as many prompts as are decoded at a time: one that ends makes room for the next, as in a busy server.",
        "",
        "With prompt lookup, as a server decodes unless told otherwise:",
        "",
        *table(found["adaptive_over_autoregressive"]),
        "",
        "Without lookup:",
        "",
        *table(found["adaptive_without_lookup_over_autoregressive"]),
    ]) + "\n"


def table(sets):
    cell = lambda ratio: f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    rows = [f"| {name} | " + " | ".join(cell(sizes[size]) for size in SIZES) + " |" for name, sizes in sets.items()]
    return ["| Prompts | " + " | ".join(f"{size} at a time" for size in SIZES) + " |", "|---" * (1 + len(SIZES)) + "|", *rows]


if __name__ == "__main__":
    main()
