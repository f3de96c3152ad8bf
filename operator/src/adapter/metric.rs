//! Which metrics there are.

/// A metric that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Generated tokens per second.
    TokensPerSecond,
    /// How much of what a replica can do it does, of 100.
    UtilizationPercent,
    /// Requests that wait.
    QueuedRequests,
}

/// How the figure of a model is made from those of its Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// They add up.
    Sum,
    /// They are shares of the same.
    Mean,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TokensPerSecond, Self::UtilizationPercent, Self::QueuedRequests];

    /// What autoscalers call it, and what it is called on a replica's page.
    pub fn name(self) -> &'static str {
        match self {
            Self::TokensPerSecond => "cllm_tokens_per_second",
            Self::UtilizationPercent => "cllm_utilization_percent",
            Self::QueuedRequests => "cllm_queued_requests",
        }
    }

    /// The metric of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// How the figure of a model is made from those of its Pods.
    pub fn total(self) -> Total {
        match self {
            Self::TokensPerSecond | Self::QueuedRequests => Total::Sum,
            Self::UtilizationPercent => Total::Mean,
        }
    }
}
