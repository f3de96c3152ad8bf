//! Reconciles a CllmTraining: dereference, validate, render, apply, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cllm_crds::conditions::types;
use cllm_crds::status_page::TrainerStatus;
use cllm_crds::{CllmTraining, CllmTrainingStatus};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use crate::conditions::is_true;
use crate::controller::apply::Applier;
use crate::controller::context::Context;
use crate::controller::error::{Error, Handling};
use crate::controller::{pods, status, telemetry};
use crate::events;
use crate::naming::{OwnerKey, TRAINING_LABEL};
use crate::training::{
    Expiry, Observed, ValidTraining, changes, delayed, due, expiry, refused, render, replicated, together, validate,
};

const KIND: &str = "CllmTraining";
/// A running Pod's page is read this often.
const RUNNING_INTERVAL: Duration = Duration::from_secs(10);
/// Changes are watched; this only heals what a watch missed.
const RESTING_INTERVAL: Duration = Duration::from_secs(600);

/// One reconciliation.
pub(super) async fn reconcile(training: Arc<CllmTraining>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let result = Box::pin(observe_and_act(&training, &context)).await;
    let outcome = result.as_ref().map_or_else(Error::word, |_| "succeeded");
    context.metrics.observe(KIND, outcome, started.elapsed());
    if result.is_ok() {
        context.succeeded(&key(&training));
    }
    result
}

/// What happens after an error.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it like this")]
pub(super) fn error_policy(training: Arc<CllmTraining>, error: &Error, context: Arc<Context>) -> Action {
    let key = key(&training);
    tracing::warn!(training = %key, %error, "not reconciled");
    context.retry(&key, error)
}

fn key(training: &CllmTraining) -> String {
    format!("{KIND} {}/{}", training.namespace().unwrap_or_default(), training.name_any())
}

async fn observe_and_act(cached: &CllmTraining, context: &Context) -> Result<Action, Error> {
    let namespace = cached.namespace().ok_or(Error::Nameless)?;
    let api = Api::<CllmTraining>::namespaced(context.client.clone(), &namespace);
    // The cache may be older than our own last write to the status.
    let name = cached.name_any();
    let training = api.get_opt(&name).await.map_err(Error::api("read", format!("{KIND} {name}")))?;
    let Some(training) = training.filter(|training| training.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let previous = training.status.clone().unwrap_or_default();
    let result = Box::pin(steps(&api, &training, &previous, &namespace, context)).await;
    if let Err(error) = &result {
        let (handling, generation) = (error.handling(), training.metadata.generation);
        let tell = if let Handling::Stalled { .. } = handling { refused } else { delayed };
        let next = tell(&previous, generation, (handling.reason(), error.to_string()), Timestamp::now());
        status::write(&api, &training, (&previous, &next), events::of_training, context).await?;
    }
    result
}

/// The five steps.
async fn steps(
    api: &Api<CllmTraining>,
    training: &CllmTraining,
    previous: &CllmTrainingStatus,
    namespace: &str,
    context: &Context,
) -> Result<Action, Error> {
    let applier = applier(training, namespace, context);
    let mut observed = dereference(&applier, namespace, training, context).await?;
    let mut valid = validate(training, &context.images)?;
    valid.remember(&observed.jobs);
    if is_terminal(previous) {
        let next = crate::training::status(&valid, &observed, previous, Timestamp::now());
        status::write(api, training, (previous, &next), events::of_training, context).await?;
        return clean_up(&applier, training, &next).await;
    }
    let mut previous = previous.clone();
    if previous.image.is_none() {
        // The image is pinned before the first Job exists.
        let pinned = crate::training::status(&valid, &observed, &previous, Timestamp::now());
        status::write(api, training, (&previous, &pinned), events::of_training, context).await?;
        previous = pinned;
    }
    applier.training(render(&valid)).await?;
    observed.claims = applier.claims(&replicated(&valid)).await?;
    start_and_change_jobs(&applier, &valid, &mut observed).await?;
    let next = crate::training::status(&valid, &observed, &previous, Timestamp::now());
    let next = telemetry::settle_training(next, &previous);
    status::write(api, training, (&previous, &next), events::of_training, context).await?;
    let is_resting = is_terminal(&next) || training.spec.suspend;
    Ok(if is_terminal(&next) && training.spec.ttl_seconds_after_finished.is_some() {
        // The end stands in the status now; the next look cleans up.
        Action::requeue(Duration::ZERO)
    } else {
        Action::requeue(if is_resting { RESTING_INTERVAL } else { RUNNING_INTERVAL })
    })
}

/// After the end, when that stands in the status.
async fn clean_up(applier: &Applier, training: &CllmTraining, status: &CllmTrainingStatus) -> Result<Action, Error> {
    match expiry(&training.spec, status, Timestamp::now()) {
        Expiry::Never => {}
        Expiry::In(left) => return Ok(Action::requeue(left.min(RESTING_INTERVAL))),
        Expiry::Now => applier.remove_workings().await?,
    }
    Ok(Action::requeue(RESTING_INTERVAL))
}

fn applier(training: &CllmTraining, namespace: &str, context: &Context) -> Applier {
    let owner = OwnerKey { label: TRAINING_LABEL, name: training.name_any(), uid: training.uid().unwrap_or_default() };
    Applier::new(context.client.clone(), namespace, owner)
}

fn is_terminal(status: &CllmTrainingStatus) -> bool {
    [types::COMPLETE, types::FAILED].iter().any(|type_| is_true(&status.conditions, type_))
}

/// What exists: Jobs, the last words of Pods, the page of a running one.
async fn dereference(
    applier: &Applier,
    namespace: &str,
    training: &CllmTraining,
    context: &Context,
) -> Result<Observed, Error> {
    let jobs = applier.children::<Job>().await?;
    let pods = pods::labelled(&context.client, namespace, TRAINING_LABEL, &training.name_any()).await?;
    let is_of_our_job = |pod: &Pod| {
        pod.owner_references().iter().any(|owner| jobs.iter().any(|job| job.metadata.uid.as_ref() == Some(&owner.uid)))
    };
    let pods: Vec<_> = pods.into_iter().filter(is_of_our_job).collect();
    let page = together(pods::pages::<TrainerStatus>(&context.pages, &pods).await);
    let failures = pods::failures(&context.client, namespace, &pods, &jobs, Timestamp::now()).await?;
    Ok(Observed { messages: pods::termination_messages(&pods), page, failures, jobs, claims: Vec::new() })
}

async fn start_and_change_jobs(applier: &Applier, valid: &ValidTraining, observed: &mut Observed) -> Result<(), Error> {
    for job in due(valid, observed) {
        tracing::info!(job = %job.name_any(), "creating");
        applier.create(&job).await?;
        observed.jobs.push(job);
    }
    for (name, change) in changes(valid, observed) {
        applier.change(&name, &change).await?;
    }
    Ok(())
}
