//! What Pods say: their last words, and their `/status` pages. That a page cannot be read is normal.

use std::collections::BTreeMap;

use cllm_crds::status_page::{JobStage, TerminationMessage};
use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use crate::controller::error::Error;
use crate::failure::{self, INDEX_ANNOTATION, JOB_LABEL, PodFailure, last_words};
use crate::model::Replica;
use crate::naming::{FIELD_MANAGER, STAGE_LABEL, TEMPLATE_ANNOTATION};
use crate::pages;
use crate::pod::METRICS_PORT;
use crate::training::stage_of;

/// A replica set of this size says what there is to say.
const MOST_PAGES: usize = 64;
/// One Pod that waits for its volumes says what there is to say of a replica set.
const MOST_EVENT_LISTS: usize = 4;

/// The pages of the running Pods of Jobs that answered and know how far their stage is.
pub(super) async fn pages<P: DeserializeOwned>(client: &reqwest::Client, pods: &[Pod]) -> Vec<P> {
    let knowing = pods.iter().filter(|pod| is_running(pod) && knows_progress(pod));
    let running = knowing.filter_map(pages::address).take(MOST_PAGES);
    join_all(running.map(|address| page(client, address))).await.into_iter().flatten().collect()
}

/// Each shard knows its own; of processes that train together the first one knows that of all.
fn knows_progress(pod: &Pod) -> bool {
    let is_first = pod.annotations().get(INDEX_ANNOTATION).is_none_or(|index| index == "0");
    is_first || stage(pod) == Some(JobStage::Collecting)
}

/// The Pods of a model that are not about to end, each with its page, if it answered, and its refusal.
pub(super) async fn replicas(client: &reqwest::Client, pods: &[Pod]) -> Vec<Replica> {
    let staying = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).take(MOST_PAGES);
    join_all(staying.map(async |pod| Replica {
        template: pod.annotations().get(TEMPLATE_ANNOTATION).cloned(),
        page: match pages::address(pod).filter(|_| is_running(pod)) {
            Some(address) => page(client, address).await,
            None => None,
        },
        refusal: refusal(pod),
    }))
    .await
}

/// What a server says that refuses its input, with exit code 2: starting it again does not help.
fn refusal(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let ends = containers.iter().flat_map(|container| [&container.state, &container.last_state]);
    let refused = ends.flatten().filter_map(|state| state.terminated.as_ref()).find(|end| end.exit_code == 2)?;
    let words = last_words(refused).unwrap_or_else(|| "it ended with exit code 2".to_owned());
    Some(format!("{}.", words.trim_start_matches("error: ")))
}

async fn page<P: DeserializeOwned>(client: &reqwest::Client, address: String) -> Option<P> {
    let url = format!("http://{address}:{METRICS_PORT}/status");
    let answer = async { client.get(&url).send().await?.error_for_status()?.json::<P>().await }.await;
    answer.inspect_err(|error| tracing::debug!(%url, %error, "no status page")).ok()
}

fn is_running(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_some_and(|phase| phase == "Running")
}

/// The Pods with that label that the operator's children made.
pub(super) async fn labelled(client: &Client, namespace: &str, label: &str, name: &str) -> Result<Vec<Pod>, Error> {
    let selector = format!("{label}={name},app.kubernetes.io/managed-by={FIELD_MANAGER}");
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let list = pods.list(&ListParams::default().labels(&selector)).await.map_err(Error::api("list", "pods"))?;
    Ok(list.items)
}

/// What goes wrong with Pods, and with making those of Jobs. Events are read only of what waits without saying for what.
pub(super) async fn failures(
    client: &Client,
    namespace: &str,
    pods: &[Pod],
    jobs: &[Job],
    now: Timestamp,
) -> Result<Vec<PodFailure>, Error> {
    let waiting = pods.iter().filter(|pod| failure::waits_for_volumes(pod, now)).filter_map(ResourceExt::uid);
    let lacking = jobs.iter().filter(|job| failure::lacks_pods(job, now)).filter_map(ResourceExt::uid);
    let mut events = Vec::new();
    for uid in waiting.take(MOST_EVENT_LISTS).chain(lacking) {
        events.extend(events_of(client, namespace, &uid).await?);
    }
    let refusals = jobs.iter().filter_map(|job| failure::job_refusal(job, &events, now));
    Ok(refusals.chain(failure::failures(pods, &events, now)).collect())
}

/// The Events about an object.
pub(super) async fn events_of(client: &Client, namespace: &str, uid: &str) -> Result<Vec<Event>, Error> {
    let api = Api::<Event>::namespaced(client.clone(), namespace);
    let parameters = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    Ok(api.list(&parameters).await.map_err(Error::api("list", "events"))?.items)
}

