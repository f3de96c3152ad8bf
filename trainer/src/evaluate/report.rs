//! From sums to the report: pure, but for the time.

use cllm_crds::report::{ArmCheckpoint, ArmStrategy, Interval, Intervals, Perplexity, Quality, Sampled, Speedup};

use super::arms::{ArmKind, MeasuredArm, Totals, ratio};

/// The speed-up from the sums of all arms. `block_size` is that of the conditions, `best` the fastest of the trained checkpoint.
pub(super) fn speedup(arms: &[MeasuredArm], block_size: u32, best: u32, hardware: String) -> Speedup {
    let find = |checkpoint, strategy, size: u32| {
        let is = |kind: &ArmKind| {
            kind.checkpoint == checkpoint && kind.strategy == strategy && kind.block_size.get() as u32 == size
        };
        arms.iter().find(|(kind, _)| is(kind)).map(|(_, totals)| totals)
    };
    let jacobi = |checkpoint, size| find(checkpoint, ArmStrategy::Jacobi, size);
    let speed = |totals: Option<&Totals>| totals.map_or(0.0, Totals::decode_tokens_per_second);
    let fastest_target_lookup = arms
        .iter()
        .filter(|(kind, _)| kind.checkpoint == ArmCheckpoint::Target && kind.strategy == ArmStrategy::JacobiWithLookup)
        .map(|(_, totals)| totals.decode_tokens_per_second())
        .fold(0.0, f64::max);
    let trained = jacobi(ArmCheckpoint::Cllm, best);
    let target = find(ArmCheckpoint::Target, ArmStrategy::Autoregressive, 1);
    let own = find(ArmCheckpoint::Cllm, ArmStrategy::Autoregressive, 1);
    let end_to_end = |totals: Option<&Totals>| totals.map_or(0.0, Totals::end_to_end_tokens_per_second);
    let tokens_per_forward = |totals: Option<&Totals>| decimal(totals.map_or(1.0, Totals::tokens_per_forward));
    Speedup {
        over_target: decimal(ratio(speed(trained), speed(target))),
        over_target_with_lookup: decimal(ratio(speed(trained), fastest_target_lookup)),
        over_own_autoregressive: decimal(ratio(speed(trained), speed(own))),
        over_target_end_to_end: decimal(ratio(end_to_end(trained), end_to_end(target))),
        tokens_per_forward_before: tokens_per_forward(jacobi(ArmCheckpoint::Target, block_size)),
        tokens_per_forward: tokens_per_forward(jacobi(ArmCheckpoint::Cllm, block_size)),
        best_block_size: best,
        hardware,
    }
}

/// The quality from the sums of all arms; all arms of a checkpoint have the same.
pub(super) fn quality(arms: &[MeasuredArm], metric: &str) -> Quality {
    let of = |checkpoint| {
        arms.iter().find(|(kind, _)| kind.checkpoint == checkpoint).map_or(0.0, |(_, totals)| totals.quality())
    };
    let (target, cllm) = (of(ArmCheckpoint::Target), of(ArmCheckpoint::Cllm));
    Quality { metric: metric.to_owned(), target: decimal(target), cllm: decimal(cllm), drop: decimal(target - cllm) }
}

/// Figures of a temperature whose quality is how likely the target's answers are: to itself, and to the trained checkpoint.
pub(super) fn by_perplexity(figures: Sampled, found: &Perplexity) -> Sampled {
    let rise = |ratio: f64| 100.0 * (ratio - 1.0);
    let Interval { low, high } = found.ratio_interval;
    let quality = Quality {
        metric: figures.quality.metric,
        target: format!("{:.3}", found.target),
        cllm: format!("{:.3}", found.cllm),
        drop: decimal(rise(ratio(found.cllm, found.target))),
    };
    let quality_drop = Interval { low: rise(low), high: rise(high) };
    Sampled { quality, intervals: Intervals { quality_drop, ..figures.intervals }, ..figures }
}

