//! Numbers of ggml's tensor types.

use super::GgufError;
use crate::checkpoint::Dtype;

const SUPPORTED: [(u32, Dtype); 13] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (30, Dtype::Bf16),
    (8, Dtype::Q8_0),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
];

/// Types that exist, but that the engine does not decode.
const REFUSED: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// The type that has this number in a file.
pub(super) fn dtype(number: u32, tensor: &str) -> Result<Dtype, GgufError> {
    if let Some((_, dtype)) = SUPPORTED.iter().find(|(known, _)| *known == number) {
        return Ok(*dtype);
    }
    let name = REFUSED.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    Err(GgufError::TensorType {
        tensor: tensor.to_owned(),
        found: name.map_or_else(|| format!("{number}, which nobody has defined"), str::to_owned),
        supported: SUPPORTED.map(|(_, dtype)| dtype.name()).join(", "),
    })
}

/// The number of a type in a file.
pub(super) fn number(dtype: Dtype) -> u32 {
    SUPPORTED.iter().find(|(_, known)| *known == dtype).map_or(u32::MAX, |(number, _)| *number)
}
