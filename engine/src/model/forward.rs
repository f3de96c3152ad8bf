//! One forward: tokens of one or several sequences in, logits out, keys and values into their caches. Each row goes through the same
//! operations whatever the rows beside it, of its own sequence or of others (see `kernels`).

use thiserror::Error;

use super::kv_pool::KvMemoryFull;
use super::workspace::{CHUNK_ROWS, resized};
use super::{KvCache, Layer, Model, Workspace};
use crate::kernels::{ActivationBlock, Attention, Compute, KeyValues, Span, add_rope_angles, argmax, rms_norm, rope};

/// Rows of a piece where the work of a row is small.
const LIGHT_ROWS: usize = 16;

/// Why a forward was refused. Nothing was computed, no cache is changed.
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
    /// The caches of other sequences have all the memory.
    #[error(transparent)]
    KvMemory(#[from] KvMemoryFull),
}

/// Tokens of one sequence in a forward.
#[derive(Debug)]
pub struct Segment<'a> {
    /// They come after the positions in it, and are added to it.
    pub cache: &'a mut KvCache,
    /// At least one.
    pub tokens: &'a [u32],
    /// The last so many of them have logits.
    pub predict: usize,
}

/// Logits of the segments of a forward.
#[derive(Clone, Copy, Debug)]
pub struct BatchLogits<'a> {
    values: &'a [f32],
    vocab_size: usize,
    /// Where the rows of each segment begin, and where those of the last end.
    starts: &'a [usize],
}

