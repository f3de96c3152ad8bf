"""Tests of what is run again and what is not, with a trainer that only writes down that it was called."""

import contextlib
import io
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

from common import pipeline
from common.stages import Failed, Stage, Store, digest

FAKE = """\
#!{python}
import json, os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
if sys.argv[1] == "--version":
    print("cllm-trainer 0.0.0")
    sys.exit()
command, options = sys.argv[1], dict(word[2:].split("=", 1) for word in sys.argv[2:])
with open(here / "calls", "a") as calls:
    calls.write(json.dumps([command, options]) + "\\n")
if "wait" in options:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    time.sleep(float(options["wait"]))
broken = here / "broken"
if broken.exists():
    pathlib.Path(options["termination-message"]).write_text(json.dumps({{"error": broken.read_text()}}))
    sys.exit(2)
output = pathlib.Path(options["output"])
if command == "init" and output.exists():
    sys.exit("it exists already")
output.mkdir(exist_ok=True)
(output / "result").write_text(command)
if command == "evaluate":
    (output / "abc").mkdir()
    (output / "abc" / "report.json").write_text("{{}}")
    (output / "abc" / "model.safetensors").write_text("weights")
"""


class Stages(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        self.trainer = self.folder / "trainer"
        self.trainer.write_text(FAKE.format(python=sys.executable))
        self.trainer.chmod(self.trainer.stat().st_mode | stat.S_IXUSR)
        (self.folder / "data").write_text("questions")
        quiet = contextlib.redirect_stderr(io.StringIO())
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def store(self):
        return Store(self.folder / "store", self.trainer)

    def calls(self):
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def chain(self, **options):
        """Adaptation of a new model, then training with these options."""
        data = self.folder / "data"
        model = Stage("adapt", {"steps": 3}, {"model": Stage("init", {"seed": 1}, {"data": data}), "dataset": data})
        return Stage("train", {"steps": 5, **options}, {"model": model})

    def test_what_a_stage_reads_is_made_before_it_and_everything_once(self):
        done = self.store().run(self.chain())
        self.assertEqual((done.output / "result").read_text(), "train")
        self.assertEqual([command for command, _ in self.calls()], ["init", "adapt", "train"])
        self.assertEqual(self.store().run(self.chain()).record, done.record, "by another driver too")
        self.assertEqual(len(self.calls()), 3)
        self.store().run(self.chain(seed=2))
        self.assertEqual([command for command, _ in self.calls()[3:]], ["train"], "the target is shared")

    def test_a_stage_is_told_what_it_reads_and_where_it_keeps_its_state(self):
        self.store().run(self.chain())
        _, adapt, train = [options for _, options in self.calls()]
        self.assertEqual(train["model"], adapt["output"])
        self.assertEqual((train["steps"], train["threads"]), ("5", "2"))
        for options in (adapt, train):
            self.assertEqual(pathlib.Path(options["state"]).parent, pathlib.Path(options["output"]).parent)

    def test_keys_follow_from_options_inputs_and_the_content_of_files(self):
        other = self.folder / "other"
        other.write_text("other questions")
        copy = self.folder / "copy"
        copy.write_text("questions")
        key = lambda data, **options: Stage("collect", options, {"dataset": data}).key()
        data = self.folder / "data"
        self.assertEqual(key(data, a=1, b=2), key(copy, b=2, a=1), "neither names of files nor an order matter")
        different = {key(data, a=1), key(data, a=2), key(other, a=1), Stage("train", {"a": 1}, {"dataset": data}).key()}
        self.assertEqual(len(different), 4)
        self.assertNotEqual(self.chain().key(), self.chain(seed=1).key())

    def test_folders_are_known_by_names_and_contents(self):
        found = set()
        for name, text in [("a", "1"), ("b", "1"), ("a", "2")]:
            folder = self.folder / f"model-{name}-{text}"
            folder.mkdir()
            (folder / name).write_text(text)
            found.add(digest(folder))
        self.assertEqual(len(found), 3)
        with self.assertRaisesRegex(Failed, "missing"):
            digest(self.folder / "nowhere")

    def test_a_failure_is_said_in_the_words_of_the_trainer_and_tried_again_by_the_next_start(self):
        (self.folder / "broken").write_text("the disk is full")
        with self.assertRaisesRegex(Failed, "init ended with code 2: the disk is full"):
            self.store().run(self.chain())
        (self.folder / "broken").unlink()
        done = self.store().run(self.chain())
        self.assertEqual(done.record["attempts"], 1)
        commands = [command for command, _ in self.calls()]
        self.assertEqual(commands, ["init", "init", "adapt", "train"])
        self.assertIsNone(done.record["said"])

    def test_a_new_model_that_nobody_noted_is_made_again(self):
        """`init` refuses a folder that is there; the driver may have been killed between its end and the note."""
        stage = self.chain().inputs["model"].inputs["model"]
        done = self.store().run(stage)
        (done.folder / "done.json").unlink()
        self.assertEqual(self.store().run(stage).record["attempts"], 2)

    def test_the_copy_of_the_weights_beside_a_report_is_not_kept(self):
        done = self.store().run(Stage("evaluate", {}, {"dataset": self.folder / "data"}))
        self.assertEqual([path.name for path in done.output.glob("abc/*")], ["report.json"])

    def test_an_interrupted_driver_interrupts_the_trainer_and_the_time_of_all_attempts_counts(self):
        script = textwrap.dedent(f"""\
            from common.stages import Stage, Store, run_driver
            store = Store({str(self.folder / "store")!r}, {str(self.trainer)!r})
            run_driver(lambda: store.run(Stage("train", {{"wait": 30}}, {{"dataset": {str(self.folder / "data")!r}}})))
        """)
        environment = {**os.environ, "PYTHONPATH": str(pipeline.REPOSITORY / "benchmarks")}
        driver = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True)
        while not self.calls():
            time.sleep(0.01)
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=20)
        self.assertIn("interrupted; the same command goes on from here", said)
        self.assertEqual(driver.returncode, 1)
        (attempts,) = (self.folder / "store").glob("train-*/attempts.json")
        (first,) = json.loads(attempts.read_text())
        self.assertGreater(first, 0.0)
        self.assertFalse((attempts.parent / "done.json").exists())
        attempts.write_text(json.dumps([100.0]))
        self.trainer.write_text(self.trainer.read_text().replace("time.sleep(float", "(float"))
        done = self.store().run(Stage("train", {"wait": 30}, {"dataset": self.folder / "data"}))
        self.assertEqual(done.record["attempts"], 2)
        self.assertGreater(done.seconds, 100.0)


