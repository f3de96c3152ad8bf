//! What goes wrong with Pods, in plain words: a pure function from what the API server says about them to what, where, since when and
//! what to do next. A Pod that is only starting has no failure.

mod container;
mod creation;
mod mount;
mod placement;
mod volume;

use cllm_crds::Failure;
use cllm_crds::conditions::{reasons, types};
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::conditions::Conditions;

pub use container::last_words;
pub use creation::{job_refusal, lacks_pods, refusal};
pub use mount::waits_for_volumes;

/// The label of the Job on its Pods.
pub const JOB_LABEL: &str = "batch.kubernetes.io/job-name";
/// The annotation of the index on the Pods of an Indexed Job.
pub(crate) const INDEX_ANNOTATION: &str = "batch.kubernetes.io/job-completion-index";
/// What passes within this time is part of a start: a scheduler that waits for a claim, a volume that is attached.
pub(crate) const PATIENCE_SECONDS: i64 = 30;
/// A message in a status stays readable.
const LONGEST_DETAIL: usize = 600;

/// Something that went wrong with a Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFailure {
    /// What, where, when.
    pub failure: Failure,
    /// The Job of the Pod, if it is one's.
    pub job: Option<String>,
    /// It still holds; otherwise the Pod has recovered, or another one has taken its place.
    pub is_current: bool,
}

/// Failures of these Pods, those of the youngest Pods first. `events` are those of the Pods that [`waits_for_volumes`] names.
pub fn failures(pods: &[Pod], events: &[Event], now: Timestamp) -> Vec<PodFailure> {
    let mut found: Vec<_> = pods.iter().filter_map(|pod| Some((pod, of_pod(pod, pods, events, now)?))).collect();
    found.sort_by_key(|(pod, _)| (std::cmp::Reverse(created(pod)), pod.name_any()));
    found.into_iter().map(|(_, failure)| failure).collect()
}

/// The newest failure, also of Pods that are gone: what `status.lastFailure` says.
pub fn last(failures: &[PodFailure], previous: Option<&Failure>) -> Option<Failure> {
    let time = |failure: &Failure| failure.time.as_ref().map(|time| time.0);
    // The first of those with the same time: the order of `failures` does not change between two looks.
    let newest = failures.iter().map(|found| &found.failure).rev().max_by_key(|failure| time(failure));
    match (newest, previous) {
        (Some(newest), Some(previous)) if time(previous) > time(newest) => Some(previous.clone()),
        (newest, previous) => newest.or(previous).cloned(),
    }
}

/// The condition `Degraded`: one failure that holds now, in full, and how many more there are.
pub(crate) fn set_degraded(conditions: &mut Conditions, failures: &[PodFailure]) {
    let mut current = failures.iter().filter(|found| found.is_current);
    let Some(first) = current.next() else {
        let message = "No Pod shows a failure.";
        return conditions.set(types::DEGRADED, false, reasons::AS_DECLARED, message);
    };
    let others = match current.count() {
        0 => String::new(),
        1 => " One more Pod has a failure.".to_owned(),
        count => format!(" {count} more Pods have failures."),
    };
    conditions.set(types::DEGRADED, true, &first.failure.reason, format!("{}{others}", sentence(&first.failure)));
}

/// A failure with its Pod and its container.
pub fn sentence(failure: &Failure) -> String {
    let Failure { pod, container, reason: _, exit_code: _, message, time: _ } = failure;
    match (pod, container) {
        (Some(pod), Some(container)) => format!("Pod {pod}, container {container}: {message}"),
        (Some(pod), None) => format!("Pod {pod}: {message}"),
        (None, _) => message.clone(),
    }
}

fn of_pod(pod: &Pod, pods: &[Pod], events: &[Event], now: Timestamp) -> Option<PodFailure> {
    if let Some(lost) = placement::lost(pod, now) {
        return Some(found(pod, lost, true));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    match phase(pod) {
        "Succeeded" => None,
        "Failed" => {
            let failure = placement::ended(pod).or_else(|| container::ended(pod))?;
            // A replica is replaced at once; a Pod of a Job may be the last word until there is another.
            let is_current = job_of(pod).is_some() && !pods.iter().any(|other| replaces(other, pod));
            Some(found(pod, failure, is_current))
        }
        _ => {
            let waiting = placement::unschedulable(pod, now).or_else(|| mount::failed(pod, events, now));
            match container::failed(pod) {
                Some((failure, is_current)) => Some(found(pod, failure, is_current)),
                None => waiting.map(|failure| found(pod, failure, true)),
            }
        }
    }
}

fn found(pod: &Pod, failure: Failure, is_current: bool) -> PodFailure {
    PodFailure { failure, job: job_of(pod), is_current }
}

/// Whether a Pod was made for the same index of the same Job after that one.
fn replaces(other: &Pod, pod: &Pod) -> bool {
    let index = |pod: &Pod| pod.annotations().get(INDEX_ANNOTATION).cloned();
    job_of(other) == job_of(pod) && index(other) == index(pod) && created(other) > created(pod)
}

fn job_of(pod: &Pod) -> Option<String> {
    pod.labels().get(JOB_LABEL).cloned()
}

fn created(pod: &Pod) -> Option<Time> {
    pod.metadata.creation_timestamp.clone()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The status and the time of a condition of a Pod.
fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a k8s_openapi::api::core::v1::PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}

/// Since when the kubelet has had the Pod.
fn placed(pod: &Pod) -> Option<Time> {
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition.status == "True");
    scheduled.and_then(|condition| condition.last_transition_time.clone()).or_else(|| created(pod))
}

fn is_older(time: Option<&Time>, seconds: i64, now: Timestamp) -> bool {
    time.is_some_and(|time| now.as_second() - time.0.as_second() >= seconds)
}

fn failure(pod: &Pod, reason: &str, message: String, time: Option<Time>) -> Failure {
    Failure { pod: Some(pod.name_any()), container: None, reason: reason.to_owned(), exit_code: None, message, time }
}

/// Somebody else's words in the middle of a sentence of ours.
fn detail(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    match text.char_indices().nth(LONGEST_DETAIL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
