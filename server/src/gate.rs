//! What a missed speed-up means for this server. Pure; decided once, before it answers, so nothing flaps.

use clap::ValueEnum;
use cllm_crds::status_page::{GateVerdict, MeasuredSpeedup};

/// The values of `--on-missed-gate`, spelled as in the `CllmModel` resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnMissedGate {
    /// Answer one token a forward.
    #[value(name = "FallBackToAutoregressive")]
    FallBackToAutoregressive,
    /// Answer nobody.
    #[value(name = "Block")]
    Block,
    /// Answer all the same.
    #[value(name = "Warn")]
    Warn,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// For `/status`; absent without a gate.
    pub verdict: Option<GateVerdict>,
    /// Whether to decode autoregressively instead.
    pub falls_back: bool,
}

/// Holds the measurement, as it was rounded for people, against the bar. What could not be measured has not reached it.
pub fn rule(min_speedup: Option<&str>, on_missed: OnMissedGate, measured: Option<&MeasuredSpeedup>) -> Ruling {
    let Some(bar) = min_speedup else { return Ruling { verdict: None, falls_back: false } };
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::INFINITY);
    let passed = measured.is_some_and(|measured| number(&measured.over_own_autoregressive) >= number(bar));
    Ruling {
        verdict: Some(GateVerdict {
            min_speedup: bar.to_owned(),
            passed,
            blocked: !passed && on_missed == OnMissedGate::Block,
        }),
        falls_back: !passed && on_missed == OnMissedGate::FallBackToAutoregressive,
    }
}

/// Why a blocked server does not answer.
pub fn sentence(verdict: &GateVerdict, measured: Option<&MeasuredSpeedup>) -> String {
    let bar = &verdict.min_speedup;
    measured.map_or_else(
        || format!("its speed-up over autoregressive decoding could not be measured, and at least {bar} is asked for"),
        |measured| {
            format!(
                "it is {} times as fast as autoregressive decoding on {} prompts of {}, and at least {bar} is asked for",
                measured.over_own_autoregressive, measured.prompts, measured.prompts_from
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use OnMissedGate::{Block, FallBackToAutoregressive, Warn};

    #[test]
    fn a_missed_gate_falls_back_blocks_or_only_says_so() {
        for (bar, on_missed, found, expected) in [
            (None, Block, Some("0.50"), (None, false)),
            (Some("1.5"), Block, Some("1.50"), (Some((true, false)), false)),
            (Some("1.5"), Block, Some("1.49"), (Some((false, true)), false)),
            (Some("1.5"), Block, None, (Some((false, true)), false)),
            (Some("1.5"), FallBackToAutoregressive, Some("1.49"), (Some((false, false)), true)),
            (Some("1.5"), FallBackToAutoregressive, Some("10.00"), (Some((true, false)), false)),
            (Some("1.5"), Warn, Some("1.49"), (Some((false, false)), false)),
        ] {
            let measured = found.map(|figure| MeasuredSpeedup {
                over_own_autoregressive: figure.to_owned(),
                ..MeasuredSpeedup::default()
            });
            let ruling = rule(bar, on_missed, measured.as_ref());
            let verdict = ruling.verdict.map(|verdict| (verdict.passed, verdict.blocked));
            assert_eq!((verdict, ruling.falls_back), expected, "{bar:?} {on_missed:?} {found:?}");
        }
    }
}
