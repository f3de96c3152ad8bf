"""Trajectories of the same prompts by the same model in three ways, in turns, in one run: many texts at a time, one text at a time, and as
the CLLM reference does it, which has neither batches nor a KV cache.

Writes collection.json and collection.md into --output. `run.sh` prepares everything and calls this.
"""

import argparse
import gzip
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import page
from common import turns
from common.machine import pin, this_machine
from common.output import publish
from common.rounding import rounded
from page import BATCHED, REFERENCE, SINGLE

SHARD = "shard-00000-of-00001.safetensors"


def arguments():
    parser = argparse.ArgumentParser()
    for name in ["trainer", "reference", "model", "data", "output"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    return parser.parse_args()


def main():
    options = arguments()
    pin(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, pathlib.Path(scratch))
        bench.prepare()
        rounds = [bench.round(turn) for turn in range(options.rounds)]
    found = described(options, bench, rounds)
    publish(options.output, "collection", found, page.page(found))


class Bench:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        # of the shard, and of the reference's way
        self.trajectories, self.reference = {}, {}

    def prepare(self):
        """The prompts, and the trajectories that the reference's way has to find again."""
        with gzip.open(self.options.data, "rt") as lines:
            sample = random.Random(1).sample(lines.read().splitlines(), self.options.prompts)
        (self.scratch / "prompts.jsonl").write_text("\n".join(sample) + "\n")
        self.collect("recorded", [])
        self.expected = (self.scratch / "recorded" / SHARD).read_bytes()

    def round(self, turn):
        """Tokens per second of every way; who begins changes from round to round."""
        print(f"round {turn + 1} of {self.options.rounds}", file=sys.stderr, flush=True)
        ways = [(BATCHED, lambda: self.own(f"{turn}-batched", [])), (SINGLE, lambda: self.own(f"{turn}-single", ["--concurrency=1"])),
                (REFERENCE, self.without_cache)]
        begin = turn % len(ways)
        return {way: rate() for way, rate in ways[begin:] + ways[:begin]}

    def own(self, output, more):
        """Fails unless the shard has the same bytes as the recorded one."""
        rate = self.collect(output, more)
        if (self.scratch / output / SHARD).read_bytes() != self.expected:
            raise SystemExit(f"{output}: other trajectories; please report this")
        return rate

    def collect(self, output, more):
        """Tokens per second, once the model is loaded and the prompts are read."""
        options, words = self.options, self.scratch / "words.json"
        run([options.trainer, "collect", f"--model={options.model}", f"--dataset={self.scratch / 'prompts.jsonl'}",
             f"--output={self.scratch / output}", f"--block-size={options.block_size}", f"--max-new-tokens={options.max_new_tokens}",
             f"--threads={options.threads}", f"--termination-message={words}", "--seed=1", *more])
        self.trajectories = json.loads(words.read_text())["trajectories"]
        return float(self.trajectories["tokensPerSecond"])

    def without_cache(self):
        """Tokens per second, measured by the program, which fails unless it finds the recorded states."""
        self.reference = json.loads(run([self.options.reference, self.options.model, self.scratch / "recorded", str(self.options.threads)]))
        return self.reference["tokens"] / self.reference["seconds"]


def run(command):
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if ended.returncode != 0:
        said = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise SystemExit(f"{pathlib.Path(command[0]).name} ended with code {ended.returncode}: {said}")
    return ended.stdout


def described(options, bench, rounds):
    version = run([options.trainer, "--version"]).split()[-1]
    # seconds of a token, of which `turns` makes ratios
    seconds = [{way: 1 / rate for way, rate in found.items()} for found in rounds]
    model = options.model.resolve()
    repository = pathlib.Path(__file__).resolve().parents[2]
    return rounded({
        "command": "make bench-collection",
        "model": str(model.relative_to(repository) if model.is_relative_to(repository) else model.name),
        "conditions": {
            **this_machine(),
            "instructionSet": bench.reference["instructionSet"],
            "storage": bench.reference["storage"],
            "cllmVersion": version,
            "threads": options.threads,
            "rounds": options.rounds,
            "prompts": options.prompts,
            "blockSize": options.block_size,
            "maxNewTokens": options.max_new_tokens,
        },
        "trajectories": {name: bench.trajectories[name] for name in ["examples", "blocks", "states", "tokens", "dropped", "tokensPerForward"]},
        "tokens_per_second": turns.rates(1, seconds),
        "over_reference": {way: turns.ratio(seconds, way, REFERENCE) for way in [BATCHED, SINGLE]},
        "batched_over_single": turns.ratio(seconds, BATCHED, SINGLE),
    })


if __name__ == "__main__":
    main()
