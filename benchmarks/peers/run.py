"""Our decoding against others' on the same GGUF files: the same token ids in, greedy, in turns, in one run.

Writes peers.json, peers.md and forward-cost.svg into --output. `run.sh` prepares everything and calls this.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile

import figures
import llama
import models
import own
import page
import result
from party import Prompt, Unavailable
from workers import Worker
from common.output import publish


def arguments():
    parser = argparse.ArgumentParser()
    path = pathlib.Path
    for name in ["cllm", "llama", "smollm2", "output"]:
        parser.add_argument(f"--{name}", type=path, required=True)
    parser.add_argument("--checkpoint", type=path, help="a folder with a CLLM of our own")
    parser.add_argument("--questions", type=path, help="its prompts, JSON lines")
    parser.add_argument("--transformers-python", help="empty where there is none")
    parser.add_argument("--mistralrs-python", help="empty where there is none")
    parser.add_argument("--candle", type=path, help="what the bench `candle` of the engine printed")
    parser.add_argument("--versions", type=str.split, default=[], help="of the peers' packages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="prompts of each set for the model that is no CLLM")
    parser.add_argument("--storages", type=lambda text: text.split(","), default=models.STORAGES)
    return parser.parse_args()


def main():
    options = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        measured = [
            measure(model, storage, options, scratch)
            for model in chosen(options, scratch)
            for storage in model.files
        ]
    found = result.result(measured, candle_seconds(options.candle), options.versions)
    publish(options.output, "peers", found, page.page(found))
    (options.output / "forward-cost.svg").write_text(page.plot(found))


def chosen(options, scratch):
    yield models.smollm2(options.smollm2, options.storages, options.limit, scratch)
    if options.checkpoint:
        yield models.checkpoint(options.checkpoint, options.cllm, options.questions, options.storages, scratch)


def parties(options, storage):
    yield llama.Server(options.llama)
    yield from (llama.Server.speculating(options.llama, label) for label in llama.SPECULATIONS)
    yield llama.Lookahead(options.llama)
    yield Worker("mistral.rs", options.mistralrs_python, "mistralrs_worker.py")
    if storage == "f32":
        # it computes in f32 whatever a file has
        yield Worker("transformers", options.transformers_python, "transformers_worker.py")


def measure(model, storage, options, scratch):
    """All parties on one file: they load, warm up, and then answer in rounds."""
    say(f"{model.name} in {storage}: loading")
    file = model.files[storage]
    ours = own.Own(options.cllm, file, model.prompts, scratch, model.sizes)
    found = result.Measured(model.name, model.is_cllm, storage, model.sets)
    ids, _ = ours.answers()
    found.conditions = ours.conditions()
    with contextlib.ExitStack() as stack:
        plain, *others = parties(options, storage)
        stack.callback(plain.stop)
        # without llama.cpp there is nothing to compare
        plain.start(file, scratch)
        prompts = [Prompt(set, ids, plain.text_of(ids)) for set, ids in zip(model.sets, ids)]
        ready = [plain, *(party for party in others if started(party, file, scratch, prompts, stack, found))]
        plain.warm_up(prompts[0])
        for turn in range(options.rounds):
            say(f"{model.name} in {storage}: round {turn + 1} of {options.rounds}")
            found.rounds.append(one_round(turn, ours, ready, prompts, found))
            if turn == 0:
                slow = figures.slow(found.rounds[0], llama.PLAIN)
                ready = [party for party in ready if party.name not in slow]
            found.own_forward_seconds.append(ours.forward_seconds())
            found.llama_forward_seconds.append(llama.forward_seconds(options.llama, file))
    return found


def started(party, file, scratch, prompts, stack, found):
    """Whether it loads the file and answers a prompt."""
    stack.callback(party.stop)
    try:
        party.start(file, scratch)
        party.warm_up(prompts[0])
        return True
    except Unavailable as reason:
        found.unavailable[party.name] = str(reason)
        return False


def one_round(turn, ours, ready, prompts, found):
    """Who begins changes from round to round. A party that fails in a round is out, with its reason."""
    answers = {}
    everyone = [None, *ready]
    for party in [*everyone[turn % len(everyone):], *everyone[: turn % len(everyone)]]:
        if party is None:
            answers |= ours.answers()[1]
        elif party.name not in found.unavailable:
            try:
                if turn > 0:
                    party.begin_round(prompts[0])
                answers[party.name] = party.answer(prompts)
            except Unavailable as reason:
                found.unavailable[party.name] = str(reason)
    return answers


def candle_seconds(path):
    """{storage: {rows: seconds}}; empty without a file."""
    seconds = {}
    for line in path.read_text().splitlines() if path else []:
        entry = json.loads(line)
        seconds.setdefault(entry["storage"], {})[entry["rows"]] = entry["seconds"]
    return seconds


def say(progress):
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
