"""Makes the table of one domain: the recipe chosen on the dev split, then for each seed CLLM and control, measured on the test split.

Writes NAME.md, NAME.json and NAME.svg into --output, where NAME is that of the declaration. What was run before is not run again: see
common/stages.py.
"""

import argparse
import gzip
import pathlib

import choice
import page
import result
from common import pipeline, reports
from common.machine import commit
from common.output import publish
from common.stages import Stage, Store, run_driver, say

# more than any test split has
ALL = 1_000_000_000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["declaration", "trainer", "store", "output"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main():
    options = arguments()
    declaration, store = pipeline.declared(options.declaration), Store(options.store, options.trainer, options.threads)
    result.check_goals(declaration)
    recipe, made_choice = choose(declaration, store)
    seeds = [measure(recipe, seed, store) for seed in declaration["seeds"]]
    found = result.result(declaration, recipe, made_choice, seeds, lines_of(pipeline.split(recipe, "test")), commit())
    write(found, options.output, options.declaration.stem)


def choose(declaration, store):
    """The recipe, and what is said of the choice; nothing where there is one candidate."""
    candidates = choice.candidates(declaration)
    if len(candidates) == 1:
        return next(iter(candidates.values())), None
    measured, described = {}, []
    for name, recipe in candidates.items():
        say(f"candidate: {name}")
        done = {stage: store.run(made) for stage, made in choice.stages(declaration, recipe).items()}
        measured[name] = choice.figures(reports.read(done["evaluate"]))
        described.append({"name": name, "figures": measured[name], "seconds": {stage: made.seconds for stage, made in done.items()}})
    chosen = choice.chosen(measured, declaration["choice"]["most-points-lost"])
    say(f"chosen: {chosen}")
    entries = [{**entry, "chosen": entry["name"] == chosen} for entry in described]
    return candidates[chosen], {"rule": choice.rule(declaration), "candidates": entries}


def stages(recipe, seed):
    """All of one seed, by the names that the table of times has."""
    target, cllm, control = pipeline.target(recipe, seed), pipeline.trained(recipe, seed), pipeline.control(recipe, seed)
    prompts = recipe["evaluate"].get("prompts", ALL)
    measured = lambda model: pipeline.evaluated(recipe, seed, model, "test", prompts)
    named = {
        "adapt": target, "collect": pipeline.trajectories(recipe, seed), "train": cllm, "train the control": control,
        "evaluate": measured(cllm), "evaluate the control": measured(control)}
    return {name: stage for name, stage in named.items() if isinstance(stage, Stage)}


def measure(recipe, seed, store):
    say(f"seed {seed}")
    done = {name: store.run(stage) for name, stage in stages(recipe, seed).items()}
    return result.Seed(seed, reports.read(done["evaluate"]), reports.read(done["evaluate the control"]), done)


def lines_of(file):
    opened = gzip.open(file, "rt") if file.suffix == ".gz" else open(file)
    with opened as lines:
        return sum(1 for line in lines if line.strip())


def write(found, output, name):
    publish(output, name, found, page.page(found, name))
    (output / f"{name}.svg").write_text(page.drawn(found))


if __name__ == "__main__":
    run_driver(main)
