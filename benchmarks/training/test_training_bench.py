"""Tests of what is computed and written, without models and PyTorch: PYTHONPATH=benchmarks python3 -m unittest discover -s benchmarks/training."""

import math
import pathlib
import tempfile
import unittest

import figures
import packing
import page
import profiles
import result
import settings
import shards
from result import OURS, TORCH

METADATA = {"version": 1, "model": "sha256:other", "settings": {"block_size": 4}, "shard": 0, "shards": 1,
            "counts": {"examples": 9, "blocks": 9, "states": 9, "tokens": 9, "forwards": 7}, "checksum": "sha256:other"}


def example(index=0):
    """Prompt 50 51, generation 1 2 3 4 5 and the end marker 0."""
    blocks = [shards.Block(0, [[9, 9, 9], [1, 9, 9], [1, 2, 3]]), shards.Block(3, [[9, 9, 0], [4, 5, 0]])]
    return shards.Example(index, [50, 51, 1, 2, 3, 4, 5, 0], 2, blocks)


def second():
    return shards.Example(1, [60, 7, 8, 0], 1, [shards.Block(0, [[9, 9, 9], [7, 8, 0]])])


class Packing(unittest.TestCase):
    def test_completion_and_end_are_learnt(self):
        batch = packing.supervised([([5, 6, 0], 2), ([5, 6, 7, 0], 1)])
        self.assertEqual(batch.tokens, [5, 6, 5, 6, 7])
        self.assertEqual(batch.positions, [0, 1, 0, 1, 2])
        self.assertEqual((batch.selected, batch.targets), ([1, 2, 3, 4], [0, 6, 7, 0]))
        self.assertEqual(batch.examples, [(0, 2), (2, 3)])
        self.assertEqual(batch.teachers, [])

    def test_wrong_rows_learn_from_the_clean_rows_of_their_positions(self):
        """As the trainer packs the same: `every_noisy_row_learns_from_the_clean_row_of_its_position` there."""
        first = example()._replace(blocks=[shards.Block(0, [[1, 9, 9], [1, 2, 3]]), shards.Block(3, [[9, 9, 0], [4, 5, 0]])])
        batch = packing.consistency([first, second()])
        self.assertEqual(batch.tokens, [50, 51, 1, 2, 3, 4, 5, 9, 9, 9, 60, 7, 8, 9, 9])
        self.assertEqual(batch.positions, [0, 1, 2, 3, 4, 5, 6, 3, 5, 6, 0, 1, 2, 1, 2])
        self.assertEqual(batch.selected, [1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9, 13, 14])
        self.assertEqual(batch.targets, [1, 2, 3, 4, 5, 0, 7, 8, 0])
        self.assertEqual(batch.teachers, [2, 4, 5, 7, 8])
        self.assertEqual(batch.examples, [(0, 10), (10, 5)])
        self.assertEqual(batch.spans, [(0, 7, 0, 0), (7, 1, 0, 3), (8, 2, 0, 5), (10, 3, 10, 0), (13, 2, 10, 1)])

    def test_wrong_rows_begin_at_the_first_wrong_input(self):
        for position, states, expected in [
            (0, [[9, 9, 9], [1, 2, 3]], (2, [9, 9])),
            (0, [[1, 9, 3], [1, 2, 3]], (3, [9])),
            (0, [[1, 2, 9], [1, 2, 3]], (4, [])),
            (0, [[1, 2, 3]], (2, [])),
            (5, [[9], [0]], (7, [])),
        ]:
            self.assertEqual(packing.noisy_inputs(example(), shards.Block(position, states)), expected, states)


