"""Tests of what is chosen, computed and written, without a trainer: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/tables."""

import contextlib
import copy
import io
import json
import pathlib
import tempfile
import unittest
import xml.etree.ElementTree

import choice
import page
import result
import table
from common import pipeline
from common.stages import Done, Failed

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "common" / "fixtures"
DECLARATIONS = {file.stem: pipeline.declared(file) for file in HERE.glob("*.toml")}
RECIPE = {
    "data": {"train": "README.md", "dev": "Makefile", "test": "LICENSE"}, "target": {"model": "Cargo.toml"}, "collect": {"block-size": 16, "max-new-tokens": 8},
    "train": {"steps": 10}, "evaluate": {"metric": "SqlExecution"},
}
DECLARATION = {
    **RECIPE, "title": "A table", "command": "make it", "seeds": [1, 2], "choice": {"seed": 0, "prompts": 7, "most-points-lost": 0.5, "remark": "Nobody looked."},
    "candidates": [{"name": "short"}, {"name": "long", "train": {"steps": 20}}],
    "goals": {"tokens_per_forward": 3.0, "over_target": 1.6, "points_lost_to_target": 1.0, "points_lost_to_control": 80.0, "measured_over_predicted": 0.1},
}


def fixture(name):
    """On four prompts the target is right on three, the CLLM on two and the control on all."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def done(seconds=60.0, attempts=1):
    return Done(pathlib.Path("stage"), {"seconds": seconds, "attempts": attempts, "trainer": {"version": "0", "digest": "abc"}})


def seed(number, **stages):
    return result.Seed(number, fixture("cllm"), fixture("control"), {"train": done(100.0), "train the control": done(50.0, 2), **stages})


def found(declaration=DECLARATION, made_choice=None, lines=4, seeds=None):
    return result.result(declaration, RECIPE, made_choice, seeds or [seed(1), seed(2, adapt=done())], lines, "a008fce")


class Declarations(unittest.TestCase):
    def test_every_domain_has_what_the_driver_needs_and_goals_it_knows(self):
        self.assertLessEqual({"shop", "wikisql", "gsm8k"}, set(DECLARATIONS))
        figures = found()["figures"]
        for name, declaration in DECLARATIONS.items():
            self.assertEqual(declaration["seeds"], [1, 2, 3], name)
            result.check_goals(declaration)
            self.assertEqual(len(result.goals(figures, declaration["goals"])), len(declaration["goals"]), name)
            recipes = choice.candidates(declaration)
            self.assertEqual(len({json.dumps(recipe) for recipe in recipes.values()}), len(recipes), f"{name}: no two candidates are the same")
            if len(recipes) > 1:
                self.assertNotIn(declaration["choice"]["seed"], declaration["seeds"], f"{name}: a seed that has chosen is not in the table")

    def test_the_data_that_lies_in_the_repository_is_there(self):
        for name in ["smollm2", "gsm8k"]:
            for split in ["train", "dev", "test"]:
                self.assertGreater(table.lines_of(pipeline.split(DECLARATIONS[name], split)), 100)


class Stages(unittest.TestCase):
    def test_cllm_and_control_are_measured_alike_on_the_test_split(self):
        stages = table.stages(RECIPE, 1)
        self.assertEqual(list(stages), ["collect", "train", "train the control", "evaluate", "evaluate the control"], "a target that is there is not made")
        cllm, control = stages["evaluate"], stages["evaluate the control"]
        self.assertEqual(cllm.options, control.options)
        self.assertEqual({**cllm.inputs, "model": None}, {**control.inputs, "model": None})
        self.assertEqual(cllm.inputs["dataset"], pipeline.REPOSITORY / "LICENSE")
        self.assertEqual((cllm.inputs["model"], control.inputs["model"]), (stages["train"], stages["train the control"]))
        self.assertGreater(cllm.options["prompts"], 14938, "the whole split")
        few = table.stages({**RECIPE, "evaluate": {"prompts": 50}}, 1)["evaluate"]
        self.assertEqual(few.options["prompts"], 50)

    def test_candidates_see_the_dev_split_alone(self):
        for recipe in choice.candidates(DECLARATION).values():
            stages = choice.stages(DECLARATION, recipe)
            self.assertEqual((stages["evaluate"].inputs["dataset"], stages["evaluate"].options["prompts"]), (pipeline.REPOSITORY / "Makefile", 7))
            self.assertEqual(stages["train"].options["seed"], 0)


class Choice(unittest.TestCase):
    def test_the_fastest_of_those_that_lose_little_is_chosen_else_the_one_that_loses_least(self):
        of = lambda tokens_per_forward, points_lost: {"tokens_per_forward": tokens_per_forward, "points_lost": points_lost}
        for measured, expected in [
            ({"a": of(2.0, 0.1), "b": of(3.0, 0.5), "c": of(4.0, 0.6)}, "b"),
            ({"a": of(2.0, -1.0), "b": of(1.5, -2.0)}, "a"),
            ({"a": of(4.0, 3.0), "b": of(2.0, 0.7)}, "b"),
        ]:
            self.assertEqual(choice.chosen(measured, 0.5), expected)

    def test_the_choice_is_made_from_reports_and_says_how(self):
        class Store:
            """Its CLLM loses 25 points with 10 steps, and gains as many, but no speed, with 20."""

            def run(self, stage):
                folder = pathlib.Path(scratch.name) / stage.key()
                trained = stage.inputs.get("model")
                name = "cllm" if stage.command == "train" or trained.options["steps"] == 10 else "control"
                (folder / "output" / "abc").mkdir(parents=True, exist_ok=True)
                (folder / "output" / "abc" / "report.json").write_text(json.dumps(fixture(name)))
                return Done(folder, {"seconds": 30.0})

        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        with contextlib.redirect_stderr(io.StringIO()):
            recipe, said = table.choose(DECLARATION, Store())
            self.assertEqual(table.choose({**DECLARATION, "candidates": [{"name": "only"}]}, None), (pipeline.merged(DECLARATION, {}), None))
        self.assertEqual(recipe["train"], {"steps": 20})
        self.assertEqual([(entry["name"], entry["chosen"], entry["figures"]["points_lost"]) for entry in said["candidates"]], [("short", False, 25.0), ("long", True, -25.0)])
        self.assertIn("7 prompts of the dev split. Nobody looked.", said["rule"])
        self.assertIn("| long (chosen) | 1.00 | 75.00 | 100.00 | -25.00 | 30 s |", page.page(found(made_choice=said), "shop"))


class Result(unittest.TestCase):
    def test_figures_compare_target_control_and_cllm_on_the_same_prompts(self):
        figures = found()["figures"]
        means = {name: figure["mean"] for name, figure in figures.items()}
        self.assertEqual([means[name] for name in ["quality_target", "quality_control", "quality"]], [75.0, 100.0, 50.0])
        self.assertEqual([means[name] for name in ["points_lost_to_target", "points_lost_to_control"]], [25.0, 50.0])
        self.assertEqual([means[name] for name in ["tokens_per_forward", "tokens_per_forward_of_control"]], [3.091, 1.0])
        self.assertEqual([means[name] for name in ["agreement", "agreement_of_control"]], [75.0, 75.0])
        self.assertEqual(means["over_target"], 1.648)
        self.assertEqual(means["measured_over_predicted"], 1.0)
        for name, figure in figures.items():
            self.assertTrue(figure["low"] <= figure["mean"] <= figure["high"], name)

    def test_what_was_measured_differently_is_not_compared(self):
        other = seed(1)
        other.control["target"]["digest"] = "sha256:other"
        with self.assertRaisesRegex(Failed, "other prompts or against other targets"):
            found(seeds=[other])
        other = seed(1)
        other.control["prompts"][0]["index"] = 99
        with self.assertRaisesRegex(Failed, "other prompts or against other targets"):
            found(seeds=[other])
        other = seed(2)
        for report in (other.cllm, other.control):
            report["prompts"][0]["index"] = 99
        with self.assertRaisesRegex(Failed, "the seeds were measured on different prompts"):
            found(seeds=[seed(1), other])

    def test_goals_are_about_means_upper_ends_and_distances(self):
        reached = {goal["figure"]: goal["reached"] for goal in found()["goals"]}
        self.assertEqual(reached, {
            "tokens_per_forward": True, "over_target": True, "points_lost_to_target": False, "points_lost_to_control": False, "measured_over_predicted": True})
        self.assertGreater(found()["figures"]["points_lost_to_control"]["high"], 80.0, "the mean of 50 does not decide")
        with self.assertRaisesRegex(Failed, "there is no goal for luck; there are"):
            result.check_goals({**DECLARATION, "goals": {"luck": 1}})

    def test_seeds_that_differ_are_told_apart(self):
        better = seed(2)
        for prompt in better.cllm["prompts"]:
            prompt["cllmCorrect"] = True
        described = found(seeds=[seed(1), better])
        self.assertEqual([single["figures"]["quality"] for single in described["seeds"]], [50.0, 100.0])
        self.assertEqual(described["figures"]["quality"]["mean"], 75.0)


class Page(unittest.TestCase):
    def test_the_page_has_figures_goals_clock_times_and_recipe(self):
        text = page.page(found(), "shop")
        self.assertIn("4 prompts of test.jsonl.gz (the whole test split)", text)
        self.assertIn("| tokens per forward, n = 16, without lookup | 3.09 (", text)
        self.assertIn("| points lost against the control | +50.00 (+0.00 to +100.00) | +50.00 | +50.00 |", text)
        self.assertIn("| points lost against the target | upper end at most 1.0 | **not reached** |", text)
        self.assertIn("| 1 | 4 | 2.06 | 1.25 | 1.65 | 1.65 | 1.00 |", text)
        self.assertIn("| train the control | 50 s in 2 attempts | 50 s in 2 attempts |", text)
        self.assertIn("| adapt |  | 60 s |", text)
        self.assertIn("the fastest is 1.50, 1.50 times the target", text)
        self.assertIn("There was nothing to choose", text)
        self.assertIn("at a008fce", text)

    def test_prompts_that_were_left_out_are_counted(self):
        self.assertIn("4 prompts of test.jsonl.gz (of 9 of the test split)", page.page(found(lines=9), "shop"))

    def test_the_plot_has_the_clock_with_its_prediction(self):
        slower = seed(2)
        slower.cllm = copy.deepcopy(slower.cllm)
        for point in slower.cllm["blockSizes"]:
            point["overTarget"] /= 2
        root = xml.etree.ElementTree.fromstring(page.drawn(found(seeds=[seed(1), slower])))
        lines = [element.get("points").split() for element in root.iter() if element.tag.endswith("polyline")]
        self.assertEqual([len(line) for line in lines], [9, 9, 9])
        self.assertNotEqual(lines[0], lines[1])


if __name__ == "__main__":
    unittest.main()