impl<'a> BatchLogits<'a> {
    /// Those of the segment at `index`: as many rows as it was to predict.
    pub fn of(&self, index: usize) -> Logits<'a> {
        let rows = self.starts[index]..self.starts[index + 1];
        let values = &self.values[rows.start * self.vocab_size..rows.end * self.vocab_size];
        Logits { values, vocab_size: self.vocab_size }
    }
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
        let segment = Segment { cache, tokens, predict: tokens.len() };
        self.forward_batch(workspace, &mut [segment]).map(|logits| logits.of(0))
    }

    /// [`Model::forward`] with logits of the last row only, as a prefill needs.
    pub fn forward_last<'a>(
        &self,
        workspace: &'a mut Workspace,
        cache: &mut KvCache,
        tokens: &[u32],
    ) -> Result<Logits<'a>, ForwardError> {
        self.forward_batch(workspace, &mut [Segment { cache, tokens, predict: 1 }]).map(|logits| logits.of(0))
    }

    /// [`Model::forward`] of several sequences at once. What a sequence gets does not depend on the others.
    pub fn forward_batch<'a>(
        &self,
        workspace: &'a mut Workspace,
        segments: &mut [Segment<'_>],
    ) -> Result<BatchLogits<'a>, ForwardError> {
        for Segment { tokens, .. } in segments.iter() {
            if tokens.is_empty() {
                return Err(ForwardError::Empty);
            }
            self.check_tokens(tokens)?;
        }
        segments.iter_mut().try_for_each(|segment| segment.cache.reserve(segment.tokens.len()))?;
        let vocab_size = self.config.vocab_size;
        workspace.starts.clear();
        workspace.starts.push(0);
        let mut predicted = 0;
        for segment in segments.iter() {
            predicted += segment.predict.min(segment.tokens.len());
            workspace.starts.push(predicted);
        }
        resized(&mut workspace.logits, predicted * vocab_size);
        let (mut next, mut first) = (Place::default(), 0);
        while next.text < segments.len() {
            next = self.plan_chunk(workspace, segments, next);
            self.run_layers(workspace, segments);
            self.run_head(workspace, first);
            first += workspace.predicting.len();
        }
        let values = &workspace.logits[..predicted * vocab_size];
        Ok(BatchLogits { values, vocab_size, starts: &workspace.starts })
    }

    /// Refuses tokens that the model has no embedding for.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), ForwardError> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(ForwardError::TokenOutsideVocabulary { token, vocab_size }),
            None => Ok(()),
        }
    }

    /// Chooses the next [`CHUNK_ROWS`] rows from `next` on and reads their embeddings. Returns what comes after them.
    fn plan_chunk(&self, workspace: &mut Workspace, segments: &[Segment<'_>], mut next: Place) -> Place {
        let width = self.config.hidden_size;
        workspace.spans.clear();
        workspace.predicting.clear();
        let mut rows = 0;
        while rows < CHUNK_ROWS
            && let Some(Segment { cache, tokens, predict }) = segments.get(next.text)
        {
            let taken = (tokens.len() - next.token).min(CHUNK_ROWS - rows);
            workspace.spans.push(Span { text: next.text, first_row: rows, rows: taken, position: cache.len() });
            let hidden = resized(&mut workspace.hidden, (rows + taken) * width);
            let chosen = next.token..next.token + taken;
            for (row, &token) in hidden[rows * width..].chunks_exact_mut(width).zip(&tokens[chosen.clone()]) {
                self.embed(token, row);
            }
            let predicting = chosen.end.min(tokens.len().saturating_sub(*predict).max(chosen.start))..chosen.end;
            workspace.predicting.extend(predicting.map(|token| rows + token - chosen.start));
            rows += taken;
            next = next.after(taken, tokens.len());
        }
        next
    }

    /// Takes the planned rows through all layers, in `workspace.hidden`.
    fn run_layers(&self, workspace: &mut Workspace, segments: &mut [Segment<'_>]) {
        let positions = workspace.spans.iter().map(|span| span.position + span.rows).max().unwrap_or(0);
        for position in workspace.angles.len() / self.config.head_dim..positions {
            add_rope_angles(position, &self.rope_frequencies, &mut workspace.angles);
        }
        let rows = workspace.rows();
        for (index, layer) in self.layers.iter().enumerate() {
            self.run_attention(workspace, segments, index, rows);
            self.run_mlp(workspace, layer, rows);
        }
        for span in &workspace.spans {
            segments[span.text].cache.advance(span.rows);
        }
    }

    fn run_attention(&self, workspace: &mut Workspace, segments: &mut [Segment<'_>], index: usize, rows: usize) {
        let (config, layer) = (&self.config, &self.layers[index]);
        let hidden = &mut workspace.hidden[..rows * config.hidden_size];
        let normed = resized(&mut workspace.normed, hidden.len());
        self.normalize(hidden, &layer.attention_norm, normed);
        let width = layer.qkv.outputs();
        let qkv = resized(&mut workspace.qkv, rows * width);
        layer.qkv.set(self.compute(&mut workspace.activations), normed, qkv);
        add_bias(&layer.qkv_bias, qkv);

        let (head_dim, heads, kv_heads) = (config.head_dim, config.num_attention_heads, config.num_key_value_heads);
        let (spans, angles) = (&workspace.spans[..], &workspace.angles[..]);
        let before = resized(&mut workspace.heads, heads * head_dim);
        for span in spans {
            let rows = qkv[span.first_row * width..].chunks_exact_mut(width).take(span.rows);
            for (position, row) in (span.position..).zip(rows) {
                self.write_row(layer, row, &angles[position * head_dim..][..head_dim], before);
                let (keys, values) = row[heads * head_dim..].split_at(kv_heads * head_dim);
                segments[span.text].cache.write(index, position, keys, values);
            }
        }

        let attended = resized(&mut workspace.attended, rows * heads * head_dim);
        let (window, key_values) = (layer.window, &LayerOf { segments, layer: index });
        Attention { heads, kv_heads, head_dim, rows: qkv, row_width: width, angles, spans, key_values, window }.run(
            &self.pool,
            self.instruction_set,
            attended,
        );
        layer.output.add(self.compute(&mut workspace.activations), attended, hidden);
        add_bias(&layer.output_bias, hidden);
    }

    /// Norms of queries and keys of a row, and the rotation of the keys. `before` is scratch of the length of the queries.
    fn write_row(&self, layer: &Layer, row: &mut [f32], angles: &[f32], before: &mut [f32]) {
        let (queries, rest) = row.split_at_mut(before.len());
        let keys = &mut rest[..self.config.num_key_value_heads * self.config.head_dim];
        self.normalize_heads(&layer.query_norm, queries, before);
        self.normalize_heads(&layer.key_norm, keys, before);
        keys.chunks_exact_mut(self.config.head_dim).for_each(|head| rope(head, angles));
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

    /// Logits of the rows of `workspace.predicting` into `workspace.logits`, from row `first` on.
    fn run_head(&self, workspace: &mut Workspace, first: usize) {
        let (width, vocab_size, rows) = (self.config.hidden_size, self.config.vocab_size, workspace.predicting.len());
        if rows == 0 {
            return;
        }
        let normed = resized(&mut workspace.normed, rows * width);
        for (&row, normed) in workspace.predicting.iter().zip(normed.chunks_exact_mut(width)) {
            let hidden = &workspace.hidden[row * width..(row + 1) * width];
            rms_norm(self.instruction_set, hidden, &self.norm, self.config.rms_norm_eps as f32, normed);
        }
        let logits = &mut workspace.logits[first * vocab_size..(first + rows) * vocab_size];
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

/// A token of a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    text: usize,
    token: usize,
}

impl Place {
    /// So many tokens later in a segment of `length` tokens, or at the start of the next.
    fn after(self, tokens: usize, length: usize) -> Self {
        if self.token + tokens < length {
            Self { token: self.token + tokens, ..self }
        } else {
            Self { text: self.text + 1, token: 0 }
        }
    }
}

/// What attention of one layer reads.
struct LayerOf<'a, 'b> {
    segments: &'a [Segment<'b>],
    layer: usize,
}

impl KeyValues for LayerOf<'_, '_> {
    fn block(&self, text: usize, kv_head: usize, block: usize) -> (&[f32], &[f32]) {
        self.segments[text].cache.block(self.layer, kv_head, block)
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
