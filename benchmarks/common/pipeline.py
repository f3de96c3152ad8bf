"""From a recipe to stages: what `cllm up` runs for a CllmTraining. Pure.

A recipe is a declaration (TOML) with these sections; options have the trainer's own names, paths are those of the repository, and may hold
variables of the environment:

    [data]      train, dev, test; adapt: what a target is taught on, where that is not train; in `options` what every stage that reads
                records is told, such as prompt-field
    [target]    model: a checkpoint; or config and vocab-size, if need be words: a new one. adapt: how it is taught, if it is.
                seed: of both, where all seeds of a table share a target
    [collect], [train]
    [evaluate]  with database where the metric has one
"""

import os
import pathlib
import tomllib

from common.stages import Stage

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# of the choice of prompts, where not all are measured: the same for everything that is compared
EVALUATION_SEED = 1
SECTIONS = ["data", "target", "collect", "train", "evaluate"]


def declared(file):
    return tomllib.loads(pathlib.Path(file).read_text())


def place(text):
    return REPOSITORY / os.path.expandvars(text)


def merged(recipe, changes):
    """The recipe with some options of some sections set anew."""
    return {section: {**recipe.get(section, {}), **changes.get(section, {})} for section in SECTIONS}


def target(recipe, seed):
    section = recipe["target"]
    seed = section.get("seed", seed)
    taught_on = split(recipe, "adapt" if "adapt" in recipe["data"] else "train")
    if "model" in section:
        model = place(section["model"])
    else:
        made_of = {"config": place(section["config"]), "data": taught_on}
        told = {name: section[name] for name in ["vocab-size", "words"] if name in section}
        model = Stage("init", {**told, "seed": seed, **records(recipe)}, made_of)
    if "adapt" in section:
        reads = {"model": model, "dataset": taught_on, "validation": split(recipe, "dev")}
        model = Stage("adapt", {**section["adapt"], "seed": seed, **records(recipe)}, reads)
    return model


def trajectories(recipe, seed):
    reads = {"model": target(recipe, seed), "dataset": split(recipe, "train")}
    return Stage("collect", {**recipe["collect"], "seed": seed, **records(recipe)}, reads)


def trained(recipe, seed):
    reads = {"model": target(recipe, seed), "trajectories": trajectories(recipe, seed), "validation": split(recipe, "dev")}
    return Stage("train", {**recipe["train"], "seed": seed, **records(recipe)}, reads)


def control(recipe, seed):
    """The same target, steps and answers, by the cross-entropy alone."""
    return trained(merged(recipe, {"train": {"consistency": "None"}}), seed)


def evaluated(recipe, seed, model, of_split, prompts):
    section = recipe["evaluate"]
    reads = {"target": target(recipe, seed), "model": model, "dataset": split(recipe, of_split)}
    if "database" in section:
        reads["database"] = place(section["database"])
    told = {name: value for name, value in section.items() if name not in {"database", "prompts"}}
    sizes = {name: recipe["collect"][name] for name in ["block-size", "max-new-tokens"]}
    return Stage("evaluate", {**told, **sizes, "prompts": prompts, "seed": EVALUATION_SEED, **records(recipe)}, reads)


def split(recipe, name):
    return place(recipe["data"][name])


def records(recipe):
    return recipe["data"].get("options", {})