class Pipeline(unittest.TestCase):
    RECIPE = {
        "data": {"train": "README.md", "dev": "Makefile", "test": "LICENSE", "options": {"prompt-field": "question"}},
        "target": {"config": "Cargo.toml", "vocab-size": 300, "adapt": {"steps": 7}},
        "collect": {"block-size": 8, "max-new-tokens": 32}, "train": {"steps": 9, "consistency": "Local"}, "evaluate": {"metric": "SqlExecution", "database": "Cargo.lock"},
    }

    def changed(self, section, **changes):
        return pipeline.merged(self.RECIPE, {section: changes})

    def test_a_target_is_made_for_each_seed_unless_all_share_one(self):
        keys = lambda recipe: [pipeline.target(recipe, seed).key() for seed in (1, 2)]
        own, shared = keys(self.RECIPE), keys(self.changed("target", seed=5))
        self.assertEqual((len(set(own)), len(set(shared))), (2, 1))
        published = pipeline.target(self.changed("target", model="README.md"), 1)
        self.assertEqual((published.command, published.inputs["model"]), ("adapt", pipeline.REPOSITORY / "README.md"))
        self.assertEqual(pipeline.target({**self.RECIPE, "target": {"model": "README.md"}}, 1), pipeline.REPOSITORY / "README.md")

    def test_a_target_may_be_taught_on_data_of_its_own(self):
        recipe = pipeline.merged(self.RECIPE, {"data": {"adapt": "Makefile"}, "target": {"words": "Alone"}})
        target, collected = pipeline.target(recipe, 1), pipeline.trajectories(recipe, 1)
        new = target.inputs["model"]
        self.assertEqual((target.inputs["dataset"], new.inputs["data"]), (pipeline.REPOSITORY / "Makefile",) * 2)
        self.assertEqual((new.options["words"], "words" in self.RECIPE["target"]), ("Alone", False))
        self.assertEqual(collected.inputs["dataset"], pipeline.REPOSITORY / "README.md")

    def test_every_stage_that_reads_records_knows_their_fields(self):
        evaluated = pipeline.evaluated(self.RECIPE, 1, pipeline.trained(self.RECIPE, 1), "test", 100)
        trained = evaluated.inputs["model"]
        collected, target = trained.inputs["trajectories"], trained.inputs["model"]
        for stage in [evaluated, trained, collected, target, target.inputs["model"]]:
            self.assertEqual(stage.options["prompt-field"], "question", stage.command)
        self.assertEqual([stage.options["seed"] for stage in [trained, collected, target]], [1, 1, 1])
        self.assertEqual({name: evaluated.options[name] for name in ["block-size", "max-new-tokens", "metric", "prompts"]},
                         {"block-size": 8, "max-new-tokens": 32, "metric": "SqlExecution", "prompts": 100})
        self.assertNotIn("database", evaluated.options)
        self.assertEqual(evaluated.inputs["dataset"], pipeline.REPOSITORY / "LICENSE")

    def test_a_control_differs_in_its_loss_alone(self):
        cllm, control = pipeline.trained(self.RECIPE, 1), pipeline.control(self.RECIPE, 1)
        self.assertEqual(control.options, {**cllm.options, "consistency": "None"})
        self.assertEqual([source.key() for source in (control.inputs["model"], control.inputs["trajectories"])],
                         [source.key() for source in (cllm.inputs["model"], cllm.inputs["trajectories"])])

    def test_the_prompts_that_are_compared_are_the_same_for_all_seeds(self):
        seeds = [pipeline.evaluated(self.RECIPE, seed, pipeline.trained(self.RECIPE, seed), "test", 10).options["seed"] for seed in (1, 2, 3)]
        self.assertEqual(len(set(seeds)), 1)


if __name__ == "__main__":
    unittest.main()
