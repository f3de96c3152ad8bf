//! Runs the Deployments of models, one replica each: restarts a server that ends after it was ready, gives up on one that never was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cllm_crds::status_page::ServerStatus;
use cllm_operator::naming::TEMPLATE_ANNOTATION;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};
use tokio::task::JoinSet;

use super::LocalError;
use super::launch::{Handle, Host, PodRequest, PortChoice};
use super::supervise::{Ended, Phase};

/// Restarts in a row after which a server is given up.
const MOST_RESTARTS: u32 = 5;

/// The servers of this run, by the name of their Deployment.
pub(super) struct Servers {
    host: Host,
    entries: BTreeMap<String, Entry>,
    ends: JoinSet<ServerEnd>,
}

struct Entry {
    deployment: Deployment,
    http_port: PortChoice,
    running: Option<Handle>,
    was_ready: bool,
    restarts: u32,
    not_before: Instant,
}

/// A server that has ended.
pub(super) struct ServerEnd {
    name: String,
    result: std::io::Result<Ended>,
}

/// A server that will not be started again.
#[derive(Clone, Debug)]
pub(super) struct ServerFailure {
    /// A sentence.
    pub sentence: String,
    /// Its output.
    pub log: PathBuf,
}

impl Servers {
    /// Without servers.
    pub(super) fn new(host: Host) -> Self {
        Self { host, entries: BTreeMap::new(), ends: JoinSet::new() }
    }

    /// Takes a Deployment in; one that is known already is left alone. The port is that of its API.
    pub(super) fn submit(&mut self, name: &str, deployment: Deployment, http_port: PortChoice) {
        self.entries.entry(name.to_owned()).or_insert_with(|| Entry {
            deployment,
            http_port,
            running: None,
            was_ready: false,
            restarts: 0,
            not_before: Instant::now(),
        });
    }

    /// Starts what should run and does not.
    pub(super) fn advance(&mut self) -> Result<(), LocalError> {
        for (name, entry) in &mut self.entries {
            entry.was_ready |= entry.phase() == Some(Phase::Ready);
            let Some(spec) = &entry.deployment.spec else { continue };
            if entry.running.is_some() || Instant::now() < entry.not_before {
                continue;
            }
            let request = PodRequest {
                name: name.clone(),
                template: &spec.template,
                completion_index: None,
                http_port: entry.http_port,
            };
            let running = self.host.launch(&request)?;
            // a restarted server keeps its address
            if let Some(&port) = running.handle.ports.get("http") {
                entry.http_port = PortChoice::Preferably(port);
            }
            entry.running = Some(running.handle);
            let (name, end) = (name.clone(), running.end);
            self.ends.spawn(async move { ServerEnd { name, result: end.await } });
        }
        Ok(())
    }

    /// Waits for the next server to end; for ever while none runs.
    pub(super) async fn next_end(&mut self) -> ServerEnd {
        loop {
            match self.ends.join_next().await {
                Some(Ok(end)) => return end,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Enters how a server ended; a failure when it will not be started again.
    pub(super) fn enter(&mut self, end: ServerEnd) -> Option<ServerFailure> {
        let entry = self.entries.get_mut(&end.name)?;
        let handle = entry.running.take()?;
        entry.was_ready |= *handle.phase.borrow() == Phase::Ready;
        entry.restarts += 1;
        entry.not_before = Instant::now() + Duration::from_secs(1 << entry.restarts.min(5));
        let how = describe(&end.result);
        let bad_input = end.result.is_ok_and(|ended| ended.exit_code == 2);
        if entry.was_ready && !bad_input && entry.restarts <= MOST_RESTARTS {
            return None;
        }
        let when = if entry.was_ready { "again and again" } else { "before it was ready" };
        Some(ServerFailure { sentence: format!("the server of {} ended {when}: {how}", end.name), log: handle.log })
    }

    /// The Deployment of that name as a cluster would show it, once it was taken in.
    pub(super) fn observe(&self, name: &str) -> Option<Deployment> {
        let entry = self.entries.get(name)?;
        let count = |is_so: bool| is_so.then_some(1);
        let is_ready = entry.phase() == Some(Phase::Ready);
        let status = DeploymentStatus {
            replicas: count(entry.running.is_some()),
            updated_replicas: count(entry.running.is_some()),
            ready_replicas: count(is_ready),
            available_replicas: count(is_ready),
            ..DeploymentStatus::default()
        };
        Some(Deployment { status: Some(status), ..entry.deployment.clone() })
    }

    /// The hash of the template that a server was made from.
    pub(super) fn template(&self, name: &str) -> Option<String> {
        let template = &self.entries.get(name)?.deployment.spec.as_ref()?.template;
        template.metadata.as_ref()?.annotations.as_ref()?.get(TEMPLATE_ANNOTATION).cloned()
    }

    /// The port of its `OpenAI` API.
    pub(super) fn http_port(&self, name: &str) -> Option<u16> {
        self.entries.get(name)?.running.as_ref()?.ports.get("http").copied()
    }

    /// The `/status` page of a server, if it answers.
    pub(super) async fn page(&self, name: &str, client: &reqwest::Client) -> Option<ServerStatus> {
        let url = self.entries.get(name)?.running.as_ref()?.status_url()?;
        client.get(url).send().await.ok()?.json().await.ok()
    }

    /// Asks all servers to end.
    pub(super) fn stop(&self) {
        self.handles().for_each(|handle| handle.stop.cancel());
    }

    /// Ends all servers without delay.
    pub(super) fn kill(&self) {
        self.handles().for_each(|handle| handle.group.kill());
    }

    /// Whether servers run.
    pub(super) fn is_idle(&self) -> bool {
        self.handles().next().is_none()
    }

    fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.entries.values().filter_map(|entry| entry.running.as_ref())
    }
}

impl Entry {
    fn phase(&self) -> Option<Phase> {
        self.running.as_ref().map(|handle| *handle.phase.borrow())
    }
}

fn describe(result: &std::io::Result<Ended>) -> String {
    match result {
        Ok(Ended { by_probe: Some(probe), .. }) => format!("its {probe} probe failed"),
        Ok(Ended { exit_code, .. }) => format!("exit code {exit_code}"),
        Err(error) => error.to_string(),
    }
}
