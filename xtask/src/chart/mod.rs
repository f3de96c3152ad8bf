//! What of the chart is generated: `values.yaml`, its schema, the README with the table of values, the CRDs and the rules of the roles.

mod values;

use anyhow::Context;
use cllm_operator::rbac;
use serde_json::Value;

use crate::artifacts::{Artifact, HEADER};
use values::Values;

const README: &str = include_str!("README.md");
/// What the templates replace by the name of the release's objects.
const FULL_NAME: &str = "FULLNAME";
/// What the templates replace by the name of what owns the registration.
const OWNER_NAME: &str = "OWNERNAME";
/// What the templates replace by the name of the Secret with the certificate.
const SECRET_NAME: &str = "SECRETNAME";

/// All of it.
pub(crate) fn artifacts(definitions: &[Artifact]) -> anyhow::Result<Vec<Artifact>> {
    let defaults = serde_json::to_value(Values::default()).context("cannot write the chart's default values")?;
    let schema = schema().context("cannot write the schema of the chart's values")?;
    let rows = rows(&schema, &schema, &defaults, "");
    let table: String = rows.iter().map(Row::in_table).collect();
    let mut artifacts = vec![
        Artifact::new(
            "charts/cllm/values.yaml",
            HEADER.to_owned() + &values_yaml(&schema, &schema, &defaults, 0).concat(),
        ),
        Artifact::new("charts/cllm/values.schema.json", serde_json::to_string_pretty(&schema)? + "\n"),
        Artifact::new("charts/cllm/README.md", README.replace("@VALUES@\n", &table)),
    ];
    let rules = [
        ("resources", rbac::rules()),
        ("leader", rbac::lease_rules()),
        ("registration", rbac::registration_rules(OWNER_NAME)),
        ("injection", rbac::injection_rules(FULL_NAME)),
        ("certificates", rbac::certificate_rules(SECRET_NAME)),
        ("given-certificates", rbac::given_certificate_rules(SECRET_NAME)),
        ("metrics", rbac::metrics_rules()),
    ];
    for (file, rules) in rules {
        let yaml = serde_saphyr::to_string(&rules).with_context(|| format!("cannot write the rules of {file}"))?;
        artifacts.push(Artifact::new(format!("charts/cllm/files/rbac/{file}.yaml"), yaml));
    }
    for definition in definitions {
        let path = definition.path.replace("crds/", "charts/cllm/files/crds/");
        artifacts.push(Artifact::new(path, definition.content.clone()));
    }
    Ok(artifacts)
}

/// Helm reads draft 7.
fn schema() -> serde_json::Result<Value> {
    let generator = schemars::generate::SchemaSettings::draft07().into_generator();
    serde_json::to_value(generator.into_root_schema_for::<Values>())
}

/// A value of the chart.
struct Row {
    name: String,
    default: String,
    description: String,
}

impl Row {
    fn in_table(&self) -> String {
        format!("| `{}` | `{}` | {} |\n", self.name, self.default, self.description)
    }
}

/// Every value that is not a group of others, depth first.
fn rows(root: &Value, schema: &Value, defaults: &Value, prefix: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, default) in defaults.as_object().into_iter().flatten() {
        let property = property(root, schema, name);
        let path = format!("{prefix}{name}");
        if is_group(root, property) {
            rows.extend(self::rows(root, resolved(root, property), default, &format!("{path}.")));
        } else {
            rows.push(Row { name: path, default: default.to_string(), description: description(property) });
        }
    }
    rows
}

/// The defaults as lines of YAML, each with its description above it.
fn values_yaml(root: &Value, schema: &Value, defaults: &Value, depth: usize) -> Vec<String> {
    let indent = "  ".repeat(depth);
    let mut lines = Vec::new();
    for (name, default) in defaults.as_object().into_iter().flatten() {
        let property = property(root, schema, name);
        lines.push(format!("{indent}# {}\n", description(property)));
        if is_group(root, property) {
            lines.push(format!("{indent}{name}:\n"));
            lines.extend(values_yaml(root, resolved(root, property), default, depth + 1));
        } else {
            lines.push(format!("{indent}{name}: {default}\n")); // JSON is YAML
        }
    }
    lines
}

fn property<'a>(root: &'a Value, schema: &'a Value, name: &str) -> &'a Value {
    &resolved(root, schema)["properties"][name]
}

/// A struct of ours, not a free map.
fn is_group(root: &Value, property: &Value) -> bool {
    resolved(root, property).get("properties").is_some()
}

/// The schema behind `$ref`, also where a description stands beside it.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
    reference.and_then(|reference| root.pointer(reference.trim_start_matches('#'))).unwrap_or(schema)
}

fn description(property: &Value) -> String {
    property["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_stands_in_table_and_file_with_a_description() {
        let artifacts = artifacts(&[]).unwrap();
        let content = |name: &str| {
            let found = artifacts.iter().find(|artifact| artifact.path.ends_with(name)).unwrap();
            found.content.clone()
        };
        let readme = content("README.md");
        for row in
            ["| `scope` | `\"Cluster\"` | What", "| `images.registry` | `\"\"` | A registry", "| `replicas` | `2` |"]
        {
            assert!(readme.contains(row), "{row}");
        }
        assert!(
            !readme.lines().any(|line| line.starts_with("| `") && line.ends_with("|  |")),
            "a value without a description"
        );
        let values: Value = serde_saphyr::from_str(&content("values.yaml")).unwrap();
        assert_eq!(values, serde_json::to_value(Values::default()).unwrap());
    }

    #[test]
    fn the_schema_refuses_names_that_do_not_exist() {
        let schema = schema().unwrap();
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
        assert_eq!(resolved(&schema, &schema["properties"]["images"])["additionalProperties"], Value::Bool(false));
    }
}
