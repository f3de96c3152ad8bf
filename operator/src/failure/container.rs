//! Failures of containers: an image that cannot be pulled, a configuration that is not there, a program that ends badly.

use cllm_crds::Failure;
use cllm_crds::conditions::reasons;
use cllm_crds::status_page::TerminationMessage;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::volume::with_names;
use super::{detail, failure, job_of, placed};
use crate::naming::STAGE_LABEL;
use crate::training::EXIT_INTERRUPTED;

const OUT_OF_MEMORY: &str = "OOMKilled";
const FIRST_SIGNAL: i32 = 128;

/// What is wrong with the containers of a Pod that has not ended, and whether it still is.
pub(super) fn failed(pod: &Pod) -> Option<(Failure, bool)> {
    statuses(pod).find_map(|(status, is_init)| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        let word = waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default();
        let said = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
        if let Some((reason, message)) = not_started(status, word, said) {
            return Some((of_container(pod, status, reason, message, placed(pod)), true));
        }
        let state = ended_badly(pod, status, word == "CrashLoopBackOff")?;
        // Between two crashes a program runs; it has recovered when it is ready (or, before the others start, done).
        Some((of_end(pod, status, state, is_init), !status.ready))
    })
}

/// What ended a Pod.
pub(super) fn ended(pod: &Pod) -> Option<Failure> {
    statuses(pod).find_map(|(status, is_init)| {
        let state = ended_badly(pod, status, false)?;
        Some(of_end(pod, status, state, is_init))
    })
}

/// When the last of the containers ended.
pub(super) fn finished(pod: &Pod) -> Option<Time> {
    statuses(pod).filter_map(|(status, _)| status.state.as_ref()?.terminated.as_ref()?.finished_at.clone()).max()
}

/// What a program said at its end: the sentence of a trainer, or the last line of its log. Absent when it said nothing.
pub fn last_words(state: &ContainerStateTerminated) -> Option<String> {
    let text = state.message.as_deref().unwrap_or_default();
    if let Ok(message) = serde_json::from_str::<TerminationMessage>(text) {
        return message.error.as_deref().map(detail);
    }
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(detail)
}

/// Init containers first, as they run.
fn statuses(pod: &Pod) -> impl Iterator<Item = (&ContainerStatus, bool)> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref()).into_iter().flatten();
    let main = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    init.map(|status| (status, true)).chain(main.map(|status| (status, false)))
}

/// A container that the kubelet cannot start, by the word it waits with.
fn not_started(status: &ContainerStatus, word: &str, said: &str) -> Option<(&'static str, String)> {
    let image = &status.image;
    match word {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Some((
            reasons::IMAGE_PULL_FAILED,
            format!(
                "Image {image} cannot be pulled{}. Correct spec.image, or name credentials in spec.imagePullSecrets.",
                cause_of_pull(said).map(|cause| format!(": {cause}")).unwrap_or_default()
            ),
        )),
        "CreateContainerConfigError" => Some((
            reasons::CONTAINER_CONFIG_ERROR,
            format!("{}. Create what is missing, or correct its name in the spec.", sentence_case(&detail(said))),
        )),
        "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => Some((
            reasons::CONTAINER_NOT_STARTED,
            format!(
                "{word}: {}. Check that spec.image is an image of cllm for this processor, and spec.runtimeClassName.",
                detail(said)
            ),
        )),
        _ => None,
    }
}

/// Why an image cannot be pulled. The kubelet alternates between the error and `Back-off pulling image "…": ErrImagePull: <the error>`;
/// a status that followed it would be written at each turn.
fn cause_of_pull(said: &str) -> Option<String> {
    let cause = match said.strip_prefix("Back-off pulling image ") {
        Some(rest) => rest.split_once(": ErrImagePull: ")?.1,
        None => said,
    };
    Some(detail(cause)).filter(|cause| !cause.is_empty())
}

