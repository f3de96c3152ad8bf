//! Counters and durations of reconciliations, for `/metrics`.

use std::time::Duration;

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

/// Counters and durations of reconciliations.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> prometheus::Result<Self> {
        let reconciliations = IntCounterVec::new(
            Opts::new("cllm_operator_reconciliations_total", "Reconciliations by kind and outcome."),
            &["kind", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("cllm_operator_reconciliation_seconds", "Duration of a reconciliation by kind."),
            &["kind"],
        )?;
        let registry = Registry::new();
        registry.register(Box::new(reconciliations.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { registry, reconciliations, seconds })
    }

    /// Counts one reconciliation.
    pub(super) fn observe(&self, kind: &str, outcome: &str, duration: Duration) {
        self.reconciliations.with_label_values(&[kind, outcome]).inc();
        self.seconds.with_label_values(&[kind]).observe(duration.as_secs_f64());
    }

    /// The page, in the text format of Prometheus.
    pub(super) fn page(&self) -> prometheus::Result<Vec<u8>> {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}
