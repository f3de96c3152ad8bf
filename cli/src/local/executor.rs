//! Runs Jobs: starts what the pure rules of [`super::job`] allow, and enters how the processes end.
//!
//! What it knows of a Job is exactly what `state.json` keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cllm_crds::status_page::{TerminationMessage, TrainerStatus};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::task::JoinSet;

use super::LocalError;
use super::job::{self, End};
use super::launch::{Handle, Host, PodRequest, PortChoice};
use super::state::JobState;
use super::supervise::Ended;

/// The longest wait before a failed process is started again.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The Jobs of this run.
pub(super) struct Executor {
    host: Host,
    jobs: BTreeMap<String, Entry>,
    ends: JoinSet<PodEnd>,
}

/// The last process of a Job that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Its exit code.
    pub exit_code: i32,
    /// Its own sentence, if it left one.
    pub sentence: Option<String>,
    /// Its output.
    pub log: PathBuf,
}

struct Entry {
    job: Job,
    state: JobState,
    active: BTreeMap<u32, Handle>,
    attempts: BTreeMap<u32, u32>,
    not_before: BTreeMap<u32, Instant>,
    deadline: Option<Instant>,
    failure: Option<Failure>,
}

/// A process of a Job that has ended.
pub(super) struct PodEnd {
    job: String,
    index: u32,
    result: std::io::Result<Ended>,
}

impl Executor {
    /// Without Jobs.
    pub(super) fn new(host: Host) -> Self {
        Self { host, jobs: BTreeMap::new(), ends: JoinSet::new() }
    }

    /// Takes a Job in; one that is known already is left alone. `earlier` is what earlier runs know of it.
    pub(super) fn submit(&mut self, job: Job, earlier: Option<&JobState>) {
        let name = job.metadata.name.clone().unwrap_or_default();
        self.jobs.entry(name).or_insert_with(|| Entry {
            state: earlier.cloned().unwrap_or_default(),
            job,
            active: BTreeMap::new(),
            attempts: BTreeMap::new(),
            not_before: BTreeMap::new(),
            deadline: None,
            failure: None,
        });
    }

    /// Starts what may start now, and stops what must not go on.
    pub(super) fn advance(&mut self, time: &Time) -> Result<(), LocalError> {
        let now = Instant::now();
        for (name, entry) in &mut self.jobs {
            let Some(spec) = entry.job.spec.clone() else { continue };
            entry.enforce_deadline(&spec, now, time);
            if entry.state.record.end.is_some() {
                entry.active.values().for_each(|handle| handle.stop.cancel());
                continue;
            }
            let active: BTreeSet<u32> = entry.active.keys().copied().collect();
            for index in job::starts(&spec, &entry.state.record, &active) {
                if entry.not_before.get(&index).is_none_or(|&instant| now >= instant) {
                    start(&self.host, name, entry, &spec, index, &mut self.ends)?;
                    entry.state.record.start_time.get_or_insert_with(|| time.clone());
                }
            }
        }
        Ok(())
    }

