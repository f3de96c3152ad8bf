//! Typed access to a JSON object: `null` counts as absent, and an error names the field, also inside of another.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// The fields of a request or of an object in it.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    path: Option<&'a str>,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The fields of a whole request.
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { path: None, object }
    }

    /// A value that is not `null`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A string.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "a string", Value::as_str)
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A whole number from 0.
    pub fn count(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.typed(name, "a whole number from 0", Value::as_u64)
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.typed(name, "a whole number that fits into 64 bits with its sign", Value::as_i64)
    }

    /// Any number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, ApiError> {
        self.typed(name, "a number", Value::as_f64)
    }

    /// An object.
    pub fn object(&self, name: &'a str) -> Result<Option<Self>, ApiError> {
        let object = self.typed(name, "an object", Value::as_object)?;
        Ok(object.map(|object| Self { path: Some(name), object }))
    }

    /// All fields as they were sent.
    pub(super) fn entries(&self) -> &'a Map<String, Value> {
        self.object
    }

    fn typed<T>(&self, name: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match read(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(self.wrong(name, value, wanted)),
        }
    }

    fn wrong(&self, name: &str, value: &Value, wanted: &str) -> ApiError {
        let name = self.path.map_or_else(|| name.to_owned(), |path| format!("{path}.{name}"));
        let message = format!("{name} is {}, but it must be {wanted}.", kind(value));
        ApiError::field(name, message)
    }
}

/// A short description of a value: scalars as they are, the rest by kind.
pub(super) fn kind(value: &Value) -> String {
    const LONGEST: usize = 40;
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.len() > LONGEST => "a long string".to_owned(),
        scalar => scalar.to_string(),
    }
}
