"""The other side: `torch_train.py` in a process of its own, with the python of its own environment."""

import json
import os
import pathlib
import subprocess

import settings

HERE = pathlib.Path(__file__).parent


class Torch:
    def __init__(self, python):
        self.python = python

    def train(self, stage, model, examples, attention, warm_up_steps, steps, profile_steps=0):
        """What torch_train.py prints."""
        threads = {name: str(settings.THREADS) for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"]}
        ended = subprocess.run(
            [self.python, HERE / "torch_train.py", f"--checkpoint={model}", f"--stage={stage}", f"--examples={examples}",
             f"--batch-size={settings.BATCH_SIZES[stage]}", f"--attention={attention}", f"--warm-up-steps={warm_up_steps}",
             f"--steps={steps}", f"--profile-steps={profile_steps}", f"--threads={settings.THREADS}"],
            env={**os.environ, **threads}, capture_output=True, text=True)
        # what else a package prints is passed over
        found = [line for line in ended.stdout.splitlines() if line.startswith("{")]
        if ended.returncode != 0 or not found:
            said = (ended.stderr.strip().splitlines() or ["nothing said"])[-1]
            raise SystemExit(f"torch_train.py ended with code {ended.returncode}: {said}")
        return json.loads(found[-1])