class Shards(unittest.TestCase):
    def test_what_is_written_is_read_again_as_another_models(self):
        examples = [example(), second()]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "new" / "shard"
            shards.write(path, examples, METADATA, "sha256:mine")
            found, metadata = shards.read(path)
        self.assertEqual(found, examples)
        self.assertEqual(metadata["model"], "sha256:mine")
        self.assertEqual(metadata["settings"], METADATA["settings"])
        self.assertEqual(metadata["counts"], {"examples": 2, "blocks": 3, "states": 7, "tokens": 9, "forwards": 7})

    def test_the_checksum_is_over_names_lengths_and_contents(self):
        checksums = {shards.checksum(columns) for columns in [{}, {"a": b"12"}, {"b": b"12"}, {"a": b"13"}, {"a": b"1", "b": b"2"}]}
        self.assertEqual(len(checksums), 5)
        self.assertEqual(shards.checksum({}), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

    def test_one_wrong_state_a_block_is_left_and_later_ones_too(self):
        states = lambda index: [block.states for block in shards.one_state_a_block(example(index)).blocks]
        self.assertEqual(states(0), [[[9, 9, 9], [1, 2, 3]], [[9, 9, 0], [4, 5, 0]]])
        self.assertEqual(states(1)[0], [[1, 9, 9], [1, 2, 3]])
        right = example()._replace(blocks=[shards.Block(0, [[1, 2, 3]])])
        self.assertEqual(shards.one_state_a_block(right), right)


class Settings(unittest.TestCase):
    def test_the_rate_rises_then_falls_as_the_trainers_does(self):
        rate = lambda step: settings.learning_rate(step, 102) / settings.LEARNING_RATE
        for step, expected in [(0, 0.5), (1, 1.0), (2, 1.0), (52, 0.51), (102, 0.02)]:
            self.assertAlmostEqual(rate(step), expected, msg=step)

    def test_every_size_has_its_config(self):
        for size in settings.SIZES.values():
            self.assertTrue(size.config.exists(), size.config)


class Figures(unittest.TestCase):
    def test_losses_come_back_from_smoothed_ones(self):
        losses = [7.0, 6.5, 6.75, 2.0]
        smoothed = losses[:1]
        for loss in losses[1:]:
            smoothed.append(smoothed[-1] + figures.NEWEST * (loss - smoothed[-1]))
        for found, expected in zip(figures.unsmoothed(smoothed), losses):
            self.assertAlmostEqual(found, expected)

    def test_losses_agree_more_closely_at_first(self):
        ours = {"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0, 2.0]}
        for other, expected in [
            ([2.0, 2.0, 2.0], True),
            ([2.0005, 2.005, 2.0], True),
            ([2.005, 2.0, 2.0], False),
            ([2.0, 2.0, 1.98], False),
            ([math.nan, 2.0, 2.0], False),
            ([2.0, 2.0, math.nan], False),
        ]:
            found = figures.differences(ours, {"a": [1.0, 1.0, 1.0], "b": other})
            self.assertEqual(figures.agree(found), expected, other)


class Profiles(unittest.TestCase):
    def test_symbols_and_operations_have_classes(self):
        for name, expected in [
            ("gemm_f32::microkernel::avx512f::f32::x4x6", "matrix products"),
            ("gemm_common::simd::x86::V4::vectorize::imp_fastcall", "matrix products"),
            ("aten::mm", "matrix products"),
            ("cllm_engine::differentiable::attention::HeadView::backward_softmax", "attention"),
            ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
            ("cllm_engine::differentiable::loss::extend_softmax", "element by element"),
            ("<cllm_engine::differentiable::rms_norm::RmsNorm as candle_core::custom_op::CustomOp2>::cpu_fwd", "element by element"),
            ("aten::_log_softmax_backward_data", "element by element"),
            ("aten::mul", "element by element"),
            ("cllm_trainer::fine_tune::fine_tune", "sums, clipping, optimizer"),
            ("aten::_fused_adamw_", "sums, clipping, optimizer"),
            ("__memset_avx512_unaligned_erms", "memory"),
            ("[k] exc_page_fault", "memory"),
            ("aten::cat", "memory"),
            ("sha2::sha256::compress256", "other"),
        ]:
            self.assertEqual(profiles.class_of(name), expected, name)

    def test_a_report_of_perf_is_read(self):
        report = "# Overhead  Symbol\n#\n    60.00%  [.] gemm_f32::a\n    20.00%  [k] gemm_f32::a\n    10.00%  [.] b c::{{closure}}\n    10.00%  [.] b c::{{closure}}\n\n"
        costs = profiles.parsed(report)
        self.assertEqual(costs, {"gemm_f32::a": 60.0, "[k] gemm_f32::a": 20.0, "b c::{{closure}}": 20.0})

    def test_shares_are_of_the_whole(self):
        found = profiles.summed({"aten::mm": 6.0, "aten::mul": 1.0, **{f"nameless {i}": 0.3 for i in range(10)}})
        self.assertAlmostEqual(sum(found["classes"].values()), 1.0)
        self.assertAlmostEqual(found["classes"]["matrix products"], 0.6)
        self.assertEqual(len(found["top"]), profiles.TOP)
        self.assertEqual(list(found["top"])[:2], ["aten::mm", "aten::mul"])


def measured(size, stage):
    """Of 1,000 rows a pass, two passes a round: ours takes 4 s, then 5 s; PyTorch 2 s and 5 s."""
    run = result.Measured(settings.SIZES[size], stage, 2, 3_500_000, 1000, [{OURS: 4.0, TORCH: 2.0}, {OURS: 5.0, TORCH: 5.0}])
    run.differences = {"first": 1.2e-6, "later": 3e-5}
    run.attentions, run.attention = {"packed": 100.0, "padded": 900.0}, "padded"
    run.profiles = {OURS: {"unavailable": "perf is not installed."}, TORCH: profiles.summed({"aten::mm": 3.0, "aten::mul": 1.0})}
    return run


class Result(unittest.TestCase):
    def found(self):
        conditions = {"hardware": "a processor", "instructionSet": "avx2+fma", "cllmVersion": "0", "peers": ["torch==2"]}
        return result.result([measured("small", "adapt"), measured("large", "train")], conditions)

    def test_ratios_have_stage_and_size(self):
        found = self.found()
        self.assertEqual(found["ratios"], {"adapt_small": 0.75, "train_large": 0.75})
        run = found["runs"][0]
        self.assertEqual(run["rows_per_second"], {OURS: 450.0, TORCH: 700.0})
        self.assertEqual((run["steps"], run["rows_of_step"]), (10, 200.0))

    def test_the_page_has_every_run_and_says_where_there_is_no_profile(self):
        text = page.page(self.found())
        self.assertIn("| small, 3.5 M parameters | `adapt` | 16 | 200 | 450 | 700 | 0.75 × (0.50 to 1.00) |", text)
        self.assertIn("| large, 3.5 M parameters | `train` | 1.2e-06 | 3.0e-05 | padded (packed 100, padded 900) |", text)
        self.assertEqual(text.count("No profile of ours: perf is not installed."), 2)
        self.assertEqual(text.count("| matrix products | 75% |"), 2)


if __name__ == "__main__":
    unittest.main()