/// The last words of Pods that ended, by the name of their Job, oldest first.
pub(super) fn termination_messages(pods: &[Pod]) -> BTreeMap<String, Vec<TerminationMessage>> {
    let mut ended: Vec<_> = pods.iter().filter_map(|pod| Some((pod, terminated(pod)?))).collect();
    ended.sort_by_key(|(_, state)| state.finished_at.clone());
    let mut messages = BTreeMap::<String, Vec<TerminationMessage>>::new();
    for (pod, state) in ended {
        let (Some(job), Some(stage)) = (pod.labels().get(JOB_LABEL), stage(pod)) else { continue };
        messages.entry(job.clone()).or_default().extend(message(stage, state));
    }
    messages
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find_map(|container| container.state.as_ref()?.terminated.as_ref())
}

/// The Pod that reads the report again speaks for the last stage.
fn stage(pod: &Pod) -> Option<JobStage> {
    let is_report = pod.labels().get(STAGE_LABEL).is_some_and(|word| word == "report");
    if is_report { Some(JobStage::Evaluating) } else { stage_of(pod.labels()) }
}

/// The message of a trainer; of a program that was killed or crashed, what the kubelet knows.
fn message(stage: JobStage, state: &ContainerStateTerminated) -> Option<TerminationMessage> {
    let text = state.message.as_deref().unwrap_or_default();
    if let Ok(message) = serde_json::from_str::<TerminationMessage>(text) {
        return Some(message);
    }
    if state.exit_code == 0 {
        return None;
    }
    let last_line = last_words(state);
    let reason = state.reason.as_deref().unwrap_or("Error");
    let error = match last_line {
        Some(line) if reason == "Error" => format!("{line} (exit code {})", state.exit_code),
        Some(line) => format!("{reason}: {line} (exit code {})", state.exit_code),
        None if reason == "OOMKilled" => {
            "it needed more memory than its limit: raise resources.limits.memory".to_owned()
        }
        None => format!("{reason}, exit code {}", state.exit_code),
    };
    Some(TerminationMessage {
        stage,
        error: Some(error),
        trajectories: None,
        speedup: None,
        quality: None,
        output: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, finished_at: &str, exit_code: i32, reason: &str, message: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {JOB_LABEL: "text2sql-collect-1", STAGE_LABEL: "collect"}},
            "status": {"containerStatuses": [{
                "name": "trainer", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": exit_code, "reason": reason, "message": message, "finishedAt": finished_at}},
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn a_server_refuses_with_exit_code_2_also_while_it_waits_to_be_started_again() {
        let refused = |exit_code: i32, message: &str| {
            let mut pod = pod("server", "2026-01-01T00:00:00Z", exit_code, "Error", message);
            let container = &mut pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
            container.last_state = container.state.take();
            refusal(&pod)
        };
        let log = "INFO listening\nerror: the model cannot be loaded: /claims/models/a is gone.\n";
        assert_eq!(refused(2, log).unwrap(), "the model cannot be loaded: /claims/models/a is gone.");
        assert_eq!(refused(2, "").unwrap(), "it ended with exit code 2.");
        assert_eq!(refused(1, log), None);
    }

    #[test]
    fn progress_is_that_of_every_shard_and_of_the_first_of_several_processes() {
        for (stage, index, expected) in [
            ("collect", Some("0"), true),
            ("collect", Some("3"), true),
            ("train", Some("0"), true),
            ("train", Some("1"), false),
            ("train", None, true),
            ("evaluate", None, true),
        ] {
            let annotations = index.map(|index| json!({INDEX_ANNOTATION: index}));
            let metadata = json!({"labels": {STAGE_LABEL: stage}, "annotations": annotations});
            let pod: Pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!(knows_progress(&pod), expected, "{stage} {index:?}");
        }
    }

    #[test]
    fn last_words_are_read_oldest_first_and_made_up_where_a_program_had_none() {
        let written =
            json!({"stage": "Collecting", "error": "line 3 of data.jsonl is not JSON: correct it"}).to_string();
        let pods = [
            pod("late", "2026-01-01T00:00:03Z", 2, "Error", &written),
            pod("killed", "2026-01-01T00:00:01Z", 137, "OOMKilled", ""),
            pod("crashed", "2026-01-01T00:00:02Z", 101, "Error", "starting\npanicked at main.rs\n\n"),
            pod("fine", "2026-01-01T00:00:00Z", 0, "Completed", ""),
        ];
        let messages = termination_messages(&pods);
        let errors: Vec<_> =
            messages["text2sql-collect-1"].iter().map(|message| message.error.clone().unwrap()).collect();
        assert_eq!(
            errors,
            [
                "it needed more memory than its limit: raise resources.limits.memory",
                "panicked at main.rs (exit code 101)",
                "line 3 of data.jsonl is not JSON: correct it",
            ]
        );
    }
}
