//! Which Job is to be created now, and what is to be changed on a running one: one stage at a time, and none after the end.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use crate::resources::StagedJob;
use crate::training::outcome::find;
use crate::training::{Observed, StageOutcome, ValidTraining, job, outcome};

/// The Jobs to create now: the first stage that has not ended well, or at last the one that reads the report again, if its Job is
/// missing. Nothing while suspended or after the end.
pub fn due(training: &ValidTraining, observed: &Observed) -> Vec<Job> {
    if training.is_terminal || training.spec.suspend {
        return Vec::new();
    }
    match current(training, observed) {
        Some((staged, StageOutcome::Missing)) => vec![staged.job],
        None if !has_result(training, observed) => job::report(training)
            .filter(|report| find(&observed.jobs, report.metadata.name.as_deref().unwrap_or_default()).is_none())
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether the summary of the last stage has been read, now or before.
fn has_result(training: &ValidTraining, observed: &Observed) -> bool {
    training.has_result || observed.messages.values().flatten().any(|message| message.output.is_some())
}

/// What is to be changed on Jobs, as merge patches: the running one follows the spec, and what people took away from any of them is put
/// back. Whether and how wide a Job in a queue runs belongs to Kueue and is left alone.
pub fn changes(training: &ValidTraining, observed: &Observed) -> Vec<(String, Value)> {
    let running = match current(training, observed) {
        Some((staged, StageOutcome::Running { .. })) if !training.is_terminal => staged.job.metadata.name,
        _ => None,
    };
    let of_job = |declared: Job| {
        let name = declared.metadata.name.clone().unwrap_or_default();
        let live = find(&observed.jobs, &name)?;
        let mut change = Map::new();
        let metadata = metadata_change(&declared, live);
        change.extend((!metadata.is_empty()).then(|| ("metadata".to_owned(), Value::Object(metadata))));
        if running.as_ref() == Some(&name) {
            let spec = spec_change(training, &declared, live);
            change.extend((!spec.is_empty()).then(|| ("spec".to_owned(), Value::Object(spec))));
        }
        (!change.is_empty()).then(|| (name, Value::Object(change)))
    };
    job::jobs(training).into_iter().filter_map(|staged| of_job(staged.job)).collect()
}

/// Labels and the owner reference, if they are gone.
fn metadata_change(declared: &Job, live: &Job) -> Map<String, Value> {
    let mut change = Map::new();
    let is_missing = |(key, value): &(&String, &String)| live.labels().get(*key) != Some(*value);
    let labels: Map<_, _> =
        declared.labels().iter().filter(is_missing).map(|(key, value)| (key.clone(), json!(value))).collect();
    if !labels.is_empty() {
        change.insert("labels".to_owned(), Value::Object(labels));
    }
    let is_owned = |owner: &OwnerReference| live.owner_references().iter().any(|found| found.uid == owner.uid);
    if !declared.owner_references().iter().all(is_owned) {
        change.insert("ownerReferences".to_owned(), json!(declared.owner_references()));
    }
    change
}

/// The fields of a Job that can change once it exists.
fn spec_change(training: &ValidTraining, declared: &Job, live: &Job) -> Map<String, Value> {
    let (Some(declared), Some(live)) = (&declared.spec, &live.spec) else { return Map::new() };
    let mut fields = vec![
        ("backoffLimit", json!(declared.backoff_limit), json!(live.backoff_limit)),
        ("activeDeadlineSeconds", json!(declared.active_deadline_seconds), json!(live.active_deadline_seconds)),
        ("ttlSecondsAfterFinished", Value::Null, json!(live.ttl_seconds_after_finished)),
    ];
    if training.queue_labels.is_empty() {
        let is_suspended = live.suspend.unwrap_or_default();
        fields.push(("suspend", json!(training.spec.suspend), json!(is_suspended)));
    }
    if training.queue_labels.is_empty() && declared.parallelism.is_some() {
        fields.push(("parallelism", json!(declared.parallelism), json!(live.parallelism)));
    }
    fields
        .into_iter()
        .filter(|(_, wanted, found)| wanted != found)
        .map(|(name, wanted, _)| (name.to_owned(), wanted))
        .collect()
}

/// The first stage that has not ended well, and what became of it; none when all did.
pub(super) fn current(training: &ValidTraining, observed: &Observed) -> Option<(StagedJob, StageOutcome)> {
    job::jobs(training)
        .into_iter()
        .map(|staged| {
            let outcome = outcome(training, &staged, observed);
            (staged, outcome)
        })
        .find(|(_, outcome)| *outcome != StageOutcome::Complete)
}
