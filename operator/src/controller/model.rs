//! Reconciles a CllmModel: dereference, validate, render, apply, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cllm_crds::{CllmModel, CllmModelStatus, CllmTraining};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use crate::controller::apply::Applier;
use crate::controller::context::Context;
use crate::controller::error::{Error, Handling};
use crate::controller::{pods, status, telemetry};
use crate::events;
use crate::failure::PodFailure;
use crate::model::{
    Decision, ModelReference, Observed, Replica, Resolution, TrainingQuery, ValidModel, decide, delayed, refused,
    render, replicated, validate,
};
use crate::naming::{MODEL_LABEL, OwnerKey};

const KIND: &str = "CllmModel";
/// The replicas' pages are read this often.
const SERVING_INTERVAL: Duration = Duration::from_secs(30);
/// Changes are watched; this only heals what a watch missed.
const RESTING_INTERVAL: Duration = Duration::from_secs(600);

/// One reconciliation.
pub(super) async fn reconcile(model: Arc<CllmModel>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let result = Box::pin(observe_and_act(&model, &context)).await;
    let outcome = result.as_ref().map_or_else(Error::word, |_| "succeeded");
    context.metrics.observe(KIND, outcome, started.elapsed());
    if result.is_ok() {
        context.succeeded(&key(&model));
    }
    result
}

/// What happens after an error.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it like this")]
pub(super) fn error_policy(model: Arc<CllmModel>, error: &Error, context: Arc<Context>) -> Action {
    let key = key(&model);
    tracing::warn!(model = %key, %error, "not reconciled");
    context.retry(&key, error)
}

fn key(model: &CllmModel) -> String {
    format!("{KIND} {}/{}", model.namespace().unwrap_or_default(), model.name_any())
}

async fn observe_and_act(cached: &CllmModel, context: &Context) -> Result<Action, Error> {
    let namespace = cached.namespace().ok_or(Error::Nameless)?;
    let api = Api::<CllmModel>::namespaced(context.client.clone(), &namespace);
    // The cache may be older than our own last write to the status.
    let name = cached.name_any();
    let model = api.get_opt(&name).await.map_err(Error::api("read", format!("{KIND} {name}")))?;
    let Some(model) = model.filter(|model| model.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    let previous = model.status.clone().unwrap_or_default();
    let result = Box::pin(steps(&api, &model, &previous, &namespace, context)).await;
    if let Err(error) = &result {
        let (handling, generation, now) = (error.handling(), model.metadata.generation, Timestamp::now());
        let why = (handling.reason(), error.to_string());
        let next = if let Handling::Stalled { .. } = handling {
            refused(&previous, generation, why, now)
        } else {
            // What could not be changed still runs, or no longer does.
            let deployment = only(applier(&model, &namespace, context).children::<Deployment>().await?);
            delayed(&previous, generation, deployment.as_ref(), why, now)
        };
        status::write(&api, &model, (&previous, &next), events::of_model, context).await?;
    }
    result
}

/// The five steps.
async fn steps(
    api: &Api<CllmModel>,
    model: &CllmModel,
    previous: &CllmModelStatus,
    namespace: &str,
    context: &Context,
) -> Result<Action, Error> {
    let applier = applier(model, namespace, context);
    let autoscaler = if model.spec.autoscaling.is_some() { only(applier.children().await?) } else { None };
    let valid = validate(model, &context.images)?.holding(model, autoscaler.as_ref());
    let trainings = dereference_trainings(&valid, namespace, context).await?;
    let pods = pods::labelled(&context.client, namespace, MODEL_LABEL, &model.name_any()).await?;
    let replicas = pods::replicas(&context.pages, &pods).await;
    let failures = pods::failures(&context.client, namespace, &pods, &[], Timestamp::now()).await?;
    let decision = decide(&valid, &trainings, &replicas);
    let observed = Box::pin(act(&applier, model, &valid, &decision, (replicas, failures))).await?;
    let observed = Observed { metrics_api: context.metrics_api.borrow().clone(), ..observed };
    let next = crate::model::status(&valid, &decision, &observed, previous, Timestamp::now());
    let next = telemetry::settle_model(next, previous);
    status::write(api, model, (previous, &next), events::of_model, context).await?;
    let is_serving = matches!(decision.resolution, Resolution::Resolved(_)) && valid.replicas() > 0;
    Ok(Action::requeue(if is_serving { SERVING_INTERVAL } else { RESTING_INTERVAL }))
}

/// Brings the children to what was decided; a paused model's are only looked at.
async fn act(
    applier: &Applier,
    model: &CllmModel,
    valid: &ValidModel,
    decision: &Decision,
    (replicas, failures): (Vec<Replica>, Vec<PodFailure>),
) -> Result<Observed, Error> {
    match &decision.resolution {
        Resolution::Waiting { .. } => Ok(Observed::default()),
        Resolution::Resolved(checkpoint) if model.spec.paused => Ok(Observed {
            deployment: only(applier.children::<Deployment>().await?),
            autoscaler: only(applier.children::<HorizontalPodAutoscaler>().await?),
            replicas,
            failures,
            claims: applier.claims(&[replicated(valid, checkpoint)]).await?,
            ..Observed::default()
        }),
        Resolution::Resolved(checkpoint) => {
            let applied = Box::pin(applier.model(render(valid, checkpoint))).await?;
            let (deployment, autoscaler) = (Some(applied.deployment), applied.autoscaler);
            let claims = applier.claims(&[replicated(valid, checkpoint)]).await?;
            Ok(Observed { deployment, autoscaler, replicas, failures, claims, ..Observed::default() })
        }
    }
}

/// A model has one child of each kind, but for a moment.
fn only<K>(children: Vec<K>) -> Option<K> {
    children.into_iter().next()
}

fn applier(model: &CllmModel, namespace: &str, context: &Context) -> Applier {
    let owner = OwnerKey { label: MODEL_LABEL, name: model.name_any(), uid: model.uid().unwrap_or_default() };
    Applier::new(context.client.clone(), namespace, owner)
}

async fn dereference_trainings(
    valid: &ValidModel,
    namespace: &str,
    context: &Context,
) -> Result<Vec<CllmTraining>, Error> {
    let ModelReference::Training(query) = valid.reference() else { return Ok(Vec::new()) };
    let api = Api::<CllmTraining>::namespaced(context.client.clone(), namespace);
    match query {
        TrainingQuery::Name(name) => {
            let found = api.get_opt(name).await.map_err(Error::api("read", format!("CllmTraining {name}")))?;
            Ok(found.into_iter().collect())
        }
        TrainingQuery::Labels(labels) => {
            let parameters = ListParams::default().labels(&TrainingQuery::selector(labels));
            Ok(api.list(&parameters).await.map_err(Error::api("list", "CllmTrainings"))?.items)
        }
    }
}
