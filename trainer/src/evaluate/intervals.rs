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
    let over = |others: Vec<usize>| {
        let trained = trained.clone();
        interval(prompts.len(), seed, move |draw| {
            let fastest = |arms: &[usize]| arms.iter().map(|&arm| speed(prompts, draw, arm)).fold(0.0, f64::max);
            ratio(fastest(&trained), fastest(&others))
        })
    };
    Intervals {
        over_target: over(find(ArmCheckpoint::Target, ArmStrategy::Autoregressive, None)),
        over_target_with_lookup: over(find(ArmCheckpoint::Target, ArmStrategy::JacobiWithLookup, None)),
        over_own_autoregressive: over(find(ArmCheckpoint::Cllm, ArmStrategy::Autoregressive, None)),
        tokens_per_forward: interval(prompts.len(), seed, |draw| {
            at_block_size.first().map_or(1.0, |&arm| tokens_per_forward(prompts, draw, arm))
        }),
        quality_drop: interval(prompts.len(), seed, |draw| {
            let points = |&prompt: &usize| {
                f64::from(u8::from(prompts[prompt].target_correct)) - f64::from(u8::from(prompts[prompt].cllm_correct))
            };
            100.0 * ratio(draw.iter().map(points).sum(), draw.len() as f64)
        }),
    }
}

fn decoded(arm: &PromptArm) -> f64 {
    f64::from(arm.tokens.saturating_sub(1))
}

/// Decoded tokens per second.
fn speed(prompts: &[PromptResult], draw: &[usize], arm: usize) -> f64 {
    let sum = |value: fn(&PromptArm) -> f64| draw.iter().map(|&prompt| value(&prompts[prompt].arms[arm])).sum::<f64>();
    ratio(sum(decoded), sum(|arm| arm.decode_seconds))
}

fn tokens_per_forward(prompts: &[PromptResult], draw: &[usize], arm: usize) -> f64 {
    let sum = |value: fn(&PromptArm) -> f64| draw.iter().map(|&prompt| value(&prompts[prompt].arms[arm])).sum::<f64>();
    let forwards = sum(|arm| f64::from(arm.forwards));
    if forwards > 0.0 { sum(decoded) / forwards } else { 1.0 }
}

/// The middle 95 % of a figure over draws of `prompts` prompts with replacement.
fn interval(prompts: usize, seed: u64, figure: impl Fn(&[usize]) -> f64) -> Interval {
    if prompts == 0 {
        return Interval { low: 0.0, high: 0.0 };
    }
    let mut draw = vec![0; prompts];
    let mut figures: Vec<f64> = (0..DRAWS)
        .map(|number| {
            let mut random = random(seed, "bootstrap", number);
            draw.fill_with(|| random.random_range(0..prompts));
            figure(&draw)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[(share * (figures.len() - 1) as f64).round() as usize];
    Interval { low: at(0.025), high: at(0.975) }
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
