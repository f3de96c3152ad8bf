"""The models of the comparison: GGUF files of each in several storages, which all parties open, and the prompts."""

import gzip
import json
import pathlib
import subprocess
from typing import NamedTuple

HERE = pathlib.Path(__file__).parent
# f32 first: the others are made from it where a model is a checkpoint
STORAGES = ["f32", "q8_0", "q4_1"]
# of a CLLM: they are answered within seconds
QUESTIONS = 24


class Model(NamedTuple):
    name: str
    is_cllm: bool
    # by storage
    files: dict
    # JSON lines, and the set that each is of
    prompts: pathlib.Path
    sets: list
    # of our Jacobi forwards
    sizes: list


def smollm2(file, storages, limit, scratch):
    """Published in Q4_1; the other files have its values."""
    files = {storage: file if storage == "q4_1" else requantized(file, storage) for storage in storages}
    prompts, sets = selected(HERE / "prompts.jsonl", limit, scratch / "general.jsonl")
    return Model("SmolLM2-135M-Instruct", False, files, prompts, sets, [16])


def checkpoint(folder, cllm, questions, storages, scratch):
    """A CLLM of ours, with the questions that it was trained for."""
    base = export(cllm, folder, "f32", scratch)
    make = {"f32": lambda: base, "q8_0": lambda: export(cllm, folder, "q8_0", scratch), "q4_1": lambda: requantized(base, "q4_1")}
    files = {storage: make[storage]() for storage in storages}
    prompts, sets = selected(questions, QUESTIONS, scratch / "questions.jsonl")
    return Model(folder.name, True, files, prompts, sets, [2, 4, 8, 16])


def export(cllm, folder, storage, scratch):
    file = scratch / f"{folder.name}.{storage.upper()}.gguf"
    subprocess.run([cllm, "export-gguf", "--model", folder, "--output", file, "--dtype", storage], check=True, stdout=subprocess.DEVNULL)
    return file


def requantized(file, storage):
    script = subprocess.run(["bash", HERE / "requantize.sh", file, storage], check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(script.stdout.strip())


def selected(source, limit, target):
    """Writes at most `limit` prompts of each set; a line without a set is of the set that the file is named after."""
    opened = gzip.open(source, "rt") if source.suffix == ".gz" else open(source)
    kept, sets = [], []
    with opened as lines:
        for line in filter(str.strip, lines):
            name = json.loads(line).get("set", source.name.split(".")[0])
            if not limit or sets.count(name) < limit:
                kept.append(line.strip() + "\n")
                sets.append(name)
    target.write_text("".join(kept))
    return target, sets
