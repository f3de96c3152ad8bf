//! The paths of the API, and how each is answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use cllm_crds::CllmModel;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::Selector;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::Value;

use crate::adapter::metric::Metric;
use crate::adapter::scrape::Pages;
use crate::adapter::selector::parse_selector;
use crate::adapter::survey::{Survey, total};
use crate::adapter::values::{Object, metric_value_list};
use crate::adapter::{GROUP, MODELS, PODS, VERSION, discovery};
use crate::authentication::{Attributes, Caller, Gate};
use crate::https::Refusal;
use crate::naming::{FIELD_MANAGER, MODEL_LABEL};
use crate::pages;

/// Instead of a name: all that the label selector selects.
const ALL: &str = "*";

/// The API. Everything of it is for those whose identity is known.
pub fn router(client: Client, gate: Gate) -> reqwest::Result<Router> {
    let adapter = Adapter { client, gate, pages: Arc::new(Pages::new(pages::client()?)) };
    let version = format!("/apis/{GROUP}/{VERSION}");
    Ok(Router::new()
        .route("/apis", get(async |_: Caller| Json(discovery::api_groups())))
        .route(&format!("/apis/{GROUP}"), get(async |_: Caller| Json(discovery::api_group())))
        .route(&version, get(async |_: Caller| Json(discovery::api_resources())))
        .route(&format!("{version}/namespaces/{{namespace}}/{{resource}}/{{name}}/{{metric}}"), get(answer))
        .with_state(adapter))
}

#[derive(Clone)]
struct Adapter {
    client: Client,
    gate: Gate,
    pages: Arc<Pages>,
}

impl AsRef<Gate> for Adapter {
    fn as_ref(&self) -> &Gate {
        &self.gate
    }
}

/// As the path names it.
#[derive(Clone, Debug, Deserialize)]
struct Asked {
    namespace: String,
    resource: String,
    name: String,
    metric: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    label_selector: String,
    metric_label_selector: String,
}

async fn answer(
    State(adapter): State<Adapter>,
    caller: Caller,
    Path(asked): Path<Asked>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(parameters) = parameters.map_err(|error| Refusal::bad_request(error.body_text()))?;
    if ![&asked.namespace, &asked.name].into_iter().all(|name| name == ALL || is_name(name)) {
        return Err(Refusal::bad_request("a namespace or an object cannot have such a name"));
    }
    adapter.gate.authorize(&caller, &attributes(&asked)).await?;
    let no_metric =
        || Refusal::not_found(format!("there is no metric {} of {}: {}", asked.metric, asked.resource, all()));
    let metric = Metric::from_name(&asked.metric).ok_or_else(no_metric)?;
    let labels = parse_selector(&parameters.metric_label_selector);
    let labels = labels.map_err(|error| Refusal::bad_request(error.to_string()))?;
    match asked.resource.as_str() {
        PODS => adapter.pods(&asked, metric, &parameters.label_selector, &labels).await.map(Json),
        MODELS => adapter.models(&asked, metric, &parameters.label_selector, &labels).await.map(Json),
        _ => Err(no_metric()),
    }
}

/// Whether that may become a part of a path that the API server is asked for.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

fn all() -> String {
    let names = Metric::ALL.map(Metric::name).join(", ");
    format!("there are {names} of {PODS} and {MODELS}")
}

fn attributes(asked: &Asked) -> Attributes {
    let Asked { namespace, resource, name, metric } = asked.clone();
    Attributes { group: GROUP, version: VERSION, namespace, resource, subresource: metric, name }
}

impl Adapter {
    async fn pods(&self, asked: &Asked, metric: Metric, selector: &str, labels: &Selector) -> Result<Value, Refusal> {
        let parameters = match asked.name.as_str() {
            ALL => ListParams::default().labels(&ours(selector)),
            name => ListParams::default().labels(&ours("")).fields(&format!("metadata.name={name}")),
        };
        let survey = self.survey(&self.list(&asked.namespace, parameters).await?).await;
        let counted = survey.counted(metric, labels);
        if counted.is_empty() {
            return Err(Refusal::not_found(survey.absence(metric)));
        }
        let figures = counted.iter().map(|counted| (pod(&asked.namespace, counted.pod), counted.value, counted.at));
        Ok(metric_value_list(metric, labels, figures))
    }

