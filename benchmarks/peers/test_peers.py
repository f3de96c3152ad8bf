"""Tests of what is computed and written, without models: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/peers."""

import json
import re
import unittest
import xml.etree.ElementTree

import batches
import figures
import llama
import own
import page
import result
from party import Answer


def answers(seconds, tokens=(1, 2, 3), forwards=None):
    return [Answer(list(tokens), len(tokens) - 1, second, forwards) for second in seconds]


def measured(is_cllm):
    """Ours takes 1 s a prompt, Jacobi 0.5 s, llama.cpp 2 s and its speculation 1.25 s; in the second round all take twice as long."""
    round_ = lambda factor: {
        own.AUTOREGRESSIVE: answers([1.0 * factor] * 4, forwards=2),
        own.ADAPTIVE: answers([0.5 * factor, 0.5 * factor, 1.0 * factor, 1.0 * factor], forwards=1),
        own.jacobi(8): answers([0.5 * factor] * 4, forwards=1),
        llama.PLAIN: answers([2.0 * factor] * 4, tokens=(1, 2, 4)),
        "llama.cpp, ngram-mod": answers([1.25 * factor] * 4),
    }
    curve = {1: 1.0, 2: 1.1, 4: 1.2, 8: 1.6, 16: 3.0}
    conditions = {"hardware": "a processor", "threads": 2, "instructionSet": "avx2", "cllmVersion": "0", "maxNewTokens": 3, "sampling": "greedy"}
    return result.Measured("a model", is_cllm, "f32", ["chat", "chat", "code", "code"], conditions, [round_(1), round_(2)],
                           {"mistral.rs": "it has no such type | at all."}, [curve], [{rows: 2 * seconds for rows, seconds in curve.items()}])


class Figures(unittest.TestCase):
    def test_ratios_are_taken_within_a_round(self):
        self.assertEqual(figures.ratio(measured(True).rounds, own.AUTOREGRESSIVE, llama.PLAIN), 2.0)

    def test_what_was_too_slow_counts_with_its_only_round(self):
        rounds = [{name: answers([seconds]) for name, seconds in [("fast", 1.0), ("half", 2.0), ("slow", 2.1)]}, {"fast": answers([4.0])}]
        self.assertEqual(figures.slow(rounds[0], "fast"), {"slow"})
        self.assertAlmostEqual(figures.ratio(rounds, "slow", "fast"), 1 / 2.1)
        self.assertAlmostEqual(figures.median_rate(rounds, "slow"), 2 / 2.1)

    def test_tokens_are_the_same_up_to_the_first_difference(self):
        theirs = [Answer([1, 2, 4], 2, 1.0), Answer([9, 2, 3], 2, 1.0)]
        self.assertEqual(figures.same_before_first_difference(answers([1.0, 1.0]), theirs), 2 / 6)
        self.assertIsNone(figures.same_before_first_difference(answers([1.0]), [Answer(None, 2, 1.0)]))

    def test_an_interval_holds_the_median_and_widens_with_the_spread(self):
        narrow = figures.interval([[1.0, 1.01], [0.99, 1.0], [1.0, 1.02], [0.98, 1.0]])
        wide = figures.interval([[1.0, 2.0], [0.5, 1.0], [1.0, 3.0], [0.2, 1.0]])
        for found in (narrow, wide):
            self.assertTrue(found["low"] <= found["median"] <= found["high"])
        self.assertGreater(wide["high"] - wide["low"], narrow["high"] - narrow["low"])
        self.assertEqual(figures.interval([[1.5]]), {"median": 1.5, "low": 1.5, "high": 1.5})

    def test_pairs_are_told_by_set(self):
        found = figures.paired(measured(False).rounds, own.ADAPTIVE, own.AUTOREGRESSIVE, ["chat", "chat", "code", "code"])
        self.assertEqual({name: entry["median"] for name, entry in found.items()}, {"chat": 2.0, "code": 1.0})


