//! Writes a GGUF file, version 3: header first, then one tensor after the other, so that only one is in memory at a time.

use std::io::{self, Write};

use super::types;
use crate::checkpoint::Dtype;

const ALIGNMENT: usize = 32;

/// What metadata is written.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Integer(u32),
    Float(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i32>),
    Bools(Vec<bool>),
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// As GGUF calls it.
    pub(super) name: String,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
}

impl Planned {
    /// Bytes of the data.
    fn size(&self) -> usize {
        self.shape.iter().product::<usize>() / self.dtype.block_elements() * self.dtype.block_bytes()
    }
}

/// Everything before the data. Tensors follow in this order, each by [`write_tensor`].
pub(super) fn write_header(
    output: &mut impl Write,
    values: &[(String, Written)],
    tensors: &[Planned],
) -> io::Result<()> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    for (key, value) in values {
        push_text(&mut bytes, key);
        push_value(&mut bytes, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        push_text(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        bytes.extend(tensor.shape.iter().rev().flat_map(|&size| (size as u64).to_le_bytes()));
        bytes.extend(types::number(tensor.dtype).to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        offset += tensor.size().next_multiple_of(ALIGNMENT);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    output.write_all(&bytes)
}

/// The data of one tensor, filled up to where the next one begins.
pub(super) fn write_tensor(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes)?;
    output.write_all(&[0; ALIGNMENT][..bytes.len().next_multiple_of(ALIGNMENT) - bytes.len()])
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn push_value(bytes: &mut Vec<u8>, value: &Written) {
    let kind: u32 = match value {
        Written::Integer(_) => 4,
        Written::Float(_) => 6,
        Written::Bool(_) => 7,
        Written::Text(_) => 8,
        Written::Texts(_) | Written::Integers(_) | Written::Bools(_) => 9,
    };
    bytes.extend(kind.to_le_bytes());
    match value {
        Written::Integer(integer) => bytes.extend(integer.to_le_bytes()),
        Written::Float(float) => bytes.extend(float.to_le_bytes()),
        Written::Bool(truth) => bytes.push(u8::from(*truth)),
        Written::Text(text) => push_text(bytes, text),
        Written::Texts(texts) => {
            push_array(bytes, 8, texts.len());
            for text in texts {
                push_text(bytes, text);
            }
        }
        Written::Integers(integers) => {
            push_array(bytes, 5, integers.len());
            bytes.extend(integers.iter().flat_map(|integer| integer.to_le_bytes()));
        }
        Written::Bools(truths) => {
            push_array(bytes, 7, truths.len());
            bytes.extend(truths.iter().map(|&truth| u8::from(truth)));
        }
    }
}

fn push_array(bytes: &mut Vec<u8>, element: u32, count: usize) {
    bytes.extend(element.to_le_bytes());
    bytes.extend((count as u64).to_le_bytes());
}
