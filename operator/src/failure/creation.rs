//! Pods that are not even created: a quota, pod security or a webhook refuses them. A Deployment says so itself, a Job only by Events.

use cllm_crds::Failure;
use cllm_crds::conditions::reasons;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::mount::{first_seen, last_seen};
use super::{PATIENCE_SECONDS, PodFailure, detail, is_older};

/// What keeps a Deployment from making its Pods.
pub fn refusal(deployment: &Deployment) -> Option<PodFailure> {
    let mut conditions = deployment.status.as_ref()?.conditions.iter().flatten();
    let failed = conditions.find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    let said = failed.message.as_deref().unwrap_or_default();
    Some(refused(None, said, failed.last_transition_time.clone()))
}

/// Whether a Job should have a Pod and has none for so long that its Events are worth a look.
pub fn lacks_pods(job: &Job, now: Timestamp) -> bool {
    let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default();
    let status = job.status.as_ref();
    let has_ended = status.is_some_and(|status| {
        let ends = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];
        status.conditions.iter().flatten().any(|condition| ends.contains(&condition.type_.as_str()))
    });
    let active = status.and_then(|status| status.active).unwrap_or_default();
    let since = status.and_then(|status| status.start_time.as_ref()).or(job.metadata.creation_timestamp.as_ref());
    !is_suspended && !has_ended && active == 0 && is_older(since, PATIENCE_SECONDS, now)
}

/// What keeps a Job from making its Pods, by the Events of the Jobs that [`lacks_pods`] names.
pub fn job_refusal(job: &Job, events: &[Event], now: Timestamp) -> Option<PodFailure> {
    if !lacks_pods(job, now) {
        return None;
    }
    let of_job = || events.iter().filter(|event| event.involved_object.uid == job.metadata.uid);
    let is = |event: &Event, word: &str| event.reason.as_deref() == Some(word);
    let made = of_job().filter(|event| is(event, "SuccessfulCreate")).filter_map(last_seen).max();
    let refusals = of_job().filter(|event| is(event, "FailedCreate")).filter(|event| last_seen(event) > made);
    let newest = refusals.max_by_key(|event| first_seen(event))?;
    let said = newest.message.as_deref().unwrap_or_default();
    Some(refused(job.metadata.name.clone(), said, first_seen(newest)))
}

fn refused(job: Option<String>, said: &str, time: Option<Time>) -> PodFailure {
    // The generated name of the Pod is another one at each try.
    let said = without_name(said.strip_prefix("Error creating: ").unwrap_or(said));
    let next = if said.contains("exceeded quota") || said.contains("failed quota") {
        "Raise the ResourceQuota, free some of it, or set smaller resources"
    } else if said.contains("PodSecurity") {
        "Pods of cllm meet the restricted standard; look at what podLabels, podAnnotations or a webhook add"
    } else {
        "Allow it in this namespace, or change the spec"
    };
    let failure = Failure {
        pod: None,
        container: None,
        reason: reasons::PODS_REFUSED.to_owned(),
        exit_code: None,
        message: format!("A Pod may not be created: {}. {next}.", detail(&said)),
        time,
    };
    PodFailure { failure, job, is_current: true }
}

fn without_name(said: &str) -> String {
    let rest = said.strip_prefix("pods \"").and_then(|rest| rest.split_once("\" ").map(|(_, rest)| rest));
    rest.unwrap_or(said).to_owned()
}
