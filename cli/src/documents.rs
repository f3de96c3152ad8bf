//! Reads the YAML documents of a file strictly: what Kubernetes would drop or guess is an error here.
//!
//! An error names the file, the number of the document (empty ones are not counted) and the field.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use cllm_crds::{CllmModel, CllmTraining};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps as Schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema;

/// The only accepted `apiVersion`.
pub(crate) const API_VERSION: &str = "cllm.dev/v1alpha1";

/// What a file may contain.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// `kind: CllmTraining`.
    Training(Box<CllmTraining>),
    /// `kind: CllmModel`.
    Model(Box<CllmModel>),
}

/// Why a file is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// There is no such file, or no permission.
    #[error("cannot read {path}: {source}; give the path of a YAML file with a CllmTraining or a CllmModel")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not YAML.
    #[error("{path} is not valid YAML: {message}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What the parser found, with line and column.
        message: String,
    },
    /// Nothing in it.
    #[error("{path} contains no document; write at least one CllmTraining or CllmModel")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A document that is YAML, but not one of ours.
    #[error("{place}: {problem}")]
    Document {
        /// Which document.
        place: Place,
        /// A sentence.
        problem: String,
    },
}

/// A document of a file, as errors name it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file.
    pub path: PathBuf,
    /// From 1.
    pub number: usize,
    /// `Kind name`, where known.
    pub object: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, document {}", self.path.display(), self.number)?;
        self.object.iter().try_for_each(|object| write!(formatter, " ({object})"))
    }
}

/// A document and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// The document.
    pub document: Document,
    /// For errors found later.
    pub place: Place,
}

/// Reads all documents of a file; at least one.
pub(crate) fn read(path: &Path) -> Result<Vec<Located>, DocumentError> {
    let text = std::fs::read_to_string(path).map_err(|source| DocumentError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Like [`read`], of a text; `path` only names it.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Located>, DocumentError> {
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| DocumentError::Yaml { path: path.to_owned(), message: error.to_string() })?;
    if values.is_empty() {
        return Err(DocumentError::Empty { path: path.to_owned() });
    }
    let mut names = BTreeSet::new();
    let mut documents = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let place = Place { path: path.to_owned(), number: index + 1, object: object_name(&value) };
        let document = typed(value).map_err(|problem| DocumentError::Document { place: place.clone(), problem })?;
        if let Some(object) = place.object.clone()
            && !names.insert(object)
        {
            let problem = "is in this file twice; give each object of a kind its own name".to_owned();
            return Err(DocumentError::Document { place, problem });
        }
        documents.push(Located { document, place });
    }
    Ok(documents)
}

fn object_name(value: &Value) -> Option<String> {
    Some(format!("{} {}", value.get("kind")?.as_str()?, value.pointer("/metadata/name")?.as_str()?))
}

fn typed(mut value: Value) -> Result<Document, String> {
    if !value.is_object() {
        return Err(format!("is not a mapping; it must start with 'apiVersion: {API_VERSION}'"));
    }
    expect_text(&value, "/apiVersion", |found| found == API_VERSION, API_VERSION)?;
    let kinds = "CllmTraining or CllmModel";
    let kind = expect_text(&value, "/kind", |found| matches!(found, "CllmTraining" | "CllmModel"), kinds)?;
    expect_text(&value, "/metadata/name", |found| !found.is_empty(), "a name")?;
    known_metadata(value["metadata"].clone())?;
    // what a cluster says about an object is of no use here
    value.as_object_mut().and_then(|fields| fields.remove("status"));
    if kind == "CllmTraining" {
        strict(value, &kind).map(|training| Document::Training(Box::new(training)))
    } else {
        strict(value, &kind).map(|model| Document::Model(Box::new(model)))
    }
}

fn expect_text(value: &Value, pointer: &str, accept: fn(&str) -> bool, allowed: &str) -> Result<String, String> {
    let field = pointer.trim_start_matches('/').replace('/', ".");
    match value.pointer(pointer) {
        Some(Value::String(found)) if accept(found) => Ok(found.clone()),
        Some(found) => Err(format!("{field} is {found}; it must be {allowed}")),
        None => Err(format!("{field} is missing; it must be {allowed}")),
    }
}

/// The schema of a resource leaves its metadata open.
fn known_metadata(metadata: Value) -> Result<(), String> {
    let mut unknown = None;
    serde_ignored::deserialize::<_, _, ObjectMeta>(metadata, |path| unknown = Some(path.to_string()))
        .map_err(|error| format!("metadata: {error}"))?;
    match unknown {
        Some(field) => Err(format!("unknown field metadata.{field}; check its spelling and its indentation")),
        None => Ok(()),
    }
}

fn strict<T: DeserializeOwned>(value: Value, kind: &str) -> Result<T, String> {
    let definitions = cllm_crds::definitions::all().map_err(|error| error.to_string())?;
    let versions = definitions.iter().filter(|definition| definition.spec.names.kind == kind);
    let schema = versions
        .flat_map(|definition| &definition.spec.versions)
        .find_map(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let mut schema = schema.cloned().unwrap_or_default();
    let any = || Schema { x_kubernetes_preserve_unknown_fields: Some(true), ..Schema::default() };
    let properties = schema.properties.get_or_insert_default();
    for known in ["apiVersion", "kind", "metadata"] {
        properties.entry(known.to_owned()).or_insert_with(any);
    }
    properties.insert("metadata".to_owned(), any());
    schema::check("", &value, &schema)?;
    serde_path_to_error::deserialize(value).map_err(|error| format!("{}: {}", error.path(), error.inner()))
}