/// The end of a container that was not meant: of this run, or of the one before. A program that should go on may not end at all.
fn ended_badly<'a>(
    pod: &Pod,
    status: &'a ContainerStatus,
    also_without_error: bool,
) -> Option<&'a ContainerStateTerminated> {
    let now = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let state = now.or(before)?;
    let is_interrupted = job_of(pod).is_some() && state.exit_code == EXIT_INTERRUPTED;
    (!is_interrupted && (state.exit_code != 0 || also_without_error)).then_some(state)
}

fn of_end(pod: &Pod, status: &ContainerStatus, state: &ContainerStateTerminated, is_init: bool) -> Failure {
    let is_out_of_memory = state.reason.as_deref() == Some(OUT_OF_MEMORY);
    let reason = match (is_out_of_memory, is_init) {
        (true, _) => reasons::OUT_OF_MEMORY,
        (false, true) => reasons::INIT_CONTAINER_FAILED,
        (false, false) => reasons::CONTAINER_FAILED,
    };
    let message = if is_out_of_memory {
        out_of_memory(pod, status)
    } else {
        with_names(pod, &status.name, &end(pod, status, state))
    };
    let failure = of_container(pod, status, reason, message, state.finished_at.clone());
    Failure { exit_code: Some(state.exit_code), ..failure }
}

fn out_of_memory(pod: &Pod, status: &ContainerStatus) -> String {
    let limit = container(pod, &status.name).and_then(|container| {
        container.resources.as_ref()?.limits.as_ref()?.get("memory").map(|limit| limit.0.clone())
    });
    match limit {
        Some(limit) => format!("It needed more memory than its limit of {limit}: {}.", more_memory(pod)),
        None => "It needed more memory than its node has: set resources.requests.memory to what it needs.".to_owned(),
    }
}

/// A Job is never changed, and a training has one of each stage.
fn more_memory(pod: &Pod) -> String {
    let stage = match pod.labels().get(STAGE_LABEL).map(String::as_str) {
        Some("adapt") => "adaptation",
        Some("collect") => "trajectories",
        Some("train") => "training",
        Some("evaluate" | "report") => "evaluation",
        _ => return "raise resources.limits.memory".to_owned(),
    };
    format!(
        "raise resources.limits.memory in spec.{stage}, or in spec where the stage has none of its own, and train under another name"
    )
}

fn end(pod: &Pod, status: &ContainerStatus, state: &ContainerStateTerminated) -> String {
    let code = state.exit_code;
    let is_ours = state.message.as_deref().is_some_and(|text| serde_json::from_str::<TerminationMessage>(text).is_ok());
    match last_words(state) {
        // A trainer says itself what to do.
        Some(words) if is_ours => format!("{} (exit code {code}).", sentence_case(&words)),
        Some(words) => format!("Exit code {code}: {words}. {}", look_at_log(pod, status)),
        None if code > FIRST_SIGNAL && state.reason.as_deref() != Some("StartError") => {
            let signal = code - FIRST_SIGNAL;
            format!(
                "Ended by signal {signal} (exit code {code}): by a probe, the node or a person. {}",
                look_at_log(pod, status)
            )
        }
        None => format!("Exit code {code}, without a word. {}", look_at_log(pod, status)),
    }
}

fn look_at_log(pod: &Pod, status: &ContainerStatus) -> String {
    let is_running_again =
        status.restart_count > 0 && status.state.as_ref().is_some_and(|state| state.terminated.is_none());
    let previous = if is_running_again { " --previous" } else { "" };
    let namespace = pod.namespace().unwrap_or_default();
    format!("Look at its log: kubectl logs -n {namespace} {} -c {}{previous}.", pod.name_any(), status.name)
}

pub(super) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|container| container.name == name)
}

fn of_container(pod: &Pod, status: &ContainerStatus, reason: &str, message: String, time: Option<Time>) -> Failure {
    Failure { container: Some(status.name.clone()), ..failure(pod, reason, message, time) }
}

/// The first letter in upper case, as a sentence begins.
fn sentence_case(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