    async fn models(&self, asked: &Asked, metric: Metric, selector: &str, labels: &Selector) -> Result<Value, Refusal> {
        let namespace = &asked.namespace;
        let (names, of_models) = self.named_models(asked, selector).await?;
        let mut pods = BTreeMap::<String, Vec<Pod>>::new();
        for pod in self.list(namespace, ListParams::default().labels(&ours(&of_models))).await? {
            let model = pod.labels().get(MODEL_LABEL).cloned().unwrap_or_default();
            pods.entry(model).or_default().push(pod);
        }
        let of = |name: &String| pods.get(name).map(Vec::as_slice).unwrap_or_default();
        let surveys = join_all(names.iter().map(|name| self.survey(of(name)))).await;
        let (mut figures, mut absences) = (Vec::new(), Vec::new());
        for (name, survey) in names.iter().zip(surveys) {
            match total(metric, &survey.counted(metric, labels)) {
                Some((value, at)) => figures.push((model(namespace, name), value, at)),
                None => absences.push(format!("{MODELS} {name}: {}", survey.absence(metric))),
            }
        }
        if figures.is_empty() && !absences.is_empty() {
            return Err(Refusal::not_found(absences.join("; ")));
        }
        Ok(metric_value_list(metric, labels, figures))
    }

    /// The models that are asked for, and the label selector of their Pods.
    async fn named_models(&self, asked: &Asked, selector: &str) -> Result<(Vec<String>, String), Refusal> {
        let api = Api::<CllmModel>::namespaced(self.client.clone(), &asked.namespace);
        if asked.name == ALL {
            let list =
                api.list(&ListParams::default().labels(selector).match_any()).await.map_err(|error| refusal(&error))?;
            return Ok((list.iter().map(ResourceExt::name_any).collect(), MODEL_LABEL.to_owned()));
        }
        match api.get_opt(&asked.name).await.map_err(|error| refusal(&error))? {
            Some(_) => Ok((vec![asked.name.clone()], format!("{MODEL_LABEL}={}", asked.name))),
            None => Err(Refusal::not_found(format!("{MODELS} \"{}\" not found", asked.name))),
        }
    }

    async fn list(&self, namespace: &str, parameters: ListParams) -> Result<Vec<Pod>, Refusal> {
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        // As new as the API server's memory: it need not ask its database for every autoscaler.
        Ok(api.list(&parameters.match_any()).await.map_err(|error| refusal(&error))?.items)
    }

    async fn survey(&self, pods: &[Pod]) -> Survey {
        let (survey, targets) = Survey::begin(pods);
        survey.complete(self.pages.read(targets).await)
    }
}

/// Only Pods that the operator made for models, whatever else is selected.
fn ours(selector: &str) -> String {
    let ours = format!("app.kubernetes.io/managed-by={FIELD_MANAGER},{MODEL_LABEL}");
    if selector.is_empty() { ours } else { format!("{selector},{ours}") }
}

fn pod(namespace: &str, name: &str) -> Object {
    Object { api_version: "v1", kind: "Pod", namespace: namespace.to_owned(), name: name.to_owned() }
}

fn model(namespace: &str, name: &str) -> Object {
    let api_version = "cllm.dev/v1alpha1";
    Object { api_version, kind: "CllmModel", namespace: namespace.to_owned(), name: name.to_owned() }
}

/// A selector that the API server cannot read is the fault of who asks; everything else passes.
fn refusal(error: &kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) if status.code == 400 => Refusal::bad_request(status.message.clone()),
        error => {
            tracing::warn!(%error, "a metric could not be told");
            Refusal::unavailable(format!("the API server did not say which Pods there are: {error}"))
        }
    }
}
