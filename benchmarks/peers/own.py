"""Our side: `cllm bench`, which decodes every prompt in all its ways in turns and checks that they give the same tokens."""

import json
import subprocess

from party import MAX_NEW_TOKENS, SIZES, Answer

AUTOREGRESSIVE = "ours, autoregressive"
# what a server does by default: as many rows as pay, at most 16, guesses also by lookup
ADAPTIVE = "ours, adaptive"
NAMES = {"Autoregressive": AUTOREGRESSIVE, "AdaptiveJacobiWithLookup": ADAPTIVE, "AdaptiveJacobi": "ours, adaptive without lookup"}


def jacobi(size):
    return f"ours, Jacobi of {size} rows"


class Own:
    def __init__(self, binary, file, prompts, scratch, sizes):
        self.command = [binary, "bench", "--model", file, "--prompts", prompts]
        self.sizes = sizes
        self.tokens, self.report = scratch / "tokens.jsonl", scratch / "report.json"

    def answers(self):
        """Token ids of the prompts, and the answers by name of the way."""
        self.run(["--block-size", ",".join(map(str, self.sizes)), "--lookup", "--max-new-tokens", str(MAX_NEW_TOKENS)])
        lines = [json.loads(line) for line in self.tokens.read_text().splitlines()]
        answers = {}
        for line in lines:
            for arm in line["arms"]:
                name = NAMES.get(arm["strategy"]) or (jacobi(arm["blockSize"]) if arm["strategy"] == "Jacobi" else None)
                if name:
                    answer = Answer(line["tokens"], len(line["tokens"]) - 1, arm["decodeSeconds"], arm["decodeForwards"])
                    answers.setdefault(name, []).append(answer)
        return [line["prompt"] for line in lines], answers

    def forward_seconds(self):
        """By rows."""
        self.run(["--block-size", ",".join(map(str, SIZES)), "--limit", "1", "--max-new-tokens", "2"])
        return {cost["rows"]: cost["seconds"] for cost in json.loads(self.report.read_text())["forwardCost"]}

    def conditions(self):
        return json.loads(self.report.read_text())["conditions"]

    def run(self, arguments):
        command = [*self.command, *arguments, "--report", self.report, "--tokens", self.tokens]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
