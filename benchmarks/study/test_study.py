"""Tests of what is declared, computed and written, without a trainer: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/study."""

import json
import pathlib
import unittest
import xml.etree.ElementTree

import experiments
import page
import result
from common import pipeline
from common.stages import Done

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "common" / "fixtures"
DECLARATIONS = {name: pipeline.declared(HERE / f"{name}.toml") for name in ["study", "smoke"]}
DECLARATION = {
    "title": "A study", "command": "make it", "seeds": [1, 2],
    "data": {"train": "train", "dev": "dev"}, "target": {"model": "m"}, "collect": {"block-size": 16, "max-new-tokens": 8},
    "train": {"steps": 10, "autoregressive-weight": 10}, "evaluate": {"metric": "ExactMatch", "prompts": 4},
    "axes": [
        {"name": "weight", "title": "Weight", "question": "How much?", "label": "w", "settings": [
            {"at": 1, "train": {"autoregressive-weight": 1}}, {"at": 10, "train": {"autoregressive-weight": 10}}]},
        {"name": "steps", "title": "Steps", "question": "How long?", "label": "steps", "settings": [
            {"at": "few", "train": {"steps": 10}}, {"at": "many", "train": {"steps": 90}}]},
    ],
}


class Experiments(unittest.TestCase):
    def test_a_setting_that_is_on_several_axes_is_run_once(self):
        found = [(experiment.seed, experiment.recipe["train"], experiment.places) for experiment in experiments.experiments(DECLARATION)]
        self.assertEqual(found[:3], [
            (1, {"steps": 10, "autoregressive-weight": 1}, [("weight", 1)]),
            (1, {"steps": 10, "autoregressive-weight": 10}, [("weight", 10), ("steps", "few")]),
            (1, {"steps": 90, "autoregressive-weight": 10}, [("steps", "many")]),
        ])
        self.assertEqual([seed for seed, _, _ in found], [1, 1, 1, 2, 2, 2], "a seed after the other")

    def test_axes_can_be_chosen_by_name(self):
        self.assertEqual(len(experiments.experiments(DECLARATION, ["steps"])), 4)
        with self.assertRaisesRegex(SystemExit, "there is no axis speed; there are weight, steps"):
            experiments.experiments(DECLARATION, ["speed"])

    def test_the_declared_axes_change_one_thing_each_and_pass_through_the_base(self):
        for declaration in DECLARATIONS.values():
            for axis in declaration["axes"]:
                changes = [{(section, name) for section in ("collect", "train") for name in setting.get(section, {})} for setting in axis["settings"]]
                self.assertTrue(axis["name"] == "method" or len(set().union(*changes)) == 1, axis["name"])
                self.assertEqual(len({setting["at"] for setting in axis["settings"]}), len(axis["settings"]))
        declaration = DECLARATIONS["study"]
        base = pipeline.merged(declaration, {})
        for axis in declaration["axes"]:
            self.assertIn(base, [pipeline.merged(declaration, setting) for setting in axis["settings"]], axis["name"])

    def test_the_readme_says_how_many_runs_there_are(self):
        count = len(experiments.experiments(DECLARATIONS["study"]))
        self.assertIn(f"{count} runs", (HERE / "README.md").read_text())


def measured(axes=None):
    """Weight 1 and many steps are measured as the CLLM of the fixtures, the rest as their control."""
    cllm, control = (json.loads((FIXTURES / f"{name}.json").read_text()) for name in ["cllm", "control"])
    entries = []
    for number, experiment in enumerate(experiments.experiments(DECLARATION, axes)):
        record = {"seconds": 10.0 + number, "attempts": 1, "trainer": {"version": "0", "digest": "abc"}}
        done = {name: Done(pathlib.Path(f"{name}-{experiment.seed if name == 'collect' else number}"), record) for name in ["collect", "train", "evaluate"]}
        base = experiment.recipe["train"] == DECLARATION["train"]
        entries.append(result.Measured(experiment, control if base else cllm, done))
    return entries


class Result(unittest.TestCase):
    def test_a_setting_has_the_figures_of_its_seeds_together(self):
        found = result.result(DECLARATION, measured())
        weight, steps = found["axes"]
        self.assertEqual([setting["at"] for setting in weight["settings"]], [1, 10])
        figures = weight["settings"][0]["figures"]
        self.assertEqual(figures["tokens_per_forward"]["mean"], 3.091)
        self.assertEqual(figures["points_lost"]["mean"], 25.0)
        for figure in figures.values():
            self.assertTrue(figure["low"] <= figure["mean"] <= figure["high"], figure)
        self.assertEqual(figures["points_lost"]["low"], 0.0, "of four prompts one is wrong, so often none")
        self.assertEqual(weight["settings"][1]["figures"], steps["settings"][0]["figures"], "the base is on both axes")
        self.assertEqual(weight["settings"][0]["seeds"], [1, 2])
        self.assertEqual(weight["settings"][0]["seconds"]["train"], 11.5)
        self.assertEqual(weight["settings"][0]["perplexity_ratio"], 1.02)

    def test_time_is_counted_once_for_stages_that_are_shared(self):
        entries = measured()
        trained_and_measured = 2 * sum(10.0 + number for number in range(6))
        # of each seed the first one's record
        self.assertAlmostEqual(result.result(DECLARATION, entries)["seconds"], trained_and_measured + 12.0 + 15.0, delta=0.1)

    def test_every_experiment_stands_alone_too(self):
        found = result.result(DECLARATION, measured(), commit="abc")
        self.assertEqual(len(found["experiments"]), 6)
        first = found["experiments"][0]
        self.assertEqual((first["seed"], first["places"], first["train"]), (1, [{"axis": "weight", "at": 1}], {"steps": 10, "autoregressive-weight": 1}))
        self.assertEqual((first["figures"]["quality"], first["convergence"]["cllm"]["stationary"]), (50.0, 1.5))
        self.assertEqual((found["conditions"]["commit"], found["conditions"]["trainers"]), ("abc", ["0 (abc)"]))

    def test_a_study_that_is_not_complete_has_what_is_there(self):
        found = result.result(DECLARATION, measured()[:1])
        self.assertEqual([len(axis["settings"]) for axis in found["axes"]], [1, 0])
        self.assertIn("## Weight", page.page(found))


class Page(unittest.TestCase):
    def test_there_is_a_table_and_a_plot_for_every_axis(self):
        found = result.result(DECLARATION, measured())
        text, plots = page.page(found), page.plots(found)
        self.assertIn("| w | tokens per forward | with lookup |", text)
        self.assertIn("| 1 | 3.09 (", text)
        self.assertIn("| many | 3.09 (", text)
        self.assertIn("| 50.0 % | +25.00 (+0.00 to", text)
        self.assertIn("![Steps](steps.svg)", text)
        self.assertEqual(list(plots), ["weight.svg", "steps.svg"])
        for svg in plots.values():
            root = xml.etree.ElementTree.fromstring(svg)
            lines = [element.get("points").split() for element in root.iter() if element.tag.endswith("polyline")]
            self.assertEqual([len(line) for line in lines], [2, 2, 2], "speed, the clock and quality, two settings each")


if __name__ == "__main__":
    unittest.main()
