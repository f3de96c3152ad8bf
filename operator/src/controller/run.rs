//! Starts the controllers of both kinds and the operator's own pages, and stops them together.

use std::sync::Arc;

use anyhow::Context as _;
use cllm_crds::{CllmModel, CllmTraining, TrainingReference};
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::{Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::controller::context::Context;
use crate::controller::health::{Readiness, serve};
use crate::controller::metrics::Metrics;
use crate::controller::{model, pods, training};
use crate::images::Images;
use crate::naming::{FIELD_MANAGER, MODEL_LABEL, TRAINING_LABEL};

/// Resources reconciled at once; one that waits for its Pods' pages does not hold up the others.
const CONCURRENCY: u16 = 16;

/// What the operator works on, and with what.
#[derive(Clone)]
pub struct Settings {
    /// Of the cluster.
    pub client: Client,
    /// The only namespace to look at; absent: all.
    pub namespace: Option<String>,
    /// What runs when a spec names no image.
    pub images: Images,
}

/// Runs until `stop` is cancelled: both controllers, and `/livez`, `/readyz` and `/metrics` on the listener.
pub async fn run(settings: Settings, listener: TcpListener, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new().context("cannot make the metrics")?;
    let pages = pods::page_client().context("cannot make the HTTP client")?;
    let context = Arc::new(Context::new(settings.client.clone(), pages, settings.images.clone(), metrics.clone()));
    let readiness = Readiness::waiting_for(2);
    let health = serve(listener, metrics, readiness.clone(), stop.clone().cancelled_owned());
    let models = run_models(&settings, context.clone(), &readiness, stop.clone());
    let trainings = run_trainings(&settings, context, &readiness, stop.clone());
    let (health, (), ()) = tokio::join!(health, models, trainings);
    health.context("cannot serve /livez, /readyz and /metrics")
}

async fn run_models(settings: &Settings, context: Arc<Context>, readiness: &Readiness, stop: CancellationToken) {
    let controller = Controller::new(api::<CllmModel>(settings), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY));
    let store = controller.store();
    let models = store.clone();
    let stream = controller
        .owns(api::<Deployment>(settings), children())
        .owns(api::<Service>(settings), children())
        .owns(api::<PodDisruptionBudget>(settings), children())
        .owns(api::<NetworkPolicy>(settings), children())
        .owns(api::<HorizontalPodAutoscaler>(settings), children())
        .watches(api::<CllmTraining>(settings), watcher::Config::default(), move |training| {
            followers(&models, &training)
        })
        .watches(api::<Pod>(settings), children(), |pod| labelled::<CllmModel>(&pod, MODEL_LABEL))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(model::reconcile, model::error_policy, context);
    tokio::join!(stream.for_each(async |_| ()), ready(store, readiness));
}

async fn run_trainings(settings: &Settings, context: Arc<Context>, readiness: &Readiness, stop: CancellationToken) {
    let controller = Controller::new(api::<CllmTraining>(settings), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY));
    let store = controller.store();
    let stream = controller
        .owns(api::<Job>(settings), children())
        .owns(api::<PersistentVolumeClaim>(settings), children())
        .owns(api::<NetworkPolicy>(settings), children())
        .watches(api::<Pod>(settings), children(), |pod| labelled::<CllmTraining>(&pod, TRAINING_LABEL))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(training::reconcile, training::error_policy, context);
    tokio::join!(stream.for_each(async |_| ()), ready(store, readiness));
}

/// Counts a controller as ready when it has read what exists; never, if it stops before.
async fn ready<K>(store: Store<K>, readiness: &Readiness)
where
    K: Resource + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    if store.wait_until_ready().map(|result| result.is_ok()).await {
        readiness.one_is_ready();
    }
}

fn api<K>(settings: &Settings) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match &settings.namespace {
        Some(namespace) => Api::namespaced(settings.client.clone(), namespace),
        None => Api::all(settings.client.clone()),
    }
}

/// Only what this operator made.
fn children() -> watcher::Config {
    watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER}"))
}

/// The models that may serve the result of that training; a selector may have matched it before its labels were changed.
fn followers(models: &Store<CllmModel>, training: &CllmTraining) -> Vec<ObjectRef<CllmModel>> {
    let (name, namespace) = (training.name_any(), training.namespace());
    let follows = |model: &CllmModel| {
        let reference = model.spec.model.training_ref.as_ref();
        let is_named = |reference: &TrainingReference| reference.name.as_ref().is_none_or(|other| *other == name);
        model.namespace() == namespace && reference.is_some_and(is_named)
    };
    models.state().iter().filter(|model| follows(model)).map(|model| ObjectRef::from_obj(model.as_ref())).collect()
}

/// The resource whose name stands in the label of a Pod.
fn labelled<K>(pod: &Pod, label: &str) -> Option<ObjectRef<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let name = pod.labels().get(label)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}
