//! The condition ScalingActive: what the autoscaler does and why, in words, from its own conditions, from who serves its metrics, and from
//! what the replicas can deliver.

use cllm_crds::Autoscaling;
use cllm_crds::conditions::{reasons, types};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition};

use crate::conditions::{Conditions, Truth};
use crate::model::{Observed, ValidModel};

/// Who answers when the autoscaler asks for its metrics (`custom.metrics.k8s.io`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsApi {
    /// The operator.
    #[default]
    Served,
    /// Nobody that the operator knows of: its own adapter is off, as it always is where it looks after one namespace.
    Disabled,
    /// The adapter of somebody else, to whom the group belongs.
    Foreign {
        /// Where it is, as a person looks for it.
        owner: String,
    },
}

/// From this share of the capacity on a target is told to be too high. Above [`REACHED`] no load reaches it, but what is measured varies.
const UNREACHED: f64 = 0.95;
/// Up to this share of the capacity a load reaches the target: an autoscaler overlooks a tenth.
const REACHED: f64 = 0.9;

/// What the condition says.
struct Verdict {
    truth: Truth,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn new(truth: impl Into<Truth>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { truth: truth.into(), reason, message: message.into() }
    }
}

/// The condition ScalingActive; a model without an autoscaler has none.
pub(super) fn set_scaling(conditions: &mut Conditions, model: &ValidModel, observed: &Observed) {
    let Some(options) = &model.spec.autoscaling else { return conditions.remove(types::SCALING_ACTIVE) };
    let before = conditions.get(types::SCALING_ACTIVE).map(|condition| condition.reason.as_str());
    let too_high = target_above_capacity(options, observed, before == Some(reasons::TARGET_ABOVE_CAPACITY));
    let Verdict { truth, reason, message } = verdict(model, options, observed);
    let (reason, message) = match too_high {
        Some(warning) if truth == Truth::True => (reasons::TARGET_ABOVE_CAPACITY, format!("{warning} {message}")),
        Some(warning) => (reason, format!("{message} {warning}")),
        None => (reason, message),
    };
    conditions.set(types::SCALING_ACTIVE, truth, reason, message);
}

fn verdict(model: &ValidModel, options: &Autoscaling, observed: &Observed) -> Verdict {
    if model.spec.replicas == 0 {
        let message = "spec.replicas is 0, which switches the autoscaler off; raise it to serve.";
        return Verdict::new(false, reasons::SCALED_TO_ZERO, message);
    }
    let own = |type_: &str| observed.autoscaler.as_ref().and_then(|autoscaler| condition(autoscaler, type_));
    if let Some(unable) = own("AbleToScale").filter(|able| able.status == "False") {
        return Verdict::new(false, reasons::NOT_ABLE_TO_SCALE, words(unable));
    }
    match (own(types::SCALING_ACTIVE), &observed.autoscaler) {
        (Some(active), Some(autoscaler)) if active.status == "True" => {
            Verdict::new(true, reasons::METRICS_AVAILABLE, doing(options, autoscaler))
        }
        (Some(inactive), _) => no_metrics(&observed.metrics_api, has_ready_replica(observed), &words(inactive)),
        (None, _) => {
            let message = "The autoscaler has not looked at its metrics yet.";
            Verdict::new(Truth::Unknown, reasons::PROGRESSING, message)
        }
    }
}

/// Why there are none; what the autoscaler says of it itself comes last.
fn no_metrics(metrics_api: &MetricsApi, has_ready_replica: bool, own: &str) -> Verdict {
    let (reason, why) = match metrics_api {
        MetricsApi::Disabled => (
            reasons::ADAPTER_DISABLED,
            "The operator does not serve the metrics that the autoscaler reads, and nobody else does: turn its adapter on \
             (metricsAdapter.enabled of a chart for the whole cluster), or serve them from Prometheus."
                .to_owned(),
        ),
        MetricsApi::Foreign { owner } => (
            reasons::FOREIGN_ADAPTER,
            format!(
                "custom.metrics.k8s.io belongs to {owner}, which does not serve the metrics that the autoscaler reads: teach it to, or \
                 delete APIService v1beta2.custom.metrics.k8s.io, so that the operator serves them."
            ),
        ),
        MetricsApi::Served if !has_ready_replica => (
            reasons::METRICS_UNAVAILABLE,
            "No replica answers, so there is nothing to scale on, and the number of replicas stays.".to_owned(),
        ),
        MetricsApi::Served => (reasons::METRICS_UNAVAILABLE, "The autoscaler cannot read its metrics.".to_owned()),
    };
    let message = if own.is_empty() { why } else { format!("{why} It says: {own}") };
    Verdict::new(false, reason, message)
}

/// What an autoscaler with metrics does.
fn doing(options: &Autoscaling, autoscaler: &HorizontalPodAutoscaler) -> String {
    let wanted = autoscaler.status.as_ref().map_or(0, |status| status.desired_replicas);
    let (min, max) = (options.min_replicas, options.max_replicas);
    let limited = condition(autoscaler, "ScalingLimited").filter(|limited| limited.status == "True");
    let because = match limited.and_then(|limited| limited.reason.as_deref()) {
        Some("TooManyReplicas") => " It would add more, but spec.autoscaling.maxReplicas allows no more.",
        Some("TooFewReplicas") => " Fewer would do, but spec.autoscaling.minReplicas allows no fewer.",
        Some("ScaleUpLimit" | "ScaleDownLimit") => " It goes on step by step, as spec.autoscaling.behavior says.",
        _ => "",
    };
    let able = condition(autoscaler, "AbleToScale").and_then(|able| able.reason.as_deref());
    let waits = match able {
        Some("ScaleDownStabilized") => " It waits before it takes any away, in case the load comes back.",
        _ => "",
    };
    format!("The autoscaler reads its metrics and wants {wanted} replicas, of {min} to {max}.{because}{waits}")
}

/// A warning with the figure, if no load reaches the target for tokens per second. Once told, it is told until the target is low enough.
fn target_above_capacity(options: &Autoscaling, observed: &Observed, was_told: bool) -> Option<String> {
    let target = options.target_tokens_per_second?;
    let capacity = mean_capacity(observed)?;
    let share = if was_told { REACHED } else { UNREACHED };
    (f64::from(target) > share * capacity).then(|| {
        let capacity = two_digits(capacity);
        let most = (REACHED * capacity).floor().max(1.0);
        format!(
            "spec.autoscaling.targetTokensPerSecond is {target}, but a replica can deliver about {capacity} tokens per second, so that target \
             adds no replica: ask for at most {most}, or set targetUtilization instead."
        )
    })
}

/// Of the replicas that answer and know it: the autoscaler takes the mean too.
fn mean_capacity(observed: &Observed) -> Option<f64> {
    let ready = observed.pages().filter(|page| page.ready);
    let known: Vec<f64> = ready.filter_map(|page| page.capacity_tokens_per_second).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// So that the message does not change with every correction.
fn two_digits(value: f64) -> f64 {
    let unit = 10_f64.powf(value.log10().floor() - 1.0).max(1.0);
    (value / unit).round() * unit
}

fn has_ready_replica(observed: &Observed) -> bool {
    let status = observed.deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
    status.and_then(|status| status.ready_replicas).unwrap_or_default() > 0
}

fn condition<'a>(autoscaler: &'a HorizontalPodAutoscaler, type_: &str) -> Option<&'a HorizontalPodAutoscalerCondition> {
    let conditions = autoscaler.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn words(condition: &HorizontalPodAutoscalerCondition) -> String {
    condition.message.clone().unwrap_or_default()
}
