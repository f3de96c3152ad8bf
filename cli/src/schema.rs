//! Checks a value against the schema of a `CustomResourceDefinition`, as the API server does with strict field validation.
//!
//! Structure, types, enumerations and bounds only: patterns and rules are the business of `cllm_operator`'s `validate`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps as Schema, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// The first thing wrong with a value, as a sentence that starts with the field; `path` is the field of the value itself.
pub(crate) fn check(path: &str, value: &Value, schema: &Schema) -> Result<(), String> {
    if schema.x_kubernetes_int_or_string == Some(true) {
        return expect(path, value, value.is_string() || value.is_i64(), "a whole number or a string");
    }
    check_type(path, value, schema.type_.as_deref())?;
    check_allowed(path, value, schema)?;
    match value {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| field(path, name, value, schema)).and_then(|()| {
                match schema.required.iter().flatten().find(|name| !fields.contains_key(*name)) {
                    Some(name) => Err(format!("{} is missing", join(path, name))),
                    None => Ok(()),
                }
            })
        }
        Value::Array(items) => match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(schema)) => {
                items.iter().enumerate().try_for_each(|(index, item)| check(&format!("{path}[{index}]"), item, schema))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn field(path: &str, name: &str, value: &Value, schema: &Schema) -> Result<(), String> {
    let path = join(path, name);
    if let Some(schema) = schema.properties.as_ref().and_then(|properties| properties.get(name)) {
        // the API server drops a null as if the field were absent
        return if value.is_null() { Ok(()) } else { check(&path, value, schema) };
    }
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(schema)) => check(&path, value, schema),
        Some(JSONSchemaPropsOrBool::Bool(true)) => Ok(()),
        _ if schema.x_kubernetes_preserve_unknown_fields == Some(true) => Ok(()),
        _ => Err(format!("unknown field {path}; {}", hint(name, schema))),
    }
}

/// The most similar known field, or all of them.
fn hint(name: &str, schema: &Schema) -> String {
    let known: Vec<&str> = schema.properties.iter().flatten().map(|(name, _)| name.as_str()).collect();
    let flat = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let near = known.iter().find(|candidate| {
        let (candidate, name) = (flat(candidate), flat(name));
        candidate == name || candidate.starts_with(&name) || name.starts_with(&candidate)
    });
    match near {
        Some(near) => format!("did you mean {near}?"),
        None if known.is_empty() => "nothing may stand here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

fn check_type(path: &str, value: &Value, type_: Option<&str>) -> Result<(), String> {
    match type_ {
        Some("object") => expect(path, value, value.is_object(), "a mapping"),
        Some("array") => expect(path, value, value.is_array(), "a list"),
        Some("string") => expect(path, value, value.is_string(), "a string (in quotes where it looks like a number)"),
        Some("boolean") => expect(path, value, value.is_boolean(), "true or false"),
        Some("integer") => expect(path, value, value.is_i64() || value.is_u64(), "a whole number"),
        Some("number") => expect(path, value, value.is_number(), "a number"),
        _ => Ok(()),
    }
}

fn check_allowed(path: &str, value: &Value, schema: &Schema) -> Result<(), String> {
    if let Some(allowed) = &schema.enum_ {
        let names: Vec<String> = allowed.iter().map(|value| value.0.to_string().replace('"', "")).collect();
        let is_allowed = allowed.iter().any(|candidate| candidate.0 == *value);
        expect(path, value, is_allowed, &format!("one of {}", names.join(", ")))?;
    }
    let number = value.as_f64();
    if let (Some(number), Some(least)) = (number, schema.minimum) {
        expect(path, value, number >= least, &format!("at least {least}"))?;
    }
    if let (Some(number), Some(most)) = (number, schema.maximum) {
        expect(path, value, number <= most, &format!("at most {most}"))?;
    }
    let length = value.as_str().map(|text| i64::try_from(text.chars().count()).unwrap_or(i64::MAX));
    if let (Some(length), Some(least)) = (length, schema.min_length) {
        expect(path, value, length >= least, &format!("at least {least} characters long"))?;
    }
    if let (Some(length), Some(most)) = (length, schema.max_length) {
        expect(path, value, length <= most, &format!("at most {most} characters long"))?;
    }
    Ok(())
}

fn expect(path: &str, value: &Value, holds: bool, allowed: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{path} is {}; it must be {allowed}", shown(value))) }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "a mapping".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "empty".to_owned(),
        scalar => {
            let text = scalar.to_string();
            if text.chars().count() > 60 { format!("{}…", text.chars().take(60).collect::<String>()) } else { text }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
