//! Starts the controllers, the operator's own pages and what it serves over HTTPS, and stops them together. The controllers and what the API
//! server is told run where the Lease is held, everything else on every replica.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use cllm_crds::{CllmModel, CllmTraining, TrainingReference};
use futures::StreamExt;
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
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapter::Mode;
use crate::controller::context::Context;
use crate::controller::health::{Readiness, serve};
use crate::controller::injection::{Injection, give_key};
use crate::controller::leader::{Elector, Fence, LeaderElection};
use crate::controller::metrics::Metrics;
use crate::controller::missed::MissedContext;
use crate::controller::replica::Replica;
use crate::controller::upkeep::Upkeep;
use crate::controller::{missed, model, training};
use crate::https::HttpsSettings;
use crate::images::Images;
use crate::injection::Registration;
use crate::model::MetricsApi;
use crate::naming::{FIELD_MANAGER, INJECT_LABEL, MODEL_LABEL, TRAINING_LABEL};
use crate::pages;

/// Resources reconciled at once; one that waits for its Pods' pages does not hold up the others.
const CONCURRENCY: u16 = 16;
/// Those of models, of trainings, and of Pods without their sidecar.
const CONTROLLERS: usize = 3;

/// What the operator works on, and with what.
#[derive(Clone)]
pub struct Settings {
    /// Of the cluster.
    pub client: Client,
    /// The only namespace to look at; absent: all.
    pub namespace: Option<String>,
    /// What runs when a spec names no image.
    pub images: Images,
    /// Of several operators only the leader acts; absent: there is only this one.
    pub leader_election: Option<LeaderElection>,
    /// What is served over HTTPS; absent: nothing is.
    pub https: Option<HttpsSettings>,
}

/// Where connections come in.
#[derive(Debug)]
pub struct Listeners {
    /// Of `/livez`, `/readyz` and `/metrics`.
    pub pages: TcpListener,
    /// Of what is served over HTTPS, if anything is; every replica has its own.
    pub https: Option<TcpListener>,
}

/// Runs until `stop` is cancelled, or leadership is lost: the controllers, the operator's own pages, and what is served over HTTPS. Then the
/// Lease is given up at once, while HTTPS is served for a moment more, and until the end of that the pages say that this operator is not ready.
pub async fn run(settings: Settings, listeners: Listeners, stop: CancellationToken) -> anyhow::Result<()> {
    let Listeners { pages, https: listener } = listeners;
    let metrics = Metrics::new().context("cannot make the metrics")?;
    let injection = Injection::of(&settings);
    let (injector, registration) =
        injection.as_ref().map(|all| (all.injector.clone(), all.registration.clone())).unzip();
    let readiness = Readiness::waiting_for(CONTROLLERS, settings.https.is_some(), injector, stop.clone());
    let ended = CancellationToken::new();
    let health = async {
        let served = serve(pages, metrics.clone(), readiness.clone(), ended.clone().cancelled_owned()).await;
        served.context("cannot serve /livez, /readyz and /metrics")
    };
    let https = async {
        let Some(https) = &settings.https else { return Ok(()) };
        let listener = listener.context("there is no listener for what is served over HTTPS")?;
        let replica = Replica { client: &settings.client, settings: https, metrics: &metrics, readiness: &readiness };
        Box::pin(replica.serve(listener, injection, &stop)).await
    };
    let work = async {
        let acts = act(&settings, &metrics, &readiness, registration.as_ref(), &stop);
        tokio::try_join!(https, acts)?;
        ended.cancel();
        anyhow::Ok(())
    };
    tokio::try_join!(health, work).map(|_| ())
}

/// Runs the controllers, where several operators run for as long as this one leads.
async fn act(
    settings: &Settings,
    metrics: &Metrics,
    readiness: &Readiness,
    registration: Option<&watch::Receiver<Registration>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    match &settings.leader_election {
        None => {
            metrics.leads(true);
            Box::pin(run_controllers(settings, metrics, readiness, registration, stop)).await
        }
        Some(election) => Box::pin(lead(election, settings, metrics, readiness, registration, stop)).await,
    }
}

/// Runs the controllers while this process leads. When it loses the Lease, they are dropped where they are.
async fn lead(
    election: &LeaderElection,
    settings: &Settings,
    metrics: &Metrics,
    readiness: &Readiness,
    registration: Option<&watch::Receiver<Registration>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let fence = Fence::new();
    let elector = Elector::new(settings.client.clone(), election, fence.clone());
    let settings = Settings { client: fence.around(settings.client.clone()), ..settings.clone() };
    let (leads, mut is_leader) = watch::channel(false);
    let finished = CancellationToken::new();
    let work = async {
        tokio::select! {
            result = async { is_leader.wait_for(|leads| *leads).await.map(drop) } => {
                result.context("the election ended")?;
                run_controllers(&settings, metrics, readiness, registration, stop).await?;
            }
            () = stop.cancelled() => {}
        }
        finished.cancel();
        anyhow::Ok(())
    };
    let keep = async {
        let kept = elector.run(leads, readiness.clone(), metrics.clone(), finished.clone()).await;
        kept.map_err(anyhow::Error::from)
    };
    tokio::try_join!(keep, work).map(|_| ())
}

async fn run_controllers(
    settings: &Settings,
    metrics: &Metrics,
    readiness: &Readiness,
    registration: Option<&watch::Receiver<Registration>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    readiness.leads();
    let pages = pages::client().context("cannot make the HTTP client")?;
    let (told, metrics_api) = watch::channel(metrics_api(settings));
    let context = Context::new(settings.client.clone(), pages, settings.images.clone(), metrics_api, metrics.clone());
    let context = Arc::new(context);
    let models = run_models(settings, context.clone(), readiness, stop.clone());
    let trainings = run_trainings(settings, context.clone(), readiness, stop.clone());
    let missed = Box::pin(run_missed(settings, context, readiness, stop.clone()));
    let told_to_the_api_server = Box::pin(tell_the_api_server(settings, told, registration, stop));
    tokio::join!(models, trainings, missed, told_to_the_api_server);
    Ok(())
}

