//! One forward: tokens in, logits out, keys and values into the cache. Each row goes through the same operations whatever the rows
//! beside it (see `kernels`).

use thiserror::Error;

use super::kv_cache::LayerCache;
use super::workspace::{CHUNK_ROWS, resized};
use super::{KvCache, Layer, Model, Workspace};
use crate::kernels::{ActivationBlock, Attention, Compute, argmax, rms_norm, rope};

/// Rows of a piece where the work of a row is small.
const LIGHT_ROWS: usize = 16;

/// Why a forward was refused. Nothing was computed, the cache is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ForwardError {
    /// There is nothing to compute.
    #[error("a forward needs at least one token")]
    Empty,
    /// The model has no embedding for a token.
    #[error("token {token} is outside the vocabulary of the model, which has {vocab_size} tokens")]
    TokenOutsideVocabulary {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// More positions than the cache has room for.
    #[error("{rows} tokens do not fit into a KV cache of {capacity} positions that holds {len}")]
    CacheFull {
        /// Tokens given.
        rows: usize,
        /// Positions in the cache.
        len: usize,
        /// Positions for which it has room.
        capacity: usize,
    },
}

/// Logits of some rows, `[rows, vocab_size]`.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    values: &'a [f32],
    vocab_size: usize,
}

impl<'a> Logits<'a> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.vocab_size
    }

    /// Logits of one row, `[vocab_size]`.
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.vocab_size..(index + 1) * self.vocab_size]
    }

    /// The token with the highest logit of a row; the lowest id among equals.
    pub fn argmax(&self, index: usize) -> u32 {
        argmax(self.row(index))
    }
}

