//! Whether a result reaches what the spec asks of it.

use cllm_crds::conditions::reasons;
use cllm_crds::report::{Quality, Speedup};

use crate::conditions::Truth;
use crate::decimal::Decimal;
use crate::training::ValidTraining;

/// What a gate says of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) truth: Truth,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    /// Whether the result must not be served.
    pub(super) fn is_missed(&self) -> bool {
        self.reason == reasons::GATE_FAILED
    }

    fn new(truth: Truth, reason: &'static str, message: String) -> Self {
        Self { truth, reason, message }
    }
}

/// `spec.evaluation.minSpeedup`.
pub(super) fn speedup(training: &ValidTraining, measured: Option<&Speedup>) -> Verdict {
    let bar = training.spec.evaluation.min_speedup.as_deref();
    let Some(measured) = measured else { return not_evaluated() };
    let found = &measured.over_target;
    judge(
        found,
        bar,
        training.min_speedup,
        |found, bar| found >= bar,
        |bar| format!("The speed-up over the target is {found}; spec.evaluation.minSpeedup asks for at least {bar}."),
    )
}

/// `spec.evaluation.maxQualityDrop`.
pub(super) fn quality(training: &ValidTraining, measured: Option<&Quality>) -> Verdict {
    let bar = training.spec.evaluation.max_quality_drop.as_deref();
    let Some(measured) = measured else { return not_evaluated() };
    let found = &measured.drop;
    let lost = if measured.is_perplexity() {
        format!("The perplexity of the target's answers rose by {found} %")
    } else {
        format!("The quality dropped by {found} points")
    };
    judge(
        found,
        bar,
        training.max_quality_drop,
        |found, bar| found <= bar,
        |bar| format!("{lost}; spec.evaluation.maxQualityDrop allows {bar}."),
    )
}

fn judge(
    found: &str,
    bar: Option<&str>,
    limit: Option<Decimal>,
    holds: impl Fn(Decimal, Decimal) -> bool,
    message: impl Fn(&str) -> String,
) -> Verdict {
    let (Some(bar), Some(limit)) = (bar, limit) else {
        let message = format!("Measured as {found}; the spec sets no bar.");
        return Verdict::new(Truth::True, reasons::NO_GATE, message);
    };
    match found.parse::<Decimal>() {
        Ok(value) if holds(value, limit) => Verdict::new(Truth::True, reasons::GATE_PASSED, message(bar)),
        _ => Verdict::new(Truth::False, reasons::GATE_FAILED, message(bar)),
    }
}

fn not_evaluated() -> Verdict {
    Verdict::new(Truth::Unknown, reasons::NOT_EVALUATED, "It is measured in the last stage.".to_owned())
}
