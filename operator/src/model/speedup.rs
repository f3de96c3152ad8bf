//! What the replicas measured of themselves, and what the spec says to it.

use cllm_crds::conditions::{reasons, types};
use cllm_crds::status_page::{MeasuredSpeedup, ServerStatus};
use cllm_crds::{GateFailure, Strategy};

use crate::conditions::{Conditions, Truth};
use crate::decimal::Decimal;
use crate::model::ValidModel;

/// The least of what the replicas measured.
pub(super) fn least<'a>(pages: impl Iterator<Item = &'a ServerStatus>) -> Option<MeasuredSpeedup> {
    let figures = pages.filter_map(|page| page.speedup.as_ref());
    figures.min_by_key(|figures| (decimal(&figures.over_own_autoregressive), &figures.measured_at)).cloned()
}

/// Whether there is anything to measure.
pub(super) fn is_measured(model: &ValidModel) -> bool {
    model.spec.decoding.strategy == Strategy::Jacobi && model.spec.decoding.max_block_size > 1
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap_or(Decimal::ZERO)
}

/// The condition SpeedupVerified; a model that is to decode autoregressively has none.
pub(super) fn set_verified(conditions: &mut Conditions, model: &ValidModel, measured: Option<&MeasuredSpeedup>) {
    if !is_measured(model) {
        return conditions.remove(types::SPEEDUP_VERIFIED);
    }
    let Some(measured) = measured else {
        let message = "Each replica measures itself before it answers.";
        return conditions.set(types::SPEEDUP_VERIFIED, Truth::Unknown, reasons::NOT_EVALUATED, message);
    };
    let found = describe(measured);
    let gates = model.spec.gates.as_ref();
    let Some(bar) = gates.and_then(|gates| gates.min_speedup.as_deref()) else {
        let message = format!("{found}; the spec sets no bar.");
        return conditions.set(types::SPEEDUP_VERIFIED, true, reasons::NO_GATE, message);
    };
    if decimal(&measured.over_own_autoregressive) >= decimal(bar) {
        let message = format!("{found}; spec.gates.minSpeedup asks for {bar}.");
        return conditions.set(types::SPEEDUP_VERIFIED, true, reasons::GATE_PASSED, message);
    }
    let consequence = consequence(gates.map(|gates| gates.on_failure).unwrap_or_default());
    let message = format!("{found}; spec.gates.minSpeedup asks for {bar}. {consequence}");
    conditions.set(types::SPEEDUP_VERIFIED, false, reasons::GATE_FAILED, message);
}

fn describe(measured: &MeasuredSpeedup) -> String {
    let MeasuredSpeedup { over_own_autoregressive, tokens_per_forward, prompts, prompts_from, hardware, .. } = measured;
    format!(
        "{over_own_autoregressive} times as fast as the same checkpoint autoregressively ({tokens_per_forward} tokens per forward, {prompts} \
         prompts of {prompts_from}, one at a time, {hardware}, {})",
        measured.instruction_set
    )
}

fn consequence(on_failure: GateFailure) -> &'static str {
    match on_failure {
        GateFailure::FallBackToAutoregressive => "The replicas below it answer one token a forward.",
        GateFailure::Block => "The replicas below it do not answer.",
        GateFailure::Warn => "The replicas answer all the same.",
    }
}
