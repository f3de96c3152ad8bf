//! Counters and durations of reconciliations, for `/metrics`.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Counters and durations of reconciliations.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    seconds: HistogramVec,
    last_success: GaugeVec,
    status_writes: IntCounterVec,
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
        let last_success = GaugeVec::new(
            Opts::new(
                "cllm_operator_last_success_timestamp_seconds",
                "When a resource of that kind was last reconciled well.",
            ),
            &["kind"],
        )?;
        let status_writes = IntCounterVec::new(
            Opts::new("cllm_operator_status_writes_total", "Statuses written by kind; at rest this stands still."),
            &["kind"],
        )?;
        let build = IntGaugeVec::new(
            Opts::new("cllm_operator_build_info", "Always 1; the label says which version."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let registry = Registry::new();
        registry.register(Box::new(last_success.clone()))?;
        registry.register(Box::new(status_writes.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(reconciliations.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { registry, reconciliations, seconds, last_success, status_writes, leader })
    }

    /// Counts one reconciliation.
    pub(super) fn observe(&self, kind: &str, outcome: &str, duration: Duration) {
        self.reconciliations.with_label_values(&[kind, outcome]).inc();
        self.seconds.with_label_values(&[kind]).observe(duration.as_secs_f64());
        if outcome == "succeeded" {
            let now = Timestamp::now().as_millisecond() as f64 / 1000.0;
            self.last_success.with_label_values(&[kind]).set(now);
        }
    }

    /// Counts one write of a status.
    pub(super) fn wrote_status(&self, kind: &str) {
        self.status_writes.with_label_values(&[kind]).inc();
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
