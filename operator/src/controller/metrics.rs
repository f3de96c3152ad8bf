//! Counters and durations of what the operator does, for `/metrics`.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Counters and durations of what the operator does.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    seconds: HistogramVec,
    last_success: GaugeVec,
    status_writes: IntCounterVec,
    leader: IntGauge,
    reviews: IntCounterVec,
    requests: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let name = "cllm_operator_reconciliations_total";
        let reconciliations = counter(name, "Reconciliations by kind and outcome.", &["kind", "outcome"])?;
        let name = "cllm_operator_status_writes_total";
        let status_writes = counter(name, "Statuses written by kind; at rest this stands still.", &["kind"])?;
        let name = "cllm_operator_admission_reviews_total";
        let reviews = counter(name, "Answers of the webhook for sidecars by outcome.", &["outcome"])?;
        let name = "cllm_operator_adapter_requests_total";
        let requests =
            counter(name, "Answers of the metrics adapter by request and outcome.", &["request", "outcome"])?;
        let seconds =
            HistogramOpts::new("cllm_operator_reconciliation_seconds", "Duration of a reconciliation by kind.");
        let seconds = registered(&registry, HistogramVec::new(seconds, &["kind"])?)?;
        let last_success = Opts::new(
            "cllm_operator_last_success_timestamp_seconds",
            "When a resource of that kind was last reconciled well.",
        );
        let last_success = registered(&registry, GaugeVec::new(last_success, &["kind"])?)?;
        let leader = IntGauge::new("cllm_operator_leader", "1 while this operator acts, 0 while it stands by.")?;
        let leader = registered(&registry, leader)?;
        let build = Opts::new("cllm_operator_build_info", "Always 1; the label says which version.");
        let build = registered(&registry, IntGaugeVec::new(build, &["version"])?)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self { registry, reconciliations, seconds, last_success, status_writes, leader, reviews, requests })
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

    /// Counts one answer to the webhook.
    pub(super) fn answered_review(&self, outcome: &str) {
        self.reviews.with_label_values(&[outcome]).inc();
    }

    /// Counts one answer of the adapter.
    pub(super) fn answered_request(&self, request: &str, outcome: &str) {
        self.requests.with_label_values(&[request, outcome]).inc();
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

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
