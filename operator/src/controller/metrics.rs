//! Counters and durations of reconciliations, for `/metrics`.

use std::time::Duration;

use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Counters and durations of reconciliations.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    seconds: HistogramVec,
    leader: IntGauge,
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
        let leader = IntGauge::new("cllm_operator_leader", "1 while this operator acts, 0 while it stands by.")?;
        let registry = Registry::new();
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(reconciliations.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { registry, reconciliations, seconds, leader })
    }

    /// Counts one reconciliation.
    pub(super) fn observe(&self, kind: &str, outcome: &str, duration: Duration) {
        self.reconciliations.with_label_values(&[kind, outcome]).inc();
        self.seconds.with_label_values(&[kind]).observe(duration.as_secs_f64());
    }

    /// Whether this operator acts.
    pub(super) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// The page, in the text format of Prometheus.
    pub(super) fn page(&self) -> prometheus::Result<Vec<u8>> {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}
