//! What can be wrong with a GGUF file. Messages are full sentences without the file name, which the caller adds.

use thiserror::Error;

/// Why a GGUF file was refused, or could not be made.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The first bytes are others.
    #[error(
        "it begins with {found:?} instead of \"GGUF\": it is another format, or the download is damaged. Get the file again"
    )]
    NotGguf {
        /// The first bytes, as text.
        found: String,
    },
    /// Written on or for a big-endian machine.
    #[error(
        "it is stored big-endian; only little-endian files are read. Convert it again without the option for big-endian files"
    )]
    BigEndian,
    /// Another version of the format.
    #[error("it has version {0} of the format; read are 2 and 3. Convert the model again with a current converter")]
    Version(u32),
    /// The file ends too early.
    #[error("it ends early: {what} at byte {offset} needs {needed} bytes, but {left} are left. Get the file again")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where.
        offset: usize,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        left: usize,
    },
    /// A count beyond every real model.
    #[error("it claims to have {found} {what}; at most {allowed} are read. The file is damaged or hostile")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many.
        found: u64,
        /// How many may be.
        allowed: u64,
    },
    /// A length beyond every real model.
    #[error("{what} is {found} bytes long; at most {allowed} are read. The file is damaged or hostile")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long.
        found: u64,
        /// How long it may be.
        allowed: u64,
    },
    /// A string in another encoding.
    #[error("{what} at byte {offset} is not UTF-8, which GGUF prescribes. Convert the model again")]
    NotUtf8 {
        /// Which string.
        what: &'static str,
        /// Where it begins.
        offset: usize,
    },
    /// A type of value that the format does not have.
    #[error("the metadata value `{key}` has type {found}; the format has types 0 to 12. The file is damaged")]
    ValueType {
        /// Its key.
        key: String,
        /// The number of the type.
        found: u32,
    },
    /// Arrays in arrays.
    #[error("the metadata value `{key}` is an array of arrays; no supported model has one. Convert the model again")]
    NestedArray {
        /// Its key.
        key: String,
    },
    /// A truth value that is neither.
    #[error("the metadata value `{key}` holds the truth value {found}; allowed are 0 and 1. The file is damaged")]
    Bool {
        /// Its key.
        key: String,
        /// The byte.
        found: u8,
    },
    /// One key twice.
    #[error("the metadata value `{0}` is there twice. The file is damaged or hostile")]
    DuplicateKey(String),
    /// One part of a model.
    #[error(
        "it is one of {0} parts of a model; parts are not read. Merge them into one file, for example with llama-gguf-split --merge"
    )]
    Split(u64),
    /// A value that every model of this kind has.
    #[error("it has no metadata value `{key}` ({expected}). Convert the model again with a current converter")]
    MissingKey {
        /// Its key.
        key: String,
        /// What is expected there.
        expected: &'static str,
    },
    /// A value of another type than prescribed.
    #[error("the metadata value `{key}` is {found}; expected is {expected}. Convert the model again")]
    WrongType {
        /// Its key.
        key: String,
        /// What is there.
        found: &'static str,
        /// What is expected there.
        expected: &'static str,
    },
    /// A value that the engine cannot follow.
    #[error("the metadata value `{key}` is {found}, which is not supported. Supported: {supported}")]
    Unsupported {
        /// Its key.
        key: String,
        /// Its value.
        found: String,
        /// What may stand there.
        supported: String,
    },
    /// Dimensions of a tensor.
    #[error(
        "tensor `{tensor}` has dimensions {found:?}; allowed are 1 to 4 of them, each at least 1, the product below 2^48"
    )]
    Dimensions {
        /// Its name.
        tensor: String,
        /// As in the file, innermost first.
        found: Vec<u64>,
    },
    /// A type of weights that the engine does not decode.
    #[error(
        "tensor `{tensor}` has type {found}; supported are {supported}. Take or make a file quantized to one of these"
    )]
    TensorType {
        /// Its name.
        tensor: String,
        /// The type's name, or its number.
        found: String,
        /// What may stand there.
        supported: String,
    },
    /// Rows that are not whole blocks.
    #[error(
        "tensor `{tensor}` has rows of {row} elements, but {dtype} stores blocks of {block}; rows must be whole blocks"
    )]
    BlockSize {
        /// Its name.
        tensor: String,
        /// Elements of a row.
        row: usize,
        /// Its type.
        dtype: &'static str,
        /// Elements of a block.
        block: usize,
    },
    /// The tensor does not begin where tensors may begin.
    #[error(
        "tensor `{tensor}` begins at {offset}, which is no multiple of the alignment {alignment}. The file is damaged"
    )]
    Misaligned {
        /// Its name.
        tensor: String,
        /// Its offset in the data.
        offset: u64,
        /// As the file says, or 32.
        alignment: u64,
    },
    /// The tensor ends after the file.
    #[error(
        "tensor `{tensor}` takes {size} bytes from byte {start} on, but the file ends at {length}. Get the file again"
    )]
    OutOfFile {
        /// Its name.
        tensor: String,
        /// Where it begins.
        start: u64,
        /// Its bytes.
        size: u64,
        /// Bytes of the file.
        length: usize,
    },
    /// Two tensors share bytes.
    #[error("the tensors `{first}` and `{second}` overlap. The file is damaged or hostile")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other one.
        second: String,
    },
    /// One name twice.
    #[error("tensor `{0}` is there twice. The file is damaged or hostile")]
    DuplicateTensor(String),
    /// The tensor from which the size of the vocabulary is known.
    #[error("it has no tensor `token_embd.weight`, the embedding of the tokens. Convert the model again")]
    NoEmbedding,
    /// Tokens, scores and the like contradict each other.
    #[error("its tokenizer cannot be used: {0}. Convert the model again with a current converter")]
    Tokenizer(String),
    /// A checkpoint that this format, as other programs read it, cannot express.
    #[error("it cannot be written as GGUF: {0}")]
    Export(String),
}
