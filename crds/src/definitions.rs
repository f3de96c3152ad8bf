//! The CustomResourceDefinitions as they are installed: what the derive macro makes, in the form that the API server likes.
//!
//! Descriptions are cut to their first sentence, formats that Kubernetes does not know are removed (it warns of them), and an explicit
//! null is no value (so that `has()` in a rule means what it says).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::{CllmModel, CllmTraining};

/// Formats that the API server knows; it warns of all others.
const KNOWN_FORMATS: [&str; 6] = ["int32", "int64", "float", "double", "date-time", "byte"];

/// Both definitions, by name.
pub fn all() -> serde_json::Result<Vec<CustomResourceDefinition>> {
    [CllmModel::crd(), CllmTraining::crd()].into_iter().map(tidy).collect()
}

/// The definition with a tidy schema.
fn tidy(definition: CustomResourceDefinition) -> serde_json::Result<CustomResourceDefinition> {
    let mut value = serde_json::to_value(definition)?;
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for schema in versions.iter_mut().filter_map(|version| version.pointer_mut("/schema/openAPIV3Schema")) {
            tidy_schema(schema);
        }
    }
    serde_json::from_value(value)
}

fn tidy_schema(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    schema.remove("nullable");
    schema.remove("title");
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| !KNOWN_FORMATS.contains(&format)) {
        schema.remove("format");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = first_sentence(description);
    }
    for_each_subschema(schema, tidy_schema);
}

fn for_each_subschema(schema: &mut Map<String, Value>, mut visit: impl FnMut(&mut Value)) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(&mut visit);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(subschema) = schema.get_mut(keyword) {
            visit(subschema);
        }
    }
}

/// Up to the first period that ends a sentence, on one line.
fn first_sentence(text: &str) -> String {
    const ABBREVIATIONS: [&str; 2] = ["i.e", "e.g"];
    let paragraph = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let ends_sentence =
        |end: &usize| !ABBREVIATIONS.iter().any(|abbreviation| paragraph[..*end].ends_with(abbreviation));
    match paragraph.match_indices(". ").map(|(end, _)| end).find(ends_sentence) {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Vec<Value> {
        all()
            .unwrap()
            .iter()
            .map(|definition| {
                serde_json::to_value(&definition.spec.versions[0].schema).unwrap()["openAPIV3Schema"].clone()
            })
            .collect()
    }

    fn walk(path: &str, schema: &mut Value, check: &mut impl FnMut(&str, &Map<String, Value>)) {
        let Value::Object(schema) = schema else { return };
        check(path, schema);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for (name, property) in properties {
                walk(&format!("{path}.{name}"), property, check);
            }
        }
        for keyword in ["items", "additionalProperties"] {
            if let Some(subschema) = schema.get_mut(keyword) {
                walk(&format!("{path}[]"), subschema, check);
            }
        }
    }

    #[test]
    fn every_field_has_a_description_of_one_sentence_and_a_known_format() {
        let mut fields = 0;
        for mut schema in schemas() {
            walk("", &mut schema, &mut |path, schema| {
                if let Some(format) = schema.get("format") {
                    assert!(KNOWN_FORMATS.contains(&format.as_str().unwrap()), "{path}: format {format}");
                }
                assert!(!schema.contains_key("nullable"), "{path} accepts null");
                if path.is_empty() || path.ends_with("[]") {
                    return;
                }
                fields += 1;
                let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(!description.is_empty(), "{path} has no description");
                assert_eq!(description, first_sentence(description), "{path}");
            });
        }
        assert!(fields > 100, "only {fields} fields were seen");
    }

    #[test]
    fn sentences_end_at_the_first_period_before_a_space() {
        for (text, expected) in [
            ("One sentence.", "One sentence."),
            ("First, v1.2 of it. Second.", "First, v1.2 of it."),
            ("An example (e.g. this one, i.e. one). Second.", "An example (e.g. this one, i.e. one)."),
            ("No period", "No period"),
            ("Broken\nover lines. More.", "Broken over lines."),
            ("Paragraph\n\nanother.", "Paragraph"),
        ] {
            assert_eq!(first_sentence(text), expected);
        }
    }
}