impl Model {
    /// Computes `tokens` at the positions after those in the cache and adds them to it. Logits of all rows: row i predicts the token
    /// after `tokens[i]`.
    pub fn forward<'a>(
        &self,
        workspace: &'a mut Workspace,
        cache: &mut KvCache,
        tokens: &[u32],
    ) -> Result<Logits<'a>, ForwardError> {
        self.check(cache, tokens)?;
        let vocab_size = self.config.vocab_size;
        resized(&mut workspace.logits, tokens.len() * vocab_size);
        for (index, chunk) in tokens.chunks(CHUNK_ROWS).enumerate() {
            self.run_layers(workspace, cache, chunk);
            self.run_head(workspace, 0..chunk.len(), index * CHUNK_ROWS);
        }
        Ok(Logits { values: &workspace.logits[..tokens.len() * vocab_size], vocab_size })
    }

    /// [`Model::forward`] with logits of the last row only, as a prefill needs.
    pub fn forward_last<'a>(
        &self,
        workspace: &'a mut Workspace,
        cache: &mut KvCache,
        tokens: &[u32],
    ) -> Result<Logits<'a>, ForwardError> {
        self.check(cache, tokens)?;
        let vocab_size = self.config.vocab_size;
        resized(&mut workspace.logits, vocab_size);
        let mut rows = 0;
        for chunk in tokens.chunks(CHUNK_ROWS) {
            self.run_layers(workspace, cache, chunk);
            rows = chunk.len();
        }
        self.run_head(workspace, rows - 1..rows, 0);
        Ok(Logits { values: &workspace.logits[..vocab_size], vocab_size })
    }

    fn check(&self, cache: &KvCache, tokens: &[u32]) -> Result<(), ForwardError> {
        let (rows, len, capacity) = (tokens.len(), cache.len(), cache.capacity());
        let vocab_size = self.config.vocab_size;
        if rows == 0 {
            return Err(ForwardError::Empty);
        }
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(ForwardError::TokenOutsideVocabulary { token, vocab_size });
        }
        if rows > capacity - len {
            return Err(ForwardError::CacheFull { rows, len, capacity });
        }
        Ok(())
    }

    /// Takes at most [`CHUNK_ROWS`] tokens through all layers, leaves their rows in `workspace.hidden`.
    fn run_layers(&self, workspace: &mut Workspace, cache: &mut KvCache, tokens: &[u32]) {
        let hidden = resized(&mut workspace.hidden, tokens.len() * self.config.hidden_size);
        for (row, &token) in hidden.chunks_exact_mut(self.config.hidden_size).zip(tokens) {
            self.embed(token, row);
        }
        cache.rotate(tokens.len(), &self.rope_frequencies);
        for index in 0..self.layers.len() {
            self.run_attention(workspace, cache, index, tokens.len());
            self.run_mlp(workspace, &self.layers[index], tokens.len());
        }
        cache.advance(tokens.len());
    }

    fn run_attention(&self, workspace: &mut Workspace, cache: &mut KvCache, index: usize, rows: usize) {
        let (config, layer) = (&self.config, &self.layers[index]);
        let hidden = &mut workspace.hidden[..rows * config.hidden_size];
        let normed = resized(&mut workspace.normed, hidden.len());
        self.normalize(hidden, &layer.attention_norm, normed);
        let width = layer.qkv.outputs();
        let qkv = resized(&mut workspace.qkv, rows * width);
        layer.qkv.set(self.compute(&mut workspace.activations), normed, qkv);

        add_bias(&layer.qkv_bias, qkv);

        let (head_dim, heads, kv_heads) = (config.head_dim, config.num_attention_heads, config.num_key_value_heads);
        let (keys, values) = (heads * head_dim, (heads + kv_heads) * head_dim);
        let before = resized(&mut workspace.heads, keys);
        for (row, qkv) in qkv.chunks_exact_mut(width).enumerate() {
            let position = cache.len() + row;
            let angles = cache.angles(position..position + 1);
            self.normalize_heads(&layer.query_norm, &mut qkv[..keys], before);
            self.normalize_heads(&layer.key_norm, &mut qkv[keys..values], before);
            qkv[keys..values].chunks_exact_mut(head_dim).for_each(|head| rope(head, angles));
            cache.write(index, position, &qkv[keys..values], &qkv[values..]);
        }

        let attended = resized(&mut workspace.attended, rows * keys);
        let LayerCache { keys, values } = cache.layer(index);
        let (position, angles) = (cache.len(), cache.angles(cache.len()..cache.len() + rows));
        let window = layer.window;
        Attention { heads, kv_heads, head_dim, rows: qkv, row_width: width, angles, keys, values, position, window }
            .run(&self.pool, self.instruction_set, attended);
        layer.output.add(self.compute(&mut workspace.activations), attended, hidden);
        add_bias(&layer.output_bias, hidden);
    }

    /// Norm of each head of one row, in place; without a weight nothing happens. `before` is scratch of at least the length of `heads`.
    fn normalize_heads(&self, weight: &[f32], heads: &mut [f32], before: &mut [f32]) {
        if !weight.is_empty() {
            let before = &mut before[..heads.len()];
            before.copy_from_slice(heads);
            rms_norm(self.instruction_set, before, weight, self.config.rms_norm_eps as f32, heads);
        }
    }

    fn run_mlp(&self, workspace: &mut Workspace, layer: &Layer, rows: usize) {
        let hidden = &mut workspace.hidden[..rows * self.config.hidden_size];
        let normed = resized(&mut workspace.normed, hidden.len());
        self.normalize(hidden, &layer.mlp_norm, normed);
        let activated = resized(&mut workspace.activated, rows * layer.gate_up.outputs());
        layer.gate_up.gate(self.compute(&mut workspace.activations), normed, activated);
        layer.down.add(self.compute(&mut workspace.activations), activated, hidden);
    }

    /// Logits of some rows of `workspace.hidden` into `workspace.logits`, from row `first` on.
    fn run_head(&self, workspace: &mut Workspace, rows: std::ops::Range<usize>, first: usize) {
        let (width, vocab_size) = (self.config.hidden_size, self.config.vocab_size);
        let hidden = &workspace.hidden[rows.start * width..rows.end * width];
        let normed = resized(&mut workspace.normed, hidden.len());
        self.normalize(hidden, &self.norm, normed);
        let logits = &mut workspace.logits[first * vocab_size..(first + rows.len()) * vocab_size];
        self.lm_head.set(self.compute(&mut workspace.activations), normed, logits);
    }

    fn compute<'a>(&'a self, activations: &'a mut Vec<ActivationBlock>) -> Compute<'a> {
        Compute { pool: &self.pool, set: self.instruction_set, activations }
    }

    fn normalize(&self, rows: &[f32], weight: &[f32], normed: &mut [f32]) {
        let width = weight.len();
        let epsilon = self.config.rms_norm_eps as f32;
        self.pool.run_chunks(normed, width * LIGHT_ROWS, |index, normed| {
            rms_norm(
                self.instruction_set,
                &rows[index * width * LIGHT_ROWS..][..normed.len()],
                weight,
                epsilon,
                normed,
            );
        });
    }
}

/// Adds a bias, which may be empty for none, to each row of its length.
fn add_bias(bias: &[f32], rows: &mut [f32]) {
    if !bias.is_empty() {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }
}
