//! The forward over packed weights. Each row goes through the same operations whatever the rows beside it, of its own sequence or of
//! others (see `kernels`).

use super::{Layer, PackedModel};
use crate::kernels::{Activations, Attention, Compute, KeyValues, Span, add_rope_angles, resized, rms_norm, rope};
use crate::model::workspace::CHUNK_ROWS;
use crate::model::{Segment, Workspace};

/// Rows of a piece where the work of a row is small.
const LIGHT_ROWS: usize = 16;

impl PackedModel {
    /// Takes all tokens of the segments through the model. Their caches have room for them and the workspace for their logits.
    pub(in crate::model) fn forward(&self, workspace: &mut Workspace, segments: &mut [Segment<'_>]) {
        let (mut next, mut first) = (Place::default(), 0);
        while next.text < segments.len() {
            next = self.plan_chunk(workspace, segments, next);
            self.run_layers(workspace, segments);
            self.run_head(workspace, first);
            first += workspace.predicting.len();
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

    fn compute<'a>(&'a self, activations: &'a mut Activations) -> Compute<'a> {
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
