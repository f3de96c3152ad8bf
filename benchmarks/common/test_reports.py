"""Tests of what is read from reports, on two small ones: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/common."""

import json
import pathlib
import unittest

from common import bootstrap, reports

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def fixture(name):
    """`cllm`: target and CLLM on four prompts, the fastest with 4 rows. `control`: the same target and its control."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def figure(report, made):
    return bootstrap.pooled([reports.table(report, reports.ways(report))], {"it": made})["it"]


class Reports(unittest.TestCase):
    def test_figures_from_prompts_are_those_of_the_report(self):
        for report in map(fixture, ["cllm", "control"]):
            for way, at in reports.ways(report).items():
                arm = report["arms"][at]
                self.assertAlmostEqual(figure(report, reports.tokens_per_forward(way)), arm["tokensPerForward"], msg=way)
                self.assertAlmostEqual(figure(report, reports.speed(way)), arm["decodeTokensPerSecond"], places=3, msg=way)
            said = lambda kind, name: float(report[kind][name])
            for made, expected in [
                (reports.speed_over(reports.CLLM_FASTEST, reports.TARGET), said("speedup", "overTarget")),
                (reports.speed_over(reports.CLLM_FASTEST, reports.TARGET_LOOKUP_FASTEST), said("speedup", "overTargetWithLookup")),
                (reports.tokens_per_forward(reports.CLLM), said("speedup", "tokensPerForward")),
                (reports.per_cent("target, right"), said("quality", "target")),
                (reports.per_cent("cllm, right"), said("quality", "cllm")),
                (reports.points_lost("target, right", "cllm, right"), said("quality", "drop")),
            ]:
                self.assertAlmostEqual(figure(report, made), expected, delta=0.005)

    def test_ways_have_the_block_size_of_the_conditions_or_the_fastest(self):
        report = fixture("cllm")
        sizes = {way: report["arms"][at]["blockSize"] for way, at in reports.ways(report).items()}
        self.assertEqual(sizes, {
            reports.TARGET: 1, reports.TARGET_LOOKUP: 16, reports.TARGET_LOOKUP_FASTEST: 4, reports.CLLM_AUTOREGRESSIVE: 1, reports.CLLM: 16,
            reports.CLLM_LOOKUP: 16, reports.CLLM_FASTEST: 4})

    def test_prompts_come_in_the_order_of_the_data_set(self):
        self.assertEqual(reports.indexes(fixture("cllm")), [0, 2, 7, 11])
        self.assertEqual(reports.table(fixture("cllm"), [])["cllm, right"], [0, 1, 1, 0])
        self.assertEqual(reports.table(fixture("cllm"), [reports.CLLM])["cllm: forwards"], [8, 5, 6, 3])

    def test_the_clock_is_predicted_from_forwards_and_their_cost(self):
        at_size, fastest = reports.predictions(fixture("cllm"))
        self.assertEqual((at_size["block_size"], fastest["block_size"]), (16, 4))
        self.assertAlmostEqual(at_size["predicted"], at_size["tokens_per_forward"] / 4.0)
        self.assertAlmostEqual(fastest["predicted"], fastest["tokens_per_forward"] / 1.25)
        for entry in (at_size, fastest):
            self.assertAlmostEqual(entry["measured_over_predicted"], 1.0, places=6, msg="these reports were computed so")

    def test_where_the_block_size_is_the_fastest_there_is_one_prediction(self):
        report = fixture("cllm")
        report["speedup"]["bestBlockSize"] = 16
        self.assertEqual([entry["block_size"] for entry in reports.predictions(report)], [16])


if __name__ == "__main__":
    unittest.main()