/// Where what is served over HTTPS is and whom to trust there, and with which key sidecars are asked for.
async fn tell_the_api_server(
    settings: &Settings,
    told: watch::Sender<MetricsApi>,
    registration: Option<&watch::Receiver<Registration>>,
    stop: &CancellationToken,
) {
    let Some(https) = &settings.https else { return };
    let upkeep = Upkeep::new(&settings.client, https, told).run(stop.clone());
    let key = async {
        if let (Some(name), Some(registration)) = (&https.injection_webhook, registration) {
            stop.run_until_cancelled(give_key(settings.client.clone(), name, registration.clone())).await;
        }
    };
    tokio::join!(upkeep, key);
}

/// Who serves metrics before anything was looked at.
fn metrics_api(settings: &Settings) -> MetricsApi {
    match settings.https.as_ref().map_or(Mode::False, |https| https.adapter) {
        Mode::False => MetricsApi::Disabled,
        Mode::Auto | Mode::True => MetricsApi::Served,
    }
}

async fn run_models(settings: &Settings, context: Arc<Context>, readiness: &Readiness, stop: CancellationToken) {
    let controller = Controller::new(api::<CllmModel>(settings), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY));
    let store = controller.store();
    let models = store.clone();
    let stopped = stop.clone();
    let stream = controller
        .watches(api::<Deployment>(settings), children(), |child| owners(&child, MODEL_LABEL))
        .watches(api::<Service>(settings), children(), |child| owners(&child, MODEL_LABEL))
        .watches(api::<PodDisruptionBudget>(settings), children(), |child| owners(&child, MODEL_LABEL))
        .watches(api::<NetworkPolicy>(settings), children(), |child| owners(&child, MODEL_LABEL))
        .watches(api::<HorizontalPodAutoscaler>(settings), children(), |child| owners(&child, MODEL_LABEL))
        .watches(api::<CllmTraining>(settings), watcher::Config::default(), move |training| {
            followers(&models, &training)
        })
        .watches(api::<Pod>(settings), children(), |pod| owners(&pod, MODEL_LABEL))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(model::reconcile, model::error_policy, context);
    until_stopped(stream.for_each(async |_| ()), store, readiness, stopped).await;
}

async fn run_trainings(settings: &Settings, context: Arc<Context>, readiness: &Readiness, stop: CancellationToken) {
    let controller = Controller::new(api::<CllmTraining>(settings), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY));
    let store = controller.store();
    let stopped = stop.clone();
    let stream = controller
        .watches(api::<Job>(settings), children(), |child| owners(&child, TRAINING_LABEL))
        .watches(api::<PersistentVolumeClaim>(settings), children(), |child| owners(&child, TRAINING_LABEL))
        .watches(api::<NetworkPolicy>(settings), children(), |child| owners(&child, TRAINING_LABEL))
        .watches(api::<Service>(settings), children(), |child| owners(&child, TRAINING_LABEL))
        .watches(api::<Pod>(settings), children(), |pod| owners(&pod, TRAINING_LABEL))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(training::reconcile, training::error_policy, context);
    until_stopped(stream.for_each(async |_| ()), store, readiness, stopped).await;
}

async fn run_missed(settings: &Settings, context: Arc<Context>, readiness: &Readiness, stop: CancellationToken) {
    // One after the other: many Pods of one owner are told of at once.
    let controller = Controller::new(api::<Pod>(settings), watcher::Config::default().labels(INJECT_LABEL))
        .with_config(Config::default().concurrency(1));
    let store = controller.store();
    let stopped = stop.clone();
    let stream = controller.graceful_shutdown_on(stop.cancelled_owned()).run(
        missed::reconcile,
        missed::error_policy,
        Arc::new(MissedContext::new(context)),
    );
    until_stopped(stream.for_each(async |_| ()), store, readiness, stopped).await;
}

/// Runs a controller to its end, and counts it as ready when it has read what exists. One that is stopped before that has nothing to
/// finish and is dropped: kube-runtime holds its queue until the store is ready, and never reads the store again.
async fn until_stopped<K>(
    controller: impl Future<Output = ()>,
    store: Store<K>,
    readiness: &Readiness,
    stop: CancellationToken,
) where
    K: Resource + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    let watched = async {
        tokio::select! {
            biased;
            Ok(()) = store.wait_until_ready() => readiness.one_is_ready(),
            () = stop.cancelled() => return,
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = controller => {}
        () = watched => {}
    }
}

/// The resources of a kind that this operator looks after.
pub(super) fn api<K>(settings: &Settings) -> Api<K>
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

/// The resources that a child may belong to: by the label, which says it also when the owner reference was removed, and by the reference,
/// which says it also when the label was.
fn owners<C, K>(child: &C, label: &str) -> Vec<ObjectRef<K>>
where
    C: Resource,
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let Some(namespace) = child.namespace() else { return Vec::new() };
    let by_label = child.labels().get(label).cloned();
    let references = child.owner_references().iter();
    let by_reference = references.filter(|owner| owner.kind == K::kind(&())).map(|owner| owner.name.clone());
    let names: BTreeSet<_> = by_label.into_iter().chain(by_reference).collect();
    names.iter().map(|name| ObjectRef::new(name).within(&namespace)).collect()
}
