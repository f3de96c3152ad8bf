//! Probes as the kubelet runs them: an HTTP GET on a named port, with period, timeout and thresholds.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe as PodProbe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The probes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probes {
    /// Until it succeeds the others do not run; when it gives up the process is ended.
    pub startup: Option<Probe>,
    /// Whether requests may come.
    pub readiness: Option<Probe>,
    /// When it fails the process is ended.
    pub liveness: Option<Probe>,
}

/// One probe, with the defaults of Kubernetes filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    /// What is asked.
    pub url: String,
    /// Before the first try.
    pub initial_delay: Duration,
    /// Between tries.
    pub period: Duration,
    /// Of one try.
    pub timeout: Duration,
    /// Successes in a row that make it true.
    pub success_threshold: u32,
    /// Failures in a row that make it false.
    pub failure_threshold: u32,
}

impl Probe {
    /// The probe of a Pod on the local ports; an error when it is not an HTTP GET on a named port.
    pub(super) fn new(probe: &PodProbe, container: &Container, ports: &BTreeMap<String, u16>) -> Result<Self, ()> {
        let action = probe.http_get.as_ref().ok_or(())?;
        let port = match &action.port {
            IntOrString::String(name) => ports.get(name),
            IntOrString::Int(number) => container
                .ports
                .iter()
                .flatten()
                .find(|port| port.container_port == *number)
                .and_then(|port| ports.get(port.name.as_ref()?)),
        };
        let port = port.ok_or(())?;
        let path = action.path.as_deref().unwrap_or("/").trim_start_matches('/');
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|number| u64::try_from(number).ok()).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0).unwrap_or(default)
        };
        Ok(Self {
            url: format!("http://127.0.0.1:{port}/{path}"),
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds.filter(|&period| period > 0), 10),
            timeout: seconds(probe.timeout_seconds.filter(|&timeout| timeout > 0), 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        })
    }

    /// One try: true for 200–399.
    pub(super) async fn succeeds(&self, client: &reqwest::Client) -> bool {
        let answer = client.get(&self.url).timeout(self.timeout).send().await;
        answer.is_ok_and(|response| (200..400).contains(&response.status().as_u16()))
    }
}

/// Tries in a row, and what they amount to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    in_a_row: u32,
    succeeding: bool,
}

impl Tally {
    /// Enters a try; an answer once a threshold is reached.
    pub(super) fn enter(&mut self, probe: &Probe, success: bool) -> Option<bool> {
        self.in_a_row = if success == self.succeeding { self.in_a_row.saturating_add(1) } else { 1 };
        self.succeeding = success;
        let threshold = if success { probe.success_threshold } else { probe.failure_threshold };
        (self.in_a_row >= threshold).then_some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_tries_in_a_row() {
        let probe = Probe {
            url: String::new(),
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            success_threshold: 2,
            failure_threshold: 3,
        };
        let mut tally = Tally::default();
        let tries = [true, false, false, true, true, false, false, false, false];
        let answers: Vec<_> = tries.into_iter().map(|success| tally.enter(&probe, success)).collect();
        let expected = [None, None, None, None, Some(true), None, None, Some(false), Some(false)];
        assert_eq!(answers, expected);
    }
}
