//! What sets the number of replicas: it writes it to the model itself, through the scale subresource.

use cllm_crds::CllmModel;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerSpec,
    MetricIdentifier, MetricSpec, MetricTarget, PodsMetricSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Resource;

use crate::model::ValidModel;
use crate::model::render::child_name;
use crate::naming::model_labels;

/// The autoscaler, if the spec asks for one.
pub(super) fn autoscaler(model: &ValidModel) -> Option<HorizontalPodAutoscaler> {
    let options = model.spec.autoscaling.as_ref()?;
    let metrics = [
        ("cllm_tokens_per_second", options.target_tokens_per_second),
        ("cllm_utilization_percent", options.target_utilization),
        ("cllm_queued_requests", options.target_queued_requests),
    ];
    Some(HorizontalPodAutoscaler {
        metadata: model.owner.child(&child_name(model), &model_labels(&model.owner.name)),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(CllmModel::api_version(&()).into_owned()),
                kind: CllmModel::kind(&()).into_owned(),
                name: model.owner.name.clone(),
            },
            min_replicas: i32::try_from(options.min_replicas).ok(),
            max_replicas: i32::try_from(options.max_replicas).unwrap_or(i32::MAX),
            metrics: Some(metrics.iter().filter_map(|&(name, target)| Some(per_replica(name, target?))).collect()),
            behavior: behavior(options.behavior.clone(), model.has_answered),
        }),
        status: None,
    })
}

/// Of a model that never answered the figures say nothing, whoever serves them: replicas that are still being started, or wait for a node,
/// are not taken away again. The autoscaler exists all the same, so that people find it and its bounds hold.
fn behavior(
    asked: Option<HorizontalPodAutoscalerBehavior>,
    has_answered: bool,
) -> Option<HorizontalPodAutoscalerBehavior> {
    if has_answered {
        return asked;
    }
    let mut behavior = asked.unwrap_or_default();
    behavior.scale_down.get_or_insert_default().select_policy = Some("Disabled".to_owned());
    Some(behavior)
}

fn per_replica(name: &str, target: u32) -> MetricSpec {
    MetricSpec {
        type_: "Pods".to_owned(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: name.to_owned(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".to_owned(),
                average_value: Some(Quantity(target.to_string())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    }
}
