"""Greedy tokens of transformers and of `cllm bench --tokens` on the same checkpoint and prompts.

A difference is only forgiven where the two best logits of transformers lie closer than TIE: sums in another order may turn a tie.
"""

import gzip
import json
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TIE = 1e-4
MAX_NEW_TOKENS = 128


def ours(binary, checkpoint, prompts, count):
    """One JSON object {"prompt", "tokens"} a line, ids and all."""
    command = [binary, "bench", "--model", checkpoint, "--prompts", prompts, "--limit", str(count)]
    with tempfile.NamedTemporaryFile("r") as file:
        command += ["--max-new-tokens", str(MAX_NEW_TOKENS), "--tokens", file.name]
        subprocess.run(command, check=True)
        with open(file.name) as lines:
            return [json.loads(line) for line in lines]


def main():
    binary, checkpoint, prompts, count = sys.argv[1:5]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with gzip.open(prompts, "rt") as lines:
        texts = [json.loads(line)["prompt"] for _, line in zip(range(int(count)), lines)]
    answers = ours(binary, checkpoint, prompts, count)
    assert len(answers) == len(texts), f"{len(answers)} answers to {len(texts)} prompts"
    ties = 0
    for text, answer in zip(texts, answers):
        ids = tokenizer(text, return_tensors="pt").input_ids
        assert ids[0].tolist() == answer["prompt"], f"the tokenizers differ on {text!r}"
        with torch.no_grad():
            result = model.generate(ids, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True)
        theirs = result.sequences[0, ids.shape[1] :].tolist()
        if theirs == answer["tokens"]:
            continue
        place = next(i for i, (a, b) in enumerate(zip(theirs, answer["tokens"])) if a != b)
        best = torch.topk(result.logits[place][0], 2).values
        gap = (best[0] - best[1]).item()
        assert gap < TIE, f"{text!r}: token {place} is {answer['tokens'][place]}, transformers says {theirs[place]}, gap {gap}"
        ties += 1
    print(f"{len(texts)} prompts: the same greedy tokens, {ties} of them up to a tie below {TIE}")


if __name__ == "__main__":
    main()
