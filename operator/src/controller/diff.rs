//! Whether a live object already is as declared, so that at rest nothing is written.
//!
//! The live object may say more (defaults, other managers' fields); what is declared must stand in it. Fields that were declared once and
//! are no longer are found by a hash of the declaration, kept in an annotation.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The annotation with the hash of what was declared.
pub const DECLARATION_ANNOTATION: &str = "cllm.dev/declaration";

/// Maps that the API server takes as one value (`x-kubernetes-map-type: atomic`): one label more in a selector selects something else.
const ATOMIC: [&str; 6] =
    ["selector", "podSelector", "namespaceSelector", "labelSelector", "nodeSelector", "scaleTargetRef"];

/// Writes the hash of the object into its annotations.
pub(super) fn stamp(mut declared: Value) -> Value {
    let hash = format!("{:x}", Sha256::digest(declared.to_string()))[..16].to_owned();
    if let Some(Value::Object(metadata)) = declared.get_mut("metadata") {
        let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(annotations) = annotations {
            annotations.insert(DECLARATION_ANNOTATION.to_owned(), Value::String(hash));
        }
    }
    declared
}

/// Whether everything that is declared stands in the live object.
pub(super) fn covers(live: &Value, declared: &Value) -> bool {
    match (live, declared) {
        (Value::Object(live), Value::Object(declared)) => declared.iter().all(|(key, value)| match live.get(key) {
            Some(live) if ATOMIC.contains(&key.as_str()) => covers(live, value) && covers(value, live),
            Some(live) => covers(live, value),
            None => is_empty(value),
        }),
        (Value::Array(live), Value::Array(declared)) => {
            live.len() == declared.len() && live.iter().zip(declared).all(|(live, declared)| covers(live, declared))
        }
        (Value::String(live), Value::String(declared)) => live == declared || is_same_quantity(live, declared),
        _ => live == declared,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The API server writes quantities in canonical form: `1000m` comes back as `1`.
fn is_same_quantity(left: &str, right: &str) -> bool {
    match (quantity(left), quantity(right)) {
        (Some(left), Some(right)) => (left - right).abs() <= 1e-12 * left.abs().max(right.abs()),
        _ => false,
    }
}

fn quantity(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 16] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("", 1.0),
    ];
    SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number = text.strip_suffix(suffix)?;
        let is_number = number.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
        is_number.then(|| number.parse::<f64>().ok().map(|value| value * factor)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_live_object_covers_what_is_declared_and_may_say_more() {
        let declared = json!({"spec": {"replicas": 2, "ports": [{"port": 80}], "limits": {"cpu": "1000m", "memory": "1024Mi"}, "tmp": {}}});
        let live = json!({
            "spec": {
                "replicas": 2, "ports": [{"port": 80, "protocol": "TCP"}], "limits": {"cpu": "1", "memory": "1Gi"}, "clusterIP": "10.0.0.1"
            },
            "status": {}
        });
        assert!(covers(&live, &declared));
    }

    #[test]
    fn every_difference_in_a_declared_field_is_found() {
        let declared = json!({"replicas": 2, "ports": [{"port": 80}], "cpu": "1", "image": "a:1", "flag": true});
        for live in [
            json!({"replicas": 3, "ports": [{"port": 80}], "cpu": "1", "image": "a:1", "flag": true}),
            json!({"replicas": 2, "ports": [{"port": 81}], "cpu": "1", "image": "a:1", "flag": true}),
            json!({"replicas": 2, "ports": [{"port": 80}, {"port": 90}], "cpu": "1", "image": "a:1", "flag": true}),
            json!({"replicas": 2, "ports": [], "cpu": "1", "image": "a:1", "flag": true}),
            json!({"replicas": 2, "ports": [{"port": 80}], "cpu": "2", "image": "a:1", "flag": true}),
            json!({"replicas": 2, "ports": [{"port": 80}], "cpu": "1", "image": "a:2", "flag": true}),
            json!({"replicas": 2, "ports": [{"port": 80}], "cpu": "1", "image": "a:1", "flag": false}),
            json!({"replicas": 2, "ports": [{"port": 80}], "cpu": "1", "image": "a:1"}),
        ] {
            assert!(!covers(&live, &declared), "{live}");
        }
    }

    #[test]
    fn a_selector_may_not_say_more_than_was_declared() {
        let declared = json!({"podSelector": {"matchLabels": {"a": "1"}}, "labels": {"a": "1"}});
        let live = |selector: serde_json::Value| json!({"podSelector": selector, "labels": {"a": "1", "b": "2"}});
        assert!(covers(&live(json!({"matchLabels": {"a": "1"}, "matchExpressions": []})), &declared));
        assert!(!covers(&live(json!({"matchLabels": {"a": "1", "b": "2"}})), &declared));
    }

    #[test]
    fn a_declaration_that_lost_a_field_has_another_stamp() {
        let stamp_of = |value| stamp(value)["metadata"]["annotations"][DECLARATION_ANNOTATION].clone();
        let with = stamp_of(json!({"metadata": {"name": "a"}, "spec": {"a": 1, "b": 2}}));
        let without = stamp_of(json!({"metadata": {"name": "a"}, "spec": {"a": 1}}));
        assert!(with.is_string() && with != without);
    }
}