fn decimal(value: f64) -> String {
    // + 0.0: a drop of −0.001 is 0.00, not −0.00
    format!("{:.2}", (value * 100.0).round() / 100.0 + 0.0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use cllm_engine::{FinishReason, Generation, Statistics};

    use super::*;

    /// Sums of one prompt with 21 tokens.
    fn totals(forwards: usize, seconds: f64, correct: bool) -> Totals {
        let statistics = Statistics {
            generated_tokens: 21,
            decode_forwards: forwards,
            prefill_seconds: 1.0,
            decode_seconds: seconds,
            ..Statistics::default()
        };
        let mut totals = Totals::default();
        totals.add(&Generation { tokens: Vec::new(), finish_reason: FinishReason::Stop, statistics }, 0.0, correct);
        totals
    }

    #[test]
    fn every_figure_compares_the_right_arms() {
        use ArmCheckpoint::{Cllm, Target};
        let size = |n| NonZeroUsize::new(n).unwrap();
        let arms = [
            (ArmKind::autoregressive(Target), totals(20, 20.0, true)),
            (ArmKind::jacobi(Target, size(16)), totals(16, 40.0, true)),
            (ArmKind::lookup(Target, size(16)), totals(10, 16.0, true)),
            (ArmKind::lookup(Target, size(6)), totals(12, 12.5, true)),
            (ArmKind::autoregressive(Cllm), totals(20, 15.0, false)),
            (ArmKind::jacobi(Cllm, size(16)), totals(5, 10.0, false)),
            (ArmKind::jacobi(Cllm, size(6)), totals(8, 5.0, false)),
        ];
        let speedup = speedup(&arms, 16, 6, "h".to_owned());
        let expected = Speedup {
            over_target: "4.00".to_owned(),
            over_target_with_lookup: "2.50".to_owned(),
            over_own_autoregressive: "3.00".to_owned(),
            over_target_end_to_end: "3.50".to_owned(),
            tokens_per_forward_before: "1.25".to_owned(),
            tokens_per_forward: "4.00".to_owned(),
            best_block_size: 6,
            hardware: "h".to_owned(),
        };
        assert_eq!(speedup, expected);
        let quality = quality(&arms, "ExactMatch");
        assert_eq!(
            (quality.target.as_str(), quality.cllm.as_str(), quality.drop.as_str()),
            ("100.00", "0.00", "100.00")
        );
    }

    #[test]
    fn a_perplexity_is_compared_as_a_ratio() {
        let interval = Interval { low: 0.0, high: 0.0 };
        let intervals = Intervals {
            over_target: Interval { low: 1.5, high: 2.5 },
            over_target_with_lookup: interval,
            over_own_autoregressive: interval,
            tokens_per_forward: interval,
            quality_drop: interval,
        };
        let figures = Sampled {
            temperature: 0.0,
            speedup: Speedup::default(),
            quality: Quality { metric: "Perplexity".to_owned(), ..Quality::default() },
            intervals,
            arms: Vec::new(),
            accepted_len_histogram: Vec::new(),
            target_accepted_len_histogram: Vec::new(),
        };
        for (target, cllm, expected) in [(1.25, 1.5, "20.00"), (1.25, 1.25, "0.00"), (1.25, 1.2, "-4.00")] {
            let found = Perplexity { tokens: 9, target, cllm, ratio_interval: Interval { low: 1.0, high: 1.5 } };
            let Sampled { quality, intervals, .. } = by_perplexity(figures.clone(), &found);
            assert_eq!((quality.metric.as_str(), quality.target.as_str()), ("Perplexity", "1.250"));
            assert_eq!((quality.cllm, quality.drop.as_str()), (format!("{cllm:.3}"), expected));
            let Interval { low, high } = intervals.quality_drop;
            assert!(low.abs() < 1e-9 && (high - 50.0).abs() < 1e-9, "in percent: {low} to {high}");
            assert_eq!(intervals.over_target, figures.intervals.over_target);
        }
    }

    #[test]
    fn decimals_have_no_negative_zero() {
        assert_eq!([decimal(-0.001), decimal(1.005), decimal(-1.25)], ["0.00", "1.00", "-1.25"]);
    }
}
