//! What one Pod said of itself.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use crate::adapter::metric::Metric;

/// A figure, with the labels that stand beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Finite.
    pub value: f64,
    /// By name.
    pub labels: BTreeMap<String, String>,
}

/// The figures of one metrics page. One that is not on the page is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub(super) tokens_per_second: Option<Figure>,
    pub(super) utilization_percent: Option<Figure>,
    pub(super) queued_requests: Option<Figure>,
}

/// When a page was read, and what was on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// By this operator's clock.
    pub at: Timestamp,
    /// What was on it.
    pub figures: Figures,
}

impl Figures {
    /// The figure of a metric.
    pub fn get(&self, metric: Metric) -> Option<&Figure> {
        let Self { tokens_per_second, utilization_percent, queued_requests } = self;
        match metric {
            Metric::TokensPerSecond => tokens_per_second.as_ref(),
            Metric::UtilizationPercent => utilization_percent.as_ref(),
            Metric::QueuedRequests => queued_requests.as_ref(),
        }
    }
}
