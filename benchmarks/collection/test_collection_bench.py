"""Tests of what is computed and written, without models: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/collection."""

import argparse
import pathlib
import unittest

import run
from page import BATCHED, REFERENCE, SINGLE, page


class Bench:
    """What a run leaves."""

    trajectories = {"examples": 9, "blocks": 20, "states": 90, "tokens": 100, "dropped": 0, "droppedBecause": {}, "tokensPerForward": "1.05"}
    reference = {"seconds": 5.0, "tokens": 100, "forwards": 110, "instructionSet": "avx2", "storage": "bf16"}


def found(dropped=0):
    options = argparse.Namespace(
        trainer=pathlib.Path("/bin/echo"), model=pathlib.Path(run.__file__).parents[2] / "examples/text2sql/target", threads=2, rounds=3,
        prompts=10, block_size=16, max_new_tokens=128)
    rounds = [{BATCHED: 400.0, SINGLE: 200.0, REFERENCE: 20.0}, {BATCHED: 300.0, SINGLE: 100.0, REFERENCE: 10.0}, {BATCHED: 90.0, SINGLE: 90.0, REFERENCE: 90.0}]
    bench = Bench()
    bench.trajectories = {**Bench.trajectories, "dropped": dropped}
    return run.described(options, bench, rounds)


class Collection(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        self.assertEqual(found()["tokens_per_second"], {BATCHED: 300.0, SINGLE: 100.0, REFERENCE: 20.0})
        self.assertEqual(found()["over_reference"][BATCHED], {"median": 20.0, "low": 1.0, "high": 30.0})
        self.assertEqual(found()["batched_over_single"], {"median": 2.0, "low": 1.0, "high": 3.0})

    def test_the_page_has_every_way_and_its_conditions(self):
        text = page(found())
        for part in ["`make bench-collection`", "`examples/text2sql/target`", "| 300 | 20.00 × (1.00 to 30.00) |", "| 100 | 10.00 × (1.00 to 10.00) |",
                     "| 20 | 1 |", "one at a time: 2.00 × (1.00 to 3.00)", "same 90 states of 20 blocks", "2 threads, avx2, weights in bf16"]:
            self.assertIn(part, text)
        self.assertNotIn("more answers are dropped", text)
        self.assertIn("3 more answers are dropped", page(found(dropped=3)))


if __name__ == "__main__":
    unittest.main()
