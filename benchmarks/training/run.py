"""`cllm-trainer` against the same training in eager PyTorch: the same weights and examples, in turns, in one run.

Writes training.json and training.md into --output. `run.sh` prepares everything and calls this.
"""

import argparse
import gzip
import pathlib
import random
import sys
import tempfile

import figures
import page
import profiles
import result
import settings
import shards
from common.machine import pin, this_machine
from common.output import publish
from own import Trainer
from peer import Torch
from result import OURS, TORCH
from settings import ADAPT, BATCH_SIZES, CHECK_STEPS, STEPS_OF_PASS, TRAIN

SHARD = "shard-00000-of-00001.safetensors"


def arguments():
    parser = argparse.ArgumentParser()
    path = pathlib.Path
    for name in ["trainer", "data", "output"]:
        parser.add_argument(f"--{name}", type=path, required=True)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--versions", type=str.split, default=[], help="of the peer's packages")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, help=f"timed ones in a round, of {STEPS_OF_PASS} steps each; by the size where it is not given")
    words = lambda text: text.split(",")
    parser.add_argument("--sizes", type=words, default=list(settings.SIZES))
    parser.add_argument("--attention", type=words, default=settings.ATTENTIONS, help="ways that PyTorch may attend; the fastest is timed")
    return parser.parse_args()


def main():
    options = arguments()
    pin(settings.THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, pathlib.Path(scratch))
        measured = [bench.measure(settings.SIZES[size], stage) for size in options.sizes for stage in [ADAPT, TRAIN]]
        conditions = {**this_machine(), "cllmVersion": bench.trainer.version(), "peers": options.versions}
    found = result.result(measured, conditions)
    publish(options.output, "training", found, page.page(found))


class Bench:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, scratch
        self.trainer, self.torch = Trainer(options.trainer, scratch), Torch(options.torch_python)
        self.digests = {}
        self.sample = sampled(options.data, STEPS_OF_PASS * BATCH_SIZES[ADAPT])
        write_lines(scratch / "all.jsonl", self.sample)
        say("collecting trajectories")
        self.trainer.collect(scratch / "all.jsonl", scratch / "collected")
        examples, self.shard = shards.read(scratch / "collected" / SHARD)
        self.trajectories = [shards.one_state_a_block(example) for example in examples[: STEPS_OF_PASS * BATCH_SIZES[TRAIN]]]
        if len(self.trajectories) < STEPS_OF_PASS * BATCH_SIZES[TRAIN]:
            raise SystemExit(f"only {len(examples)} of {len(self.sample)} answers of the target are usable; give --data that it knows")

    def measure(self, size, stage):
        say(f"{size.name}, {stage}: preparing")
        model = self.checkpoint(size)
        run = result.Measured(size, stage, self.options.passes or size.passes)
        examples = self.examples(stage, model)
        self.choose_attention(run, model, examples)
        run.differences = self.check(run, model)
        for turn in range(self.options.rounds):
            say(f"{size.name}, {stage}: round {turn + 1} of {self.options.rounds}")
            sides = [(OURS, self.own_seconds), (TORCH, self.torch_seconds)]
            # who begins changes from round to round
            run.rounds.append({side: seconds(run, model, examples) for side, seconds in (sides if turn % 2 == 0 else sides[::-1])})
        say(f"{size.name}, {stage}: profiles")
        run.profiles = {OURS: self.own_profile(run, model, examples), TORCH: self.torch_profile(run, model, examples)}
        return run

    def checkpoint(self, size):
        model = self.scratch / f"model-{size.name}"
        if not model.exists():
            self.trainer.init(size.config, self.options.data, model)
        return model

    def examples(self, stage, model, batches=STEPS_OF_PASS):
        """So many batches of examples as a stage reads them."""
        name, count = f"{model.name}-{batches}", batches * BATCH_SIZES[stage]
        if stage == ADAPT:
            write_lines(self.scratch / f"{name}.jsonl", self.sample[:count])
            return self.scratch / f"{name}.jsonl"
        # The trainer refuses trajectories of other models. Whose they are does not change what a step costs.
        shards.write(self.scratch / name / SHARD, self.trajectories[:count], self.shard, self.digest(model))
        return self.scratch / name

    def digest(self, model):
        """What the trainer calls a checkpoint; it notes it in whatever it makes of one."""
        if model not in self.digests:
            self.digests[model] = self.trainer.check(ADAPT, model, self.examples(ADAPT, model, 1))[1]
        return self.digests[model]

    def check(self, run, model):
        """Fails unless both compute the same losses on one batch, whose examples both see in every step."""
        one_batch = self.examples(run.stage, model, 1)
        smoothed, _ = self.trainer.check(run.stage, model, one_batch)
        ours = {name: figures.unsmoothed(values) for name, values in smoothed.items()}
        theirs = self.torch.train(run.stage, model, one_batch, run.attention, 0, CHECK_STEPS)["losses"]
        found = figures.differences(ours, theirs)
        if not figures.agree(found):
            raise SystemExit(f"{run.size.name}, {run.stage}: the losses differ, by up to {found}; ours are {ours}, PyTorch's {theirs}")
        return found

    def choose_attention(self, run, model, examples):
        """Each way has a pass to warm up and a timed one."""
        for attention in self.options.attention:
            found = self.torch.train(run.stage, model, examples, attention, STEPS_OF_PASS, STEPS_OF_PASS)
            run.rows, run.parameters = sum(found["rows_of_batches"]), found["parameters"]
            run.attentions[attention] = run.rows / found["seconds"]
        run.attention = max(run.attentions, key=run.attentions.get)

    def own_seconds(self, run, model, examples):
        """Of the timed passes: a run with them takes so much longer than one with the pass to warm up alone."""
        short, long = (self.trainer.seconds(run.stage, model, examples, STEPS_OF_PASS * passes) for passes in [1, 1 + run.passes])
        return long - short

    def torch_seconds(self, run, model, examples):
        return self.torch.train(run.stage, model, examples, run.attention, STEPS_OF_PASS, STEPS_OF_PASS * run.passes)["seconds"]

    def own_profile(self, run, model, examples):
        command = self.trainer.command(run.stage, model, examples, STEPS_OF_PASS * run.passes)
        return profiles.of_command([self.options.trainer, *command], self.scratch)

    def torch_profile(self, run, model, examples):
        found = self.torch.train(run.stage, model, examples, run.attention, 0, STEPS_OF_PASS, profile_steps=STEPS_OF_PASS)
        return profiles.summed(found["profile"])


def sampled(path, count):
    """Lines of a gzipped file, always the same."""
    with gzip.open(path, "rt") as lines:
        return random.Random(1).sample(lines.read().splitlines(), count)


def write_lines(path, lines):
    path.write_text("\n".join(lines) + "\n")


def say(progress):
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