    /// Waits for the next process to end; for ever while none runs.
    pub(super) async fn next_end(&mut self) -> PodEnd {
        loop {
            match self.ends.join_next().await {
                Some(Ok(end)) => return end,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Enters how a process ended. While `stopping`, only success counts.
    pub(super) fn enter(&mut self, end: PodEnd, time: &Time, stopping: bool) {
        let Some(entry) = self.jobs.get_mut(&end.job) else { return };
        let Some(handle) = entry.active.remove(&end.index) else { return };
        let exit_code = end.result.map_or(1, |ended| ended.exit_code);
        if stopping && exit_code != 0 {
            return;
        }
        let message = read_message(&handle);
        if exit_code != 0 {
            let attempts = entry.attempts.entry(end.index).or_default();
            *attempts += 1;
            entry.not_before.insert(end.index, Instant::now() + backoff(*attempts));
            let sentence = message.as_ref().and_then(|message| message.error.clone());
            entry.failure = Some(Failure { exit_code, sentence, log: handle.log });
        }
        if let Some(message) = message {
            entry.state.messages.insert(end.index, message);
        }
        if let (Some(spec), None) = (&entry.job.spec, &entry.state.record.end) {
            job::enter_exit(spec, &mut entry.state.record, end.index, exit_code, time);
        }
    }

    /// The Jobs among `names` as a cluster would show them.
    pub(super) fn observe(&self, names: &BTreeSet<String>) -> Vec<Job> {
        let entries = self.jobs.iter().filter(|(name, _)| names.contains(*name));
        entries.map(|(_, entry)| job::with_status(&entry.job, &entry.state.record, entry.active.len())).collect()
    }

    /// The last words of the processes of the Jobs among `names`, by Job, in the order of their indexes.
    pub(super) fn messages(&self, names: &BTreeSet<String>) -> BTreeMap<String, Vec<TerminationMessage>> {
        let entries =
            self.jobs.iter().filter(|(name, entry)| names.contains(*name) && !entry.state.messages.is_empty());
        entries.map(|(name, entry)| (name.clone(), entry.state.messages.values().cloned().collect())).collect()
    }

    /// The `/status` pages of the running processes of the Jobs among `names`; those that do not answer are left out.
    pub(super) async fn pages(&self, names: &BTreeSet<String>, client: &reqwest::Client) -> Vec<TrainerStatus> {
        let entries = self.jobs.iter().filter(|(name, _)| names.contains(*name));
        let urls = entries.flat_map(|(_, entry)| entry.active.values()).filter_map(Handle::status_url);
        let pages = futures::future::join_all(urls.map(|url| fetch(client, url))).await;
        pages.into_iter().flatten().collect()
    }

    /// What every Job has come to, for `state.json`.
    pub(super) fn states(&self) -> impl Iterator<Item = (&String, &JobState)> {
        self.jobs.iter().map(|(name, entry)| (name, &entry.state))
    }

    /// The last failed process of a Job among `names` that will not be tried again.
    pub(super) fn failure(&self, names: &BTreeSet<String>) -> Option<&Failure> {
        let mut entries = self.jobs.iter().filter(|(name, _)| names.contains(*name)).map(|(_, entry)| entry);
        entries.find(|entry| matches!(entry.state.record.end, Some(End::Failed { .. })))?.failure.as_ref()
    }

    /// Asks all processes to end.
    pub(super) fn stop(&self) {
        self.handles().for_each(|handle| handle.stop.cancel());
    }

    /// Ends all processes without delay.
    pub(super) fn kill(&self) {
        self.handles().for_each(|handle| handle.group.kill());
    }

    /// Whether processes run.
    pub(super) fn is_idle(&self) -> bool {
        self.handles().next().is_none()
    }

    fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.jobs.values().flat_map(|entry| entry.active.values())
    }
}

impl Entry {
    fn enforce_deadline(&mut self, spec: &JobSpec, now: Instant, time: &Time) {
        let Some(seconds) = spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok()) else {
            return;
        };
        let deadline = *self.deadline.get_or_insert(now + Duration::from_secs(seconds));
        if now >= deadline && self.state.record.end.is_none() {
            self.state.record.end =
                Some(job::failed("DeadlineExceeded", format!("was active longer than {seconds} seconds")));
            self.state.record.completion_time = Some(time.clone());
        }
    }
}

fn start(
    host: &Host,
    name: &str,
    entry: &mut Entry,
    spec: &JobSpec,
    index: u32,
    ends: &mut JoinSet<PodEnd>,
) -> Result<(), LocalError> {
    let indexed = job::is_indexed(spec);
    let request = PodRequest {
        name: if indexed { format!("{name}-{index}") } else { name.to_owned() },
        template: &spec.template,
        completion_index: indexed.then_some(index),
        http_port: PortChoice::Free,
    };
    let running = host.launch(&request)?;
    entry.active.insert(index, running.handle);
    let (job, end) = (name.to_owned(), running.end);
    ends.spawn(async move { PodEnd { job, index, result: end.await } });
    Ok(())
}

fn backoff(attempts: u32) -> Duration {
    Duration::from_secs(1 << attempts.saturating_sub(1).min(5)).min(LONGEST_BACKOFF)
}

fn read_message(handle: &Handle) -> Option<TerminationMessage> {
    serde_json::from_str(&std::fs::read_to_string(&handle.termination_message).ok()?).ok()
}

async fn fetch(client: &reqwest::Client, url: String) -> Option<TrainerStatus> {
    client.get(url).send().await.ok()?.json().await.ok()
}
