"""Our side: `cllm-trainer`."""

import json
import os
import shutil
import subprocess
import time

import settings

TARGET = settings.REPOSITORY / "examples/text2sql/target"
BLOCK_SIZE, MAX_NEW_TOKENS = 16, 128
# examples that a stage takes
DATA_OPTION = {settings.ADAPT: "--dataset", settings.TRAIN: "--trajectories"}


class Trainer:
    def __init__(self, binary, scratch):
        self.binary, self.scratch = binary, scratch

    def version(self):
        return subprocess.run([self.binary, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]

    def init(self, config, data, output):
        """A checkpoint with random weights and a tokenizer of 1,024 tokens, like the target's."""
        self.run(["init", f"--config={config}", f"--data={data}", "--vocab-size=1024", f"--output={output}", "--seed=1"])

    def collect(self, data, output):
        """Trajectories of the demo's target on the prompts of `data`."""
        self.run(["collect", f"--model={TARGET}", f"--dataset={data}", f"--output={output}", f"--block-size={BLOCK_SIZE}",
                  f"--max-new-tokens={MAX_NEW_TOKENS}", f"--threads={settings.THREADS}"])

    def seconds(self, stage, model, examples, steps):
        """Of a whole run, from the start of the process to its end."""
        command = self.command(stage, model, examples, steps)
        begun = time.perf_counter()
        self.run(command)
        return time.perf_counter() - begun

    def check(self, stage, model, examples):
        """Losses of a few steps, smoothed, and what the trainer calls the checkpoint that it began with."""
        self.run(self.command(stage, model, examples, settings.CHECK_STEPS))
        points = json.loads((self.output / "history.json").read_text())
        losses = {name: [dict(point["losses"])[name] for point in points] for name in settings.TERMS[stage]}
        return losses, json.loads((self.output / "training.json").read_text())["model"]

    def command(self, stage, model, examples, steps):
        """Nothing of an earlier run is left; no state is saved on the way, nothing is measured on it."""
        for folder in [self.output, self.state]:
            shutil.rmtree(folder, ignore_errors=True)
        first, second = settings.BETAS
        weight = [f"--autoregressive-weight={settings.AUTOREGRESSIVE_WEIGHT}"] if stage == settings.TRAIN else []
        return [stage, f"--model={model}", f"{DATA_OPTION[stage]}={examples}", f"--output={self.output}", f"--state={self.state}",
                f"--steps={steps}", f"--batch-size={settings.BATCH_SIZES[stage]}", f"--learning-rate={settings.LEARNING_RATE}",
                f"--warmup-steps={settings.WARM_UP_STEPS}", "--decay=Linear", f"--beta1={first}", f"--beta2={second}", "--weight-decay=0",
                f"--clip={settings.CLIP}", "--seed=1", f"--checkpoint-every-steps={steps}", f"--threads={settings.THREADS}", *weight]

    @property
    def output(self):
        return self.scratch / "output"

    @property
    def state(self):
        return self.scratch / "state"

    def run(self, arguments):
        ended = subprocess.run(
            [self.binary, *arguments], env={**os.environ, "RAYON_NUM_THREADS": str(settings.THREADS)}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)
        if ended.returncode != 0:
            said = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
            raise SystemExit(f"cllm-trainer {arguments[0]} ended with code {ended.returncode}: {said}")
