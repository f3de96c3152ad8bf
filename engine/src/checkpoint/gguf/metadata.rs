//! Metadata of a GGUF file: values by key, borrowed from the file. Arrays stay bytes until somebody asks for their elements.

use std::collections::BTreeMap;

use super::GgufError;
use super::reader::Reader;

/// Longest key that the format allows.
const MAXIMUM_KEY: u64 = 65_535;
/// Tokens and merges are the longest arrays in use.
const MAXIMUM_ELEMENTS: u64 = 1 << 24;

/// Values by key.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a>(BTreeMap<&'a str, Value<'a>>);

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// Of any width and sign.
    Integer(i128),
    /// Of 32 or 64 bits.
    Float(f64),
    Bool(bool),
    Text(&'a str),
    Array(Array<'a>),
}

/// Elements of one type, checked to be complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Array<'a> {
    element: Scalar,
    count: usize,
    bytes: &'a [u8],
}

/// Types of values other than arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    U64,
    I64,
    F64,
}

const ARRAY: u32 = 9;

impl<'a> Metadata<'a> {
    /// Reads `count` pairs of key and value.
    pub(super) fn read(reader: &mut Reader<'a>, count: u64) -> Result<Self, GgufError> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = reader.string("a metadata key")?;
            if key.len() as u64 > MAXIMUM_KEY {
                let found = key.len() as u64;
                return Err(GgufError::TooLong { what: "a metadata key", found, allowed: MAXIMUM_KEY });
            }
            let value = read_value(reader, key)?;
            if values.insert(key, value).is_some() {
                return Err(GgufError::DuplicateKey(key.to_owned()));
            }
        }
        Ok(Self(values))
    }

    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        self.0.get(key).copied()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, GgufError> {
        self.typed(key, "a string", |value| if let Value::Text(text) = value { Some(text) } else { None })
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a truth value", |value| if let Value::Bool(truth) = value { Some(truth) } else { None })
    }

    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an integer from 0 on", |value| match value {
            Value::Integer(integer) => u64::try_from(integer).ok(),
            _ => None,
        })
    }

    /// The id of a token.
    pub(super) fn token(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "the id of a token", |value| match value {
            Value::Integer(integer) => u32::try_from(integer).ok(),
            _ => None,
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a number", |value| match value {
            Value::Float(float) => Some(float),
            Value::Integer(integer) => Some(integer as f64),
            _ => None,
        })
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, GgufError> {
        self.elements(key, "an array of strings", |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    pub(super) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, GgufError> {
        self.elements(key, "an array of integers", |value| match value {
            Value::Integer(integer) => i64::try_from(integer).ok(),
            _ => None,
        })
    }

    pub(super) fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, GgufError> {
        self.elements(key, "an array of truth values", |value| match value {
            Value::Bool(truth) => Some(truth),
            _ => None,
        })
    }

    pub(super) fn floats(&self, key: &str) -> Result<Option<Vec<f64>>, GgufError> {
        self.elements(key, "an array of numbers", |value| match value {
            Value::Float(float) => Some(float),
            _ => None,
        })
    }

    fn elements<T>(
        &self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        self.typed(key, expected, |value| match value {
            Value::Array(array) => array.values().map(&convert).collect(),
            _ => None,
        })
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(GgufError::WrongType { key: key.to_owned(), found: value.kind(), expected }),
        }
    }
}

impl Value<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "a truth value",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
        }
    }
}

impl<'a> Array<'a> {
    /// The elements in order.
    fn values(self) -> impl Iterator<Item = Value<'a>> {
        let mut reader = Reader::new(self.bytes);
        // They were read once before: nothing can be missing.
        (0..self.count).map_while(move |_| self.element.read(&mut reader, "").ok())
    }
}

fn read_value<'a>(reader: &mut Reader<'a>, key: &str) -> Result<Value<'a>, GgufError> {
    match reader.u32("the type of a metadata value")? {
        ARRAY => read_array(reader, key).map(Value::Array),
        number => Scalar::of(number, key)?.read(reader, key),
    }
}

fn read_array<'a>(reader: &mut Reader<'a>, key: &str) -> Result<Array<'a>, GgufError> {
    let element = match reader.u32("the type of an array")? {
        ARRAY => return Err(GgufError::NestedArray { key: key.to_owned() }),
        number => Scalar::of(number, key)?,
    };
    let count = reader.u64("the length of an array")?;
    if count > MAXIMUM_ELEMENTS {
        return Err(GgufError::TooMany { what: "elements of an array", found: count, allowed: MAXIMUM_ELEMENTS });
    }
    let rest = reader.clone();
    for _ in 0..count {
        element.read(reader, key)?;
    }
    let bytes = rest.until(reader);
    Ok(Array { element, count: count as usize, bytes })
}

impl Scalar {
    fn of(number: u32, key: &str) -> Result<Self, GgufError> {
        Ok(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::Text,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            found => return Err(GgufError::ValueType { key: key.to_owned(), found }),
        })
    }

    fn read<'a>(self, reader: &mut Reader<'a>, key: &str) -> Result<Value<'a>, GgufError> {
        let what = "a metadata value";
        Ok(match self {
            Self::U8 => Value::Integer(u8::from_le_bytes(reader.array(what)?).into()),
            Self::I8 => Value::Integer(i8::from_le_bytes(reader.array(what)?).into()),
            Self::U16 => Value::Integer(u16::from_le_bytes(reader.array(what)?).into()),
            Self::I16 => Value::Integer(i16::from_le_bytes(reader.array(what)?).into()),
            Self::U32 => Value::Integer(reader.u32(what)?.into()),
            Self::I32 => Value::Integer(i32::from_le_bytes(reader.array(what)?).into()),
            Self::U64 => Value::Integer(reader.u64(what)?.into()),
            Self::I64 => Value::Integer(i64::from_le_bytes(reader.array(what)?).into()),
            Self::F32 => Value::Float(f32::from_le_bytes(reader.array(what)?).into()),
            Self::F64 => Value::Float(f64::from_le_bytes(reader.array(what)?)),
            Self::Text => Value::Text(reader.string(what)?),
            Self::Bool => match reader.array(what)? {
                [found @ 0..=1] => Value::Bool(found == 1),
                [found] => return Err(GgufError::Bool { key: key.to_owned(), found }),
            },
        })
    }
}
