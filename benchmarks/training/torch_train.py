"""Trains in eager PyTorch for some steps and prints what it took and what the losses were, as a line of JSON."""

import argparse
import json
import os
import pathlib
import time

import tokenizers
import torch
import torch.nn.functional as F

import packing
import settings
import shards
from torch_model import Llama, Rows


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    model = Llama(options.checkpoint, options.attention)
    batches = packed(options)
    training = Training(model, options, [Rows(batch, options.attention, model.frequencies) for batch in batches])
    training.run(options.warm_up_steps)
    begun = time.perf_counter()
    training.run(options.steps)
    seconds = time.perf_counter() - begun
    found = {
        "seconds": seconds,
        "rows_of_batches": [len(batch.tokens) for batch in batches],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "losses": {name: [float(terms[name]) for terms in training.losses] for name in settings.TERMS[options.stage]},
        "threads": torch.get_num_threads(),
    }
    if options.profile_steps:
        found["profile"] = profile(training, options.profile_steps)
    print(json.dumps(found))


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True)
    parser.add_argument("--stage", choices=[settings.ADAPT, settings.TRAIN], required=True)
    parser.add_argument("--examples", type=pathlib.Path, required=True, help="JSON lines with prompts and completions, or a folder with one shard")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--warm-up-steps", type=int, default=0, help="that are not timed")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--attention", choices=settings.ATTENTIONS, default="padded")
    parser.add_argument("--threads", type=int, default=settings.THREADS)
    parser.add_argument("--profile-steps", type=int, default=0, help="after the timed ones")
    return parser.parse_args()


def packed(options):
    """All batches of a pass."""
    if options.stage == settings.ADAPT:
        examples, pack = pairs(options), packing.supervised
    else:
        (shard,) = options.examples.glob("shard-*.safetensors")
        examples, pack = shards.read(shard)[0], packing.consistency
    size = options.batch_size
    return [pack(examples[start : start + size]) for start in range(0, len(examples), size)]


def pairs(options):
    tokenizer = tokenizers.Tokenizer.from_file(os.fspath(options.checkpoint / "tokenizer.json"))
    end = json.loads((options.checkpoint / "config.json").read_text())["eos_token_id"]
    for_model = []
    for line in options.examples.read_text().splitlines():
        record = json.loads(line)
        prompt = tokenizer.encode(record["prompt"]).ids
        completion = tokenizer.encode(record["completion"], add_special_tokens=False).ids
        for_model.append(([*prompt, *completion, end], len(prompt)))
    return for_model


class Training:
    def __init__(self, model, options, batches):
        self.model, self.batches, self.loss = model, batches, {settings.ADAPT: adapt_loss, settings.TRAIN: train_loss}[options.stage]
        self.all_steps = options.warm_up_steps + options.steps + options.profile_steps
        # one kernel for all that an update of a tensor does
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.LEARNING_RATE, betas=settings.BETAS, eps=settings.EPSILON, weight_decay=0.0, fused=True)
        self.losses = []

    def run(self, steps):
        for _ in range(steps):
            self.step(len(self.losses))

    def step(self, step):
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate(step, self.all_steps)
        rows = self.batches[step % len(self.batches)]
        self.optimizer.zero_grad(set_to_none=True)
        loss, terms = self.loss(self.model.logits(rows), rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.CLIP, foreach=True)
        self.optimizer.step()
        self.losses.append(terms)


def adapt_loss(logits, rows):
    loss = F.cross_entropy(logits, rows.targets)
    return loss, {"loss": loss.detach()}


def train_loss(logits, rows):
    """Cross-entropy of the rows with a target; forward divergence from them, as constants, to those that learn."""
    clean, learning = logits.split([len(rows.targets), len(rows.teachers)])
    supervised = F.cross_entropy(clean, rows.targets)
    with torch.no_grad():
        teaching = clean.log_softmax(-1).index_select(0, rows.teachers)
        probabilities = teaching.exp()
        entropy = -(probabilities * teaching).sum()
    count = max(1, len(rows.teachers))
    divergence = (-(probabilities * learning.log_softmax(-1)).sum() - entropy) / count
    terms = {"consistencyLoss": divergence.detach(), "autoregressiveLoss": supervised.detach()}
    return divergence + settings.AUTOREGRESSIVE_WEIGHT * supervised, terms


def profile(training, steps):
    """Microseconds of every operation, without those that it calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as measured:
        training.run(steps)
    return {entry.key: entry.self_cpu_time_total for entry in measured.key_averages()}


if __name__ == "__main__":
    main()
