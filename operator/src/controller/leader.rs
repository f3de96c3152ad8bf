//! Keeps a Lease, and a fence in front of every write: who lost the Lease, or slept too long to know, writes nothing more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use crate::controller::health::Readiness;
use crate::controller::metrics::Metrics;
use crate::election::{Candidate, Step, Timing};

/// Which Lease to compete for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// The namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Of this process; no other, before or after, may have the same.
    pub identity: String,
    /// How long things take.
    pub timing: Timing,
}

/// This process acts no more: another one does, or will soon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadershipError {
    /// Another one holds the Lease.
    #[error("the Lease {lease} was taken over by another operator: this one stops")]
    TakenOver {
        /// `namespace/name`.
        lease: String,
    },
    /// The Lease could not be renewed in time.
    #[error(
        "the Lease {lease} could not be renewed within {deadline:?}: this operator stops before another one takes over"
    )]
    NotRenewed {
        /// `namespace/name`.
        lease: String,
        /// How long it was tried.
        deadline: Duration,
    },
}

/// A request that came after the time that this process may act.
#[derive(Debug, thiserror::Error)]
#[error("the Lease of this operator has run out, so it writes nothing more")]
struct RunOut;

/// Until when this process may act.
#[derive(Clone, Debug)]
pub(super) struct Fence(Arc<Mutex<Option<Instant>>>);

impl Fence {
    /// Closed.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// A client whose requests are refused when the time has come.
    pub(super) fn around(&self, client: Client) -> Client {
        let fence = self.clone();
        let namespace = client.default_namespace().to_owned();
        let checked = tower::service_fn(move |request: http::Request<Body>| {
            let (fence, client) = (fence.clone(), client.clone());
            async move {
                if !fence.is_open() {
                    return Err(BoxError::from(RunOut));
                }
                client.send(request).await.map_err(BoxError::from)
            }
        });
        Client::new(checked, namespace)
    }

    fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// Competes for the Lease and keeps it.
pub(super) struct Elector {
    api: Api<Lease>,
    lease: String,
    timing: Timing,
    candidate: Candidate,
    /// As this process wrote it last.
    written: Option<Lease>,
    started: Instant,
    fence: Fence,
}

impl Elector {
    /// Holds nothing yet.
    pub(super) fn new(client: Client, election: &LeaderElection, fence: Fence) -> Self {
        let LeaderElection { namespace, name, identity, timing } = election;
        Self {
            api: Api::namespaced(client, namespace),
            lease: format!("{namespace}/{name}"),
            timing: *timing,
            candidate: Candidate::new(name, identity, *timing),
            written: None,
            started: Instant::now(),
            fence,
        }
    }

    /// Competes until `finished`, then releases the Lease. Tells `leads` when it has it; fails when it had it and lost it.
    pub(super) async fn run(
        mut self,
        leads: watch::Sender<bool>,
        readiness: Readiness,
        metrics: Metrics,
        finished: CancellationToken,
    ) -> Result<(), LeadershipError> {
        loop {
            match self.round().await {
                Ok(()) => readiness.stands_by(),
                Err(error) => tracing::warn!(lease = %self.lease, %error, "the Lease was not read or written"),
            }
            let until = self.candidate.held_until();
            self.fence.set(until.map(|until| self.started + until));
            let (led, leads_now) = (*leads.borrow(), until.is_some_and(|until| self.started.elapsed() < until));
            metrics.leads(leads_now);
            match (led, leads_now) {
                (true, false) if until.is_none() => {
                    return Err(LeadershipError::TakenOver { lease: self.lease.clone() });
                }
                (true, false) => {
                    let deadline = self.timing.renew_deadline;
                    return Err(LeadershipError::NotRenewed { lease: self.lease.clone(), deadline });
                }
                (false, true) => {
                    tracing::info!(lease = %self.lease, "leading");
                    leads.send_replace(true);
                }
                (true, true) | (false, false) => {}
            }
            if timeout(self.pause(), finished.cancelled()).await.is_ok() {
                self.release().await;
                metrics.leads(false);
                return Ok(());
            }
        }
    }

    /// Reads the Lease if need be, and writes it if it is to be had. That another one was faster is no error.
    async fn round(&mut self) -> Result<(), String> {
        let patience = self.time_left().unwrap_or(self.timing.renew_deadline);
        let round = async {
            let known = match self.written.take() {
                Some(lease) => Some(lease),
                None => self.api.get_opt(&self.candidate_name()).await?,
            };
            let sent_at = self.started.elapsed();
            let parameters = PostParams::default();
            let written = match self.candidate.step(known.as_ref(), sent_at, Timestamp::now()) {
                Step::Create(lease) => self.api.create(&parameters, &lease).await?,
                Step::Replace(lease) => self.api.replace(&self.candidate_name(), &parameters, &lease).await?,
                Step::Wait => return Ok(()),
            };
            self.candidate.written(sent_at);
            self.written = Some(written);
            Ok(())
        };
        match timeout(patience, round).await {
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => Ok(()),
            Ok(result) => result.map_err(|error: kube::Error| error.to_string()),
            Err(_) => Err(format!("no answer within {patience:?}")),
        }
    }

    fn candidate_name(&self) -> String {
        self.lease.rsplit_once('/').map(|(_, name)| name.to_owned()).unwrap_or_default()
    }

    /// How long this process may still act.
    fn time_left(&self) -> Option<Duration> {
        self.candidate.held_until().map(|until| until.saturating_sub(self.started.elapsed()))
    }

    /// Until the next round; not beyond the end of the time to act.
    fn pause(&self) -> Duration {
        self.time_left().map_or(self.timing.retry_period, |left| left.min(self.timing.retry_period))
    }

    /// So that the next one need not wait. If it fails, the next one waits.
    async fn release(&mut self) {
        self.fence.set(None);
        let Some(lease) = self.written.take() else { return };
        let released = self.candidate.released(&lease, Timestamp::now());
        let release = async { self.api.replace(&self.candidate_name(), &PostParams::default(), &released).await };
        match timeout(self.timing.retry_period, release).await {
            Ok(Ok(_)) => tracing::info!(lease = %self.lease, "released"),
            Ok(Err(error)) => tracing::warn!(lease = %self.lease, %error, "not released"),
            Err(_) => tracing::warn!(lease = %self.lease, "not released: no answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[tokio::test]
    async fn a_fence_lets_requests_through_until_the_time_has_come() {
        let answers = tower::service_fn(async |_: http::Request<Body>| {
            let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}"#;
            Ok::<_, BoxError>(http::Response::new(Body::from(pod.as_bytes().to_vec())))
        });
        let fence = Fence::new();
        let pods = Api::<Pod>::namespaced(fence.around(Client::new(answers, "team")), "team");
        let refused = async || pods.get("a").await.is_err_and(|error| format!("{error:?}").contains("RunOut"));
        assert!(refused().await, "never led");
        fence.set(Some(Instant::now() + Duration::from_secs(60)));
        pods.get("a").await.unwrap();
        // As after a long sleep of the process: nothing has told it that it leads no more.
        fence.set(Some(Instant::now()));
        assert!(refused().await, "the time is over");
    }
}
