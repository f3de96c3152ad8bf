//! One forward: tokens of one or several sequences in, logits out, keys and values into their caches.

use thiserror::Error;

use super::kv_pool::KvMemoryFull;
use super::tensors::TensorFailure;
use super::{Computer, KvCache, Model, Workspace};
use crate::kernels::{argmax, resized};

/// Why a forward was refused or failed. No cache is longer than before.
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
    /// The device failed.
    #[error(transparent)]
    Tensors(#[from] TensorFailure),
}

/// Tokens of one sequence in a forward.
#[derive(Debug)]
pub struct Segment<'a> {
    /// They come after the positions in it, and are added to it.
    pub cache: &'a mut KvCache,
    /// At least one.
    pub tokens: &'a [u32],
    /// The last so many of them have logits; more than there are: all.
    pub predict: usize,
}

impl Segment<'_> {
    /// Number of tokens that have logits.
    pub(super) fn predicted(&self) -> usize {
        self.predict.min(self.tokens.len())
    }
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

    /// [`Model::forward`] of several sequences at once. Where the processor computes, what a sequence gets does not depend on the others.
    pub fn forward_batch<'a>(
        &self,
        workspace: &'a mut Workspace,
        segments: &mut [Segment<'_>],
    ) -> Result<BatchLogits<'a>, ForwardError> {
        self.check(segments)?;
        segments.iter_mut().try_for_each(|segment| segment.cache.reserve(segment.tokens.len()))?;
        workspace.starts.clear();
        workspace.starts.push(0);
        let mut predicted = 0;
        for segment in segments.iter() {
            predicted += segment.predicted();
            workspace.starts.push(predicted);
        }
        let vocab_size = self.config.vocab_size;
        match &self.computer {
            Computer::Packed(model) => {
                resized(&mut workspace.logits, predicted * vocab_size);
                model.forward(workspace, segments);
            }
            Computer::Tensors(model) => {
                workspace.logits = model.forward(segments)?;
                for segment in segments {
                    segment.cache.advance(segment.tokens.len());
                }
            }
        }
        let values = &workspace.logits[..predicted * vocab_size];
        Ok(BatchLogits { values, vocab_size, starts: &workspace.starts })
    }

    fn check(&self, segments: &[Segment<'_>]) -> Result<(), ForwardError> {
        if segments.is_empty() || segments.iter().any(|segment| segment.tokens.is_empty()) {
            return Err(ForwardError::Empty);
        }
        segments.iter().try_for_each(|segment| self.check_tokens(segment.tokens))
    }

    /// Refuses tokens that the model has no embedding for.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<(), ForwardError> {
        let vocab_size = self.config.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(ForwardError::TokenOutsideVocabulary { token, vocab_size }),
            None => Ok(()),
        }
    }
}
