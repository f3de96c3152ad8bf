"""Adaptive decoding against autoregressive decoding of the same model with several prompts at the same time: what a server does with a
model that is no CLLM must not cost its users anything. Writes batches.json and batches.md into --output.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import tempfile

import figures
from common.output import publish
from common.rounding import rounded
from party import MAX_NEW_TOKENS

# prompts at the same time
SIZES = [1, 2, 4, 8, 16]


def main():
    parser = argparse.ArgumentParser()
    for name in ["cllm", "model", "output"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--prompts", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--groups", type=int, default=8, help="groups of each size and set at least")
    parser.add_argument("--texts", type=int, default=16, help="texts of each size and set at least: few texts at a time make more groups")
    options = parser.parse_args()
    sets = {}
    for line in filter(str.strip, "\n".join(path.read_text() for path in options.prompts).splitlines()):
        sets.setdefault(json.loads(line)["set"], []).append(line)
    measured, conditions = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, lines in sets.items():
            for size in SIZES:
                groups = max(options.groups, options.texts // size)
                ratios, conditions = measure(options, lines, size, groups, pathlib.Path(scratch))
                measured.setdefault(name, {})[size] = figures.interval([[ratio] for ratio in ratios]) | {"groups": groups}
    found = rounded({"command": "make bench-batches", "model": options.model.name, "conditions": conditions,
                     "adaptive_over_autoregressive": measured})
    publish(options.output, "batches", found, page(found))


def measure(options, lines, size, groups, scratch):
    """Ratios of the seconds of groups of prompts, autoregressive over adaptive, and the conditions."""
    prompts, tokens, report = (scratch / name for name in ["prompts.jsonl", "tokens.jsonl", "report.json"])
    prompts.write_text("\n".join(itertools.islice(itertools.cycle(lines), size * groups)) + "\n")
    subprocess.run(
        [options.cllm, "bench", "--model", options.model, "--prompts", prompts, "--block-size", "16", "--lookup", "--adaptive-only", "--concurrency", str(size),
         "--max-new-tokens", str(MAX_NEW_TOKENS), "--tokens", tokens, "--report", report], check=True, stdout=subprocess.DEVNULL)
    answers = [json.loads(line) for line in tokens.read_text().splitlines()]
    return group_ratios(answers, size), json.loads(report.read_text())["conditions"]


def group_ratios(answers, size):
    """All prompts of a group have the same share of its time, so the first tells its ratio."""
    seconds = lambda answer, name: next(arm["decodeSeconds"] for arm in answer["arms"] if arm["strategy"] == name)
    return [seconds(first, "Autoregressive") / seconds(first, "AdaptiveJacobiWithLookup") for first in answers[::size]]


def page(found):
    conditions = found["conditions"]
    sizes = next(iter(found["adaptive_over_autoregressive"].values()))
    lines = [
        "# Adaptive decoding of several prompts at the same time",
        "",
        f"`{found['command']}` on {conditions['hardware']}, {conditions['threads']} threads, {conditions['instructionSet']}: {found['model']}, which is no CLLM;",
        f"at most {conditions['maxNewTokens']} new tokens each, greedy. Tokens per second of adaptive decoding over those of autoregressive decoding of",
        "the same group of prompts, in turns of eight forwards: median of the groups with its 95 % interval (bootstrap). Below 1 is a loss.",
        "",
        "| Prompts | " + " | ".join(f"{size} at a time, {ratio['groups']} groups" for size, ratio in sizes.items()) + " |",
        "|---" * (1 + len(SIZES)) + "|",
    ]
    cell = lambda ratio: f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    for name, sizes in found["adaptive_over_autoregressive"].items():
        lines.append(f"| {name} | " + " | ".join(cell(ratio) for ratio in sizes.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
