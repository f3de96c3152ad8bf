"""Tests of what the benchmarks share: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/common."""

import os
import subprocess
import sys
import unittest
import xml.etree.ElementTree

from common import bootstrap, plot, turns
from common.machine import machine
from common.rounding import rounded


class Rounding(unittest.TestCase):
    def test_four_digits_are_left_wherever_a_number_is(self):
        found = rounded({"a": [0.123456, (12345.6, 7)], "b": {"c": 1e-9 / 3}, "d": "0.123456", "e": None, "f": True})
        self.assertEqual(found, {"a": [0.1235, [12350.0, 7]], "b": {"c": 3.333e-10}, "d": "0.123456", "e": None, "f": True})


class Machine(unittest.TestCase):
    def test_a_machine_is_known_by_its_flags(self):
        for text, expected in [
            ("model name\t: A processor\nflags\t\t: fpu avx2 fma f16c avx512f avx512bw avx512_vnni avx512_bf16\n", ("A processor", "avx512+vnni+bf16")),
            ("model name\t: A processor\nflags\t\t: fpu avx2 fma f16c avx512f avx512bw avx512_vnni\n", ("A processor", "avx512+vnni")),
            ("model name\t: B\nflags\t\t: fpu avx2 fma f16c avx512f avx512bw\n", ("B", "avx2+fma")),
            ("Features\t: fp asimd\n", ("an unknown processor", "portable")),
        ]:
            self.assertEqual(tuple(machine(text).values()), expected)

    def test_what_is_pinned_has_the_first_processors_and_so_has_what_it_starts(self):
        child = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
        script = f"import subprocess; from common.machine import pin; pin(1); print(subprocess.check_output({child!r}, text=True))"
        found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
        self.assertEqual(found.strip(), str([min(os.sched_getaffinity(0))]))


class Turns(unittest.TestCase):
    ROUNDS = [{"ours": 1.0, "theirs": 2.0}, {"ours": 10.0, "theirs": 5.0}, {"ours": 4.0, "theirs": 4.0}]

    def test_rates_are_medians_over_the_rounds(self):
        self.assertEqual(turns.rates(100, self.ROUNDS), {"ours": 25.0, "theirs": 25.0})

    def test_ratios_are_taken_within_a_round(self):
        self.assertEqual(turns.ratio(self.ROUNDS, "ours", "theirs"), {"median": 1.0, "low": 0.5, "high": 2.0})


class Plot(unittest.TestCase):
    def drawn(self, *arguments, **options):
        root = xml.etree.ElementTree.fromstring(plot.lines("title", "x", "y", *arguments, **options))
        of = lambda tag: [element for element in root.iter() if element.tag.endswith(tag)]
        points = [[tuple(map(float, point.split(","))) for point in line.get("points").split()] for line in of("polyline")]
        return points, [element.text for element in of("text")]

    def test_numbers_come_in_their_order_and_words_as_they_are_given(self):
        for curve, expected in [({80: 1.0, 20: 3.0, 40: 2.0}, ["20", "40", "80"]), ({"none": 1.0, "all": 2.0}, ["none", "all"])]:
            points, words = self.drawn({"panel": {"series": curve}})
            self.assertEqual([word for word in words if word in expected], expected)
            self.assertEqual(points[0], sorted(points[0]), "from left to right")

    def test_panels_share_a_scale_unless_each_has_its_own(self):
        panels = {"small": {"series": {1: 1.0}}, "large": {"series": {1: 10.0}}}
        shared, own = self.drawn(panels)[0], self.drawn(panels, own_scales=True)[0]
        self.assertGreater(shared[0][0][1], shared[1][0][1], "further down")
        self.assertEqual(own[0][0][1], own[1][0][1], "both at the top of their scale")

    def test_a_scale_has_zero_and_everything_on_it(self):
        for values, expected in [
            ([3.1], [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]),
            ([-0.3, 0.4], [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4]),
            ([-3.0, -1.0], [-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0]),
        ]:
            found = plot.ticks_over(values)
            self.assertTrue(all(abs(a - b) < 1e-9 for a, b in zip(found, expected, strict=True)), found)
        self.assertEqual(plot.ticks_over([0.0])[0], 0.0)
        self.assertGreater(plot.ticks_over([0.0])[-1], 0.0)

    def test_a_spread_has_a_bar_over_all_of_it(self):
        svg = plot.lines("title", "x", "y", {"panel": {"series": {1: plot.Spread(1.0, 2.0, 4.0), 2: 3.0}}})
        root = xml.etree.ElementTree.fromstring(svg)
        bars = [line for line in root.iter() if line.get("stroke") == plot.COLORS[0] and line.get("x1") is not None and line.get("x1") == line.get("x2")]
        self.assertEqual(len(bars), 1, "the other value is one point")
        place = lambda y: f"{plot.TOP + plot.HEIGHT * (1 - y / 4.0):.1f}"
        self.assertEqual((bars[0].get("y1"), bars[0].get("y2")), (place(1.0), place(4.0)))


class Bootstrap(unittest.TestCase):
    FIGURES = {"drop": lambda sums: sums["before"] - sums["after"], "share": lambda sums: sums["after"] / sums["prompts"]}

    def table(self, right, prompts=400):
        """All are right before, `right` of them after."""
        return {"before": [1] * prompts, "after": [1] * right + [0] * (prompts - right), "prompts": [1] * prompts}

    def test_figures_are_of_all_seeds_together(self):
        self.assertEqual(bootstrap.pooled([self.table(200), self.table(300)], self.FIGURES), {"drop": 300, "share": 0.625})

    def test_an_interval_is_as_wide_as_the_shares_of_prompts_vary(self):
        low, high = bootstrap.intervals([self.table(200)], self.FIGURES)["share"]
        self.assertTrue(low < 0.5 < high)
        self.assertAlmostEqual(high - low, 4 * 0.025, delta=0.012, msg="the standard error of a half of 400 is 2.5 points")

    def test_seeds_that_differ_widen_it_and_equal_ones_do_not(self):
        width = lambda *tables: (lambda ends: ends[1] - ends[0])(bootstrap.intervals(tables, self.FIGURES)["share"])
        one, same, different = width(self.table(200)), width(*[self.table(200)] * 3), width(*map(self.table, [100, 200, 300]))
        self.assertAlmostEqual(same, one, delta=0.012)
        self.assertGreater(different, 2 * one)

    def test_what_is_compared_comes_from_the_same_prompts(self):
        """Where both sides err on the same prompts nothing is lost, whatever is drawn."""
        table = {"before": [1, 0] * 50, "after": [1, 0] * 50, "prompts": [1] * 100}
        self.assertEqual(bootstrap.intervals([table, table], self.FIGURES, draws=100)["drop"], (0, 0))


if __name__ == "__main__":
    unittest.main()
