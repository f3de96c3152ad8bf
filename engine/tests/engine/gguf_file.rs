//! GGUF files put together byte by byte, so that tests can make wrong ones.

/// A metadata value: the number of its type, and its bytes.
pub(crate) type RawValue = (u32, Vec<u8>);

/// A tensor: name, dimensions (innermost first), number of the type, offset, bytes.
#[derive(Clone)]
pub(crate) struct RawTensor {
    pub(crate) name: String,
    pub(crate) dimensions: Vec<u64>,
    pub(crate) dtype: u32,
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
}

/// A whole file.
#[derive(Clone)]
pub(crate) struct GgufFile {
    pub(crate) version: u32,
    pub(crate) values: Vec<(String, RawValue)>,
    pub(crate) tensors: Vec<RawTensor>,
    pub(crate) alignment: usize,
}

pub(crate) fn text(value: &str) -> RawValue {
    (8, string(value))
}

pub(crate) fn integer(value: u32) -> RawValue {
    (4, value.to_le_bytes().to_vec())
}

pub(crate) fn float(value: f32) -> RawValue {
    (6, value.to_le_bytes().to_vec())
}

pub(crate) fn truth(value: u8) -> RawValue {
    (7, vec![value])
}

pub(crate) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> RawValue {
    array(8, &values.into_iter().map(string).collect::<Vec<_>>())
}

pub(crate) fn integers(values: &[i32]) -> RawValue {
    array(5, &values.iter().map(|value| value.to_le_bytes().to_vec()).collect::<Vec<_>>())
}

pub(crate) fn floats(values: &[f32]) -> RawValue {
    array(6, &values.iter().map(|value| value.to_le_bytes().to_vec()).collect::<Vec<_>>())
}

pub(crate) fn array(element: u32, elements: &[Vec<u8>]) -> RawValue {
    let mut bytes = element.to_le_bytes().to_vec();
    bytes.extend((elements.len() as u64).to_le_bytes());
    bytes.extend(elements.concat());
    (9, bytes)
}

fn string(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

impl GgufFile {
    /// A Llama model of one layer whose weights are all f32: hidden size 8, 2 heads of width 4, one of them for keys and values.
    pub(crate) fn llama(tokenizer: Vec<(&str, RawValue)>, vocabulary: u64) -> Self {
        let mut values = vec![
            ("general.architecture", text("llama")),
            ("llama.context_length", integer(64)),
            ("llama.embedding_length", integer(8)),
            ("llama.block_count", integer(1)),
            ("llama.feed_forward_length", integer(12)),
            ("llama.attention.head_count", integer(2)),
            ("llama.attention.head_count_kv", integer(1)),
            ("llama.attention.layer_norm_rms_epsilon", float(1e-5)),
        ];
        values.extend(tokenizer);
        let values = values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut file = Self { version: 3, values, tensors: Vec::new(), alignment: 32 };
        for (name, dimensions) in [
            ("token_embd", &[8, vocabulary][..]),
            ("blk.0.attn_norm", &[8]),
            ("blk.0.attn_q", &[8, 8]),
            ("blk.0.attn_k", &[8, 4]),
            ("blk.0.attn_v", &[8, 4]),
            ("blk.0.attn_output", &[8, 8]),
            ("blk.0.ffn_norm", &[8]),
            ("blk.0.ffn_gate", &[8, 12]),
            ("blk.0.ffn_up", &[8, 12]),
            ("blk.0.ffn_down", &[12, 8]),
            ("output_norm", &[8]),
        ] {
            file.add_tensor(&format!("{name}.weight"), dimensions);
        }
        file
    }

    /// Appends a tensor of f32 that counts up.
    pub(crate) fn add_tensor(&mut self, name: &str, dimensions: &[u64]) {
        let end = self.tensors.last().map_or(0, |last| last.offset as usize + last.data.len());
        let elements = dimensions.iter().product::<u64>();
        self.tensors.push(RawTensor {
            name: name.to_owned(),
            dimensions: dimensions.to_vec(),
            dtype: 0,
            offset: end.next_multiple_of(self.alignment) as u64,
            data: (0..elements).flat_map(|i| (i as f32 / 64.0).to_le_bytes()).collect(),
        });
    }

    /// Replaces a metadata value, or adds it.
    pub(crate) fn set(&mut self, key: &str, value: RawValue) {
        self.values.retain(|(known, _)| known != key);
        self.values.push((key.to_owned(), value));
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.values.len() as u64).to_le_bytes());
        for (key, (kind, value)) in &self.values {
            bytes.extend([string(key), kind.to_le_bytes().to_vec(), value.clone()].concat());
        }
        for tensor in &self.tensors {
            bytes.extend(string(&tensor.name));
            bytes.extend((tensor.dimensions.len() as u32).to_le_bytes());
            bytes.extend(tensor.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
            bytes.extend(tensor.dtype.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        let start = bytes.len().next_multiple_of(self.alignment);
        for tensor in &self.tensors {
            // An offset that points far away is what the reader shall refuse: there is nothing to place.
            let Some(from) = start.checked_add(tensor.offset as usize).filter(|&from| from < 1 << 24) else { continue };
            let end = from + tensor.data.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[from..end].copy_from_slice(&tensor.data);
        }
        bytes
    }
}
