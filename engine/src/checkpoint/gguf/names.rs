//! Names and row orders of GGUF tensors, and those of Hugging Face, which the rest of this crate speaks.

/// Whole tensors: GGUF, Hugging Face.
const MODEL: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Parts of a layer: GGUF, Hugging Face.
const LAYER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Factors by which the rotary frequencies are divided; they stand for parameters of the configuration.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// `blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`; a name that no supported model has stays as it is.
pub(super) fn to_hugging_face(name: &str) -> String {
    translated(name, "blk.", "model.layers.", |pair| pair).unwrap_or_else(|| name.to_owned())
}

/// The other way round; nothing for a name that GGUF has no word for.
pub(super) fn to_gguf(name: &str) -> Option<String> {
    translated(name, "model.layers.", "blk.", |(gguf, hugging_face)| (hugging_face, gguf))
}

/// `order` gives (word to find, word to write) of a row of the tables.
fn translated(
    name: &str,
    from: &str,
    to: &str,
    order: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let word = |table: &[(&'static str, &'static str)], part: &str| {
        table.iter().map(|&pair| order(pair)).find(|(found, _)| *found == part).map(|(_, written)| written)
    };
    if let Some(written) = word(&MODEL, stem) {
        return Some(format!("{written}.{kind}"));
    }
    let (layer, part) = stem.strip_prefix(from)?.split_once('.')?;
    let written = word(&LAYER, part)?;
    layer.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{to}{layer}.{written}.{kind}"))
}

/// How the rows of a weight are ordered in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As Hugging Face has them.
    Plain,
    /// Heads whose two halves are interleaved: llama.cpp rotates neighbours, Hugging Face element i and element i + half.
    Interleaved {
        /// Number of heads.
        heads: usize,
    },
}

impl RowOrder {
    /// The order in which a file of the Llama architecture has the rows of a tensor (Hugging Face name); those of the others are plain.
    pub(super) fn of(architecture: &str, name: &str, heads: usize, key_value_heads: usize) -> Self {
        match name.rsplit('.').nth(1) {
            Some("q_proj") if architecture == "llama" => Self::Interleaved { heads },
            Some("k_proj") if architecture == "llama" => Self::Interleaved { heads: key_value_heads },
            _ => Self::Plain,
        }
    }

    /// Whether so many rows can be in this order.
    pub(super) fn fits(self, rows: usize) -> bool {
        match self {
            Self::Plain => true,
            Self::Interleaved { heads } => heads > 0 && rows.is_multiple_of(2 * heads),
        }
    }

    /// The row of the file that is this row, of so many, of Hugging Face.
    pub(crate) fn source(self, row: usize, rows: usize) -> usize {
        let Self::Interleaved { heads } = self else { return row };
        let width = rows / heads;
        let (head, within) = (row / width, row % width);
        let (second, pair) = (within / (width / 2), within % (width / 2));
        head * width + 2 * pair + second
    }

    /// Rows in the order of Hugging Face, from those of a file.
    pub(crate) fn to_plain(self, bytes: &[u8], rows: usize) -> Vec<u8> {
        let width = bytes.len() / rows;
        let sources = (0..rows).map(|row| self.source(row, rows));
        sources.flat_map(|row| &bytes[row * width..(row + 1) * width]).copied().collect()
    }

    /// Rows in the order of a file, from those of Hugging Face.
    pub(super) fn to_stored<T: Copy + Default>(self, values: &[T], rows: usize) -> Vec<T> {
        let width = values.len() / rows;
        let mut reordered = vec![T::default(); values.len()];
        for row in 0..rows {
            let target = self.source(row, rows);
            reordered[target * width..(target + 1) * width].copy_from_slice(&values[row * width..(row + 1) * width]);
        }
        reordered
    }
}
