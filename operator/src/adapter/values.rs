//! Figures in the form that autoscalers read: a `MetricValueList`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::core::Selector;
use serde_json::{Value, json};

use crate::adapter::metric::Metric;
use crate::adapter::{GROUP, VERSION};

/// More cannot be told in thousandths in 64 bits, which is how autoscalers count.
const MOST: f64 = 9.2e15;

/// What a figure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The group and version of its API.
    pub api_version: &'static str,
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The list of figures of a metric. One that cannot be told is left out.
pub fn metric_value_list(
    metric: Metric,
    labels: &Selector,
    figures: impl IntoIterator<Item = (Object, f64, Timestamp)>,
) -> Value {
    let selector = (!labels.selects_all()).then(|| LabelSelector::from(labels.clone()));
    let items = figures.into_iter().filter_map(|(object, value, at)| {
        Some(json!({
            "describedObject": {
                "apiVersion": object.api_version,
                "kind": object.kind,
                "namespace": object.namespace,
                "name": object.name,
            },
            "metric": {"name": metric.name(), "selector": selector},
            "timestamp": whole_second(at),
            "value": milli_quantity(value)?,
        }))
    });
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "MetricValueList",
        "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

/// A quantity in thousandths; `None` for what has none.
pub fn milli_quantity(value: f64) -> Option<String> {
    if !value.is_finite() || value.abs() > MOST {
        return None;
    }
    let thousandths = (value * 1000.0).round() as i64;
    Some(if thousandths % 1000 == 0 { (thousandths / 1000).to_string() } else { format!("{thousandths}m") })
}

/// RFC 3339 without fractions: more is not read.
fn whole_second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_thousandths_and_nothing_that_is_no_number() {
        for (value, expected) in [
            (0.0, Some("0")),
            (12.0, Some("12")),
            (12.5, Some("12500m")),
            (0.0004, Some("0")),
            (0.0006, Some("1m")),
            (-0.25, Some("-250m")),
            (9e15, Some("9000000000000000")),
            (1e16, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(milli_quantity(value).as_deref(), expected, "{value}");
        }
    }
}
