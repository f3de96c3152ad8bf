//! The beginning of a GGUF file: counts, metadata, and where each tensor is. Checked against the length of the file.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeSet;
use std::ops::Range;

use super::metadata::Metadata;
use super::reader::Reader;
use super::{GgufError, types};
use crate::checkpoint::Dtype;

const MAXIMUM_VALUES: u64 = 1 << 16;
const MAXIMUM_TENSORS: u64 = 1 << 16;
/// Longest name that ggml gives a tensor, with some reserve.
const MAXIMUM_NAME: u64 = 255;
const MAXIMUM_DIMENSIONS: u32 = 4;
const MAXIMUM_ELEMENTS: u64 = 1 << 48;
const DEFAULT_ALIGNMENT: u64 = 32;
const MAXIMUM_ALIGNMENT: u64 = 1 << 16;

/// What a GGUF file says about itself.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) metadata: Metadata<'a>,
    pub(super) tensors: Vec<TensorInfo>,
}

/// Where a tensor is.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    /// As the file calls it.
    pub(super) name: String,
    /// Outermost first, as everywhere else in this crate; the file has them the other way round.
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Dtype,
    /// Place in the file.
    pub(super) bytes: Range<usize>,
}

/// A tensor whose place is not checked yet.
struct RawTensor {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    offset: u64,
    size: u64,
}

impl<'a> Header<'a> {
    /// Reads and checks everything before the data of the tensors.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, GgufError> {
        let mut reader = Reader::new(file);
        check_format(&mut reader)?;
        let tensors = bounded(reader.u64("the number of tensors")?, "tensors", MAXIMUM_TENSORS)?;
        let values = bounded(reader.u64("the number of metadata values")?, "metadata values", MAXIMUM_VALUES)?;
        let metadata = Metadata::read(&mut reader, values)?;
        if let Some(parts @ 2..) = metadata.count("split.count")? {
            return Err(GgufError::Split(parts));
        }
        let alignment = alignment(&metadata)?;
        let raw = (0..tensors).map(|_| read_tensor(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let start = (reader.position() as u64).next_multiple_of(alignment);
        let placed = raw.into_iter().map(|raw| place(raw, start, alignment, file.len()));
        let tensors = placed.collect::<Result<Vec<_>, _>>()?;
        check_apart(&tensors)?;
        Ok(Self { metadata, tensors })
    }
}

fn check_format(reader: &mut Reader<'_>) -> Result<(), GgufError> {
    let magic: [u8; 4] = reader.array("the magic number")?;
    if &magic != b"GGUF" {
        return Err(GgufError::NotGguf { found: magic.escape_ascii().to_string() });
    }
    match reader.u32("the version")? {
        2 | 3 => Ok(()),
        version if matches!(version.swap_bytes(), 1..=0xFFFF) => Err(GgufError::BigEndian),
        version => Err(GgufError::Version(version)),
    }
}

fn bounded(found: u64, what: &'static str, allowed: u64) -> Result<u64, GgufError> {
    if found > allowed { Err(GgufError::TooMany { what, found, allowed }) } else { Ok(found) }
}

fn alignment(metadata: &Metadata<'_>) -> Result<u64, GgufError> {
    let key = "general.alignment";
    match metadata.count(key)?.unwrap_or(DEFAULT_ALIGNMENT) {
        alignment @ 1..=MAXIMUM_ALIGNMENT if alignment.is_power_of_two() => Ok(alignment),
        found => Err(GgufError::Unsupported {
            key: key.to_owned(),
            found: found.to_string(),
            supported: format!("powers of two up to {MAXIMUM_ALIGNMENT}"),
        }),
    }
}

fn read_tensor(reader: &mut Reader<'_>) -> Result<RawTensor, GgufError> {
    let name = reader.string("the name of a tensor")?.to_owned();
    if name.len() as u64 > MAXIMUM_NAME {
        let found = name.len() as u64;
        return Err(GgufError::TooLong { what: "the name of a tensor", found, allowed: MAXIMUM_NAME });
    }
    let count = reader.u32("the number of dimensions")?;
    if count > MAXIMUM_DIMENSIONS {
        return Err(GgufError::TooMany {
            what: "dimensions of a tensor",
            found: count.into(),
            allowed: MAXIMUM_DIMENSIONS.into(),
        });
    }
    let dimensions = (0..count).map(|_| reader.u64("a dimension")).collect::<Result<Vec<_>, _>>()?;
    let dtype = types::dtype(reader.u32("the type of a tensor")?, &name)?;
    let offset = reader.u64("the offset of a tensor")?;
    let size = size(&name, &dimensions, dtype)?;
    // The product of them fits, so each of them does.
    let shape = dimensions.iter().rev().map(|&dimension| dimension as usize).collect();
    Ok(RawTensor { name, shape, dtype, offset, size })
}

/// Bytes of a tensor.
fn size(name: &str, dimensions: &[u64], dtype: Dtype) -> Result<u64, GgufError> {
    let product = dimensions.iter().try_fold(1_u64, |product, &dimension| product.checked_mul(dimension));
    let Some(elements @ 1..MAXIMUM_ELEMENTS) = product.filter(|_| !dimensions.is_empty()) else {
        return Err(GgufError::Dimensions { tensor: name.to_owned(), found: dimensions.to_vec() });
    };
    let (row, block) = (dimensions[0] as usize, dtype.block_elements());
    if !row.is_multiple_of(block) {
        return Err(GgufError::BlockSize { tensor: name.to_owned(), row, dtype: dtype.name(), block });
    }
    Ok(elements / block as u64 * dtype.block_bytes() as u64)
}

/// From an offset in the data to a place in the file.
fn place(raw: RawTensor, data: u64, alignment: u64, length: usize) -> Result<TensorInfo, GgufError> {
    let RawTensor { name, shape, dtype, offset, size } = raw;
    if !offset.is_multiple_of(alignment) {
        return Err(GgufError::Misaligned { tensor: name, offset, alignment });
    }
    let start = data.saturating_add(offset);
    match start.checked_add(size) {
        Some(end) if end <= length as u64 => Ok(TensorInfo { name, shape, dtype, bytes: start as usize..end as usize }),
        _ => Err(GgufError::OutOfFile { tensor: name, start, size, length }),
    }
}

/// No name twice, no byte in two tensors.
fn check_apart(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut names = BTreeSet::new();
    if let Some(twice) = tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        return Err(GgufError::DuplicateTensor(twice.name.clone()));
    }
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| tensor.bytes.start);
    match sorted.windows(2).find(|pair| pair[0].bytes.end > pair[1].bytes.start) {
        Some(pair) => Err(GgufError::Overlap { first: pair[0].name.clone(), second: pair[1].name.clone() }),
        None => Ok(()),
    }
}