class Batches(unittest.TestCase):
    def test_a_group_counts_once(self):
        answer = lambda own, adaptive: {"arms": [
            {"strategy": "Autoregressive", "decodeSeconds": own}, {"strategy": "Jacobi", "decodeSeconds": 9.0},
            {"strategy": "AdaptiveJacobiWithLookup", "decodeSeconds": adaptive}]}
        self.assertEqual(batches.group_ratios([answer(2.0, 1.0)] * 8 + [answer(1.0, 1.0)] * 8, 2, "AdaptiveJacobiWithLookup"), [2.0, 1.0])

    def test_the_page_has_a_row_for_each_set(self):
        sizes = {size: {"median": 1.0, "low": 0.98, "high": 1.1} for size in batches.SIZES}
        conditions = {"hardware": "a processor", "threads": 2, "instructionSet": "avx2", "maxNewTokens": 3}
        found = {"command": "make it", "model": "a model", "conditions": conditions, "groups": 6,
                 **{way: {"chat": sizes, "code": sizes} for way in batches.ADAPTIVE}}
        rows = [line for line in batches.page(found).splitlines() if line.startswith(("| chat", "| code"))]
        self.assertEqual(rows[0], "| chat |" + " 1.00 (0.98 to 1.10) |" * len(batches.SIZES))
        self.assertEqual(len(rows), 4)

    def test_a_set_that_is_measured_again_replaces_what_was_said_of_it_and_nothing_else(self):
        interval = lambda median: {size: {"median": median, "low": median, "high": median} for size in batches.SIZES}
        found = lambda sets, groups=6: {"model": "a model", "groups": groups, **{way: sets for way in batches.ADAPTIVE}}
        before = json.loads(json.dumps(found({"chat": interval(1.0), "code": interval(2.0)})))
        self.assertEqual(batches.renewed(before, found({"code": interval(3.0)})), found({"chat": interval(1.0), "code": interval(3.0)}))
        with self.assertRaisesRegex(SystemExit, "not as before: groups; measure all sets again"):
            batches.renewed(before, found({"code": interval(3.0)}, groups=7))

    def test_groups_are_made_of_all_prompts_equally_often_and_differ(self):
        lines = [str(number) for number in range(16)]
        found = batches.in_groups(lines, 48)
        self.assertEqual(found, batches.in_groups(lines, 48))
        self.assertEqual([sorted(found[at:at + 16], key=int) for at in (0, 16, 32)], [lines] * 3)
        self.assertNotEqual(found[:4], found[16:20])


class Result(unittest.TestCase):
    def test_a_cllm_is_told_against_the_best_of_all_peers(self):
        found = result.result([measured(False), measured(True)], {})
        ratios = found["ratios"]
        self.assertEqual(ratios["autoregressive_over_llama_cpp"], {"f32": 2.0})
        self.assertEqual(ratios["t8_over_t1_f32"], 1.6)
        self.assertEqual(ratios["jacobi_over_best_peer"], {"f32": {"ratio": 2.5, "peer": "llama.cpp, ngram-mod"}})
        self.assertEqual(ratios["jacobi_over_own_autoregressive"]["f32"],
                         {"ratio": 2.0, "rows": 8, "tokens_per_forward": 2.0, "forward_cost": 1.6, "predicted": 1.25})

    def test_without_a_cllm_there_are_no_ratios_of_one_and_the_page_says_so(self):
        found = result.result([measured(False)], {})
        self.assertNotIn("jacobi_over_best_peer", found["ratios"])
        self.assertIn("A CLLM was not measured", page.page(found))

    def test_the_page_names_what_cannot_be_measured(self):
        text = page.page(result.result([measured(False)], {"f32": {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0, 16: 16.0}}))
        self.assertIn("| mistral.rs | cannot: it has no such type / at all. |", text)
        self.assertIn("| candle | 1.00 | 2.00 | 4.00 | 8.00 | 16.00 |", text)

    def test_the_plot_has_a_line_for_each_curve(self):
        root = xml.etree.ElementTree.fromstring(page.plot(result.result([measured(False)], {})))
        lines = [element for element in root.iter() if element.tag.endswith("polyline")]
        self.assertEqual([len(line.get("points").split()) for line in lines], [5, 5])
        heights = [float(re.split("[ ,]", line.get("points"))[-1]) for line in lines]
        self.assertEqual(heights[0], heights[1], "the same ratios are at the same height")


if __name__ == "__main__":
    unittest.main()
