//! 95 % intervals of the report's figures: bootstrap over prompts, both sides of a ratio from the same draw. Pure.

use cllm_crds::report::{ArmCheckpoint, ArmStrategy, Interval, Intervals, PromptArm, PromptResult};
use rand::Rng;

use super::arms::{ArmKind, ratio};
use crate::data_order::random;

const DRAWS: u64 = 2000;

/// Of the figures that compare the trained checkpoint at `best` with others; tokens per forward are those at `block_size`.
pub(super) fn intervals(
    prompts: &[PromptResult],
    kinds: &[ArmKind],
    block_size: u32,
    best: u32,
    seed: u64,
) -> Intervals {
    let find = |checkpoint, strategy, size: Option<u32>| -> Vec<usize> {
        let is = |kind: &ArmKind| {
            kind.checkpoint == checkpoint
                && kind.strategy == strategy
                && size.is_none_or(|size| kind.block_size.get() as u32 == size)
        };
        (0..kinds.len()).filter(|&arm| is(&kinds[arm])).collect()
    };
    let trained = find(ArmCheckpoint::Cllm, ArmStrategy::Jacobi, Some(best));
    let at_block_size = find(ArmCheckpoint::Cllm, ArmStrategy::Jacobi, Some(block_size));
    let others = [
        find(ArmCheckpoint::Target, ArmStrategy::Autoregressive, None),
        find(ArmCheckpoint::Target, ArmStrategy::JacobiWithLookup, None),
        find(ArmCheckpoint::Cllm, ArmStrategy::Autoregressive, None),
    ];
    let figures = |draw: &[usize]| {
        let fastest = |arms: &[usize]| arms.iter().map(|&arm| speed(prompts, draw, arm)).fold(0.0, f64::max);
        let own = fastest(&trained);
        let [target, lookup, autoregressive] = others.each_ref().map(|arms| ratio(own, fastest(arms)));
        let per_forward = at_block_size.first().map_or(1.0, |&arm| tokens_per_forward(prompts, draw, arm));
        [target, lookup, autoregressive, per_forward, quality_drop(prompts, draw)]
    };
    let [over_target, over_target_with_lookup, over_own_autoregressive, tokens_per_forward, quality_drop] =
        bootstrap(prompts.len(), seed, figures);
    Intervals { over_target, over_target_with_lookup, over_own_autoregressive, tokens_per_forward, quality_drop }
}

/// Over the prompts of a draw.
fn sum(prompts: &[PromptResult], draw: &[usize], arm: usize, value: fn(&PromptArm) -> f64) -> f64 {
    draw.iter().map(|&prompt| value(&prompts[prompt].arms[arm])).sum()
}

fn decoded(arm: &PromptArm) -> f64 {
    f64::from(arm.tokens.saturating_sub(1))
}

/// Decoded tokens per second.
fn speed(prompts: &[PromptResult], draw: &[usize], arm: usize) -> f64 {
    ratio(sum(prompts, draw, arm, decoded), sum(prompts, draw, arm, |arm| arm.decode_seconds))
}

fn tokens_per_forward(prompts: &[PromptResult], draw: &[usize], arm: usize) -> f64 {
    let forwards = sum(prompts, draw, arm, |arm| f64::from(arm.forwards));
    if forwards > 0.0 { sum(prompts, draw, arm, decoded) / forwards } else { 1.0 }
}

/// In points.
fn quality_drop(prompts: &[PromptResult], draw: &[usize]) -> f64 {
    let right =
        |correct: fn(&PromptResult) -> bool| draw.iter().filter(|&&prompt| correct(&prompts[prompt])).count() as f64;
    100.0 * ratio(right(|prompt| prompt.target_correct) - right(|prompt| prompt.cllm_correct), draw.len() as f64)
}

/// The middle 95 % of each figure over the same draws of `prompts` prompts with replacement.
pub(super) fn bootstrap<const N: usize>(
    prompts: usize,
    seed: u64,
    figures: impl Fn(&[usize]) -> [f64; N],
) -> [Interval; N] {
    if prompts == 0 {
        return [Interval { low: 0.0, high: 0.0 }; N];
    }
    let mut draw = vec![0; prompts];
    let drawn: Vec<[f64; N]> = (0..DRAWS)
        .map(|number| {
            let mut random = random(seed, "bootstrap", number);
            draw.fill_with(|| random.random_range(0..prompts));
            figures(&draw)
        })
        .collect();
    std::array::from_fn(|figure| {
        let mut values: Vec<f64> = drawn.iter().map(|figures| figures[figure]).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
        Interval { low: at(0.025), high: at(0.975) }
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    /// Prompts of 11 tokens. The target takes 10 s autoregressively and 5 s with lookup, the trained checkpoint 8 s and, by Jacobi,
    /// 1 or 4 s in turns and 5 forwards.
    fn prompts(count: u64, wrong: u64) -> Vec<PromptResult> {
        let arm = |forwards, decode_seconds| PromptArm { tokens: 11, forwards, decode_seconds };
        (0..count)
            .map(|index| PromptResult {
                index,
                agrees_with_target: false,
                target_correct: true,
                cllm_correct: index >= wrong,
                arms: vec![arm(10, 10.0), arm(7, 5.0), arm(10, 8.0), arm(5, if index % 2 == 0 { 1.0 } else { 4.0 })],
            })
            .collect()
    }

    fn kinds() -> [ArmKind; 4] {
        use ArmCheckpoint::{Cllm, Target};
        let size = NonZeroUsize::new(16).unwrap();
        [
            ArmKind::autoregressive(Target),
            ArmKind::lookup(Target, size),
            ArmKind::autoregressive(Cllm),
            ArmKind::jacobi(Cllm, size),
        ]
    }

    #[test]
    fn intervals_hold_the_figure_and_shrink_with_more_prompts() {
        let [few, many] = [20, 2000].map(|count| intervals(&prompts(count, count / 10), &kinds(), 16, 16, 3));
        for (interval, expected) in [
            (&many.over_target, 4.0),
            (&many.over_target_with_lookup, 2.0),
            (&many.over_own_autoregressive, 3.2),
            (&many.tokens_per_forward, 2.0),
            (&many.quality_drop, 10.0),
        ] {
            assert!(interval.low <= expected && expected <= interval.high, "{expected} in {interval:?}");
        }
        let width = |interval: &Interval| interval.high - interval.low;
        assert!(width(&many.over_target) > 0.0 && width(&many.over_target) < width(&few.over_target) / 5.0);
        // the standard error of a share of 10 % of 2000 is 0.67 points
        assert!((width(&many.quality_drop) - 4.0 * 0.67).abs() < 0.4, "{:?}", many.quality_drop);
        assert!(width(&many.tokens_per_forward) < 1e-12, "the same in every prompt");
    }
}
