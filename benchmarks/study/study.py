"""Runs a declared study (study.toml) and writes its page, plots and study.json into --output. What was run before is not run again: see
common/stages.py.
"""

import argparse
import pathlib

import experiments
import page
import result
from common import pipeline, reports
from common.machine import commit
from common.output import publish
from common.stages import Store, run_driver, say


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ["declaration", "trainer", "store", "output"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--axes", type=lambda text: text.split(","), help="names of some of the axes; all where it is not given")
    return parser.parse_args()


def main():
    options = arguments()
    declaration, store = pipeline.declared(options.declaration), Store(options.store, options.trainer, options.threads)
    measured = []
    all_of_them = experiments.experiments(declaration, options.axes)
    for number, experiment in enumerate(all_of_them, 1):
        say(f"{number} of {len(all_of_them)}: seed {experiment.seed}, {', '.join(f'{axis} {at}' for axis, at in experiment.places)}")
        measured.append(measure(experiment, store))
        # with each seed every setting has been seen once more: what is there can be read while the rest is run
        if number == len(all_of_them) or all_of_them[number].seed != experiment.seed:
            write(result.result(declaration, measured, options.axes, commit()), options.output)


def measure(experiment, store):
    done = {name: store.run(stage) for name, stage in experiment.stages().items()}
    return result.Measured(experiment, reports.read(done["evaluate"]), done)


def write(found, output):
    publish(output, "study", found, page.page(found))
    for name, svg in page.plots(found).items():
        (output / name).write_text(svg)


if __name__ == "__main__":
    run_driver(main)
