//! Which rows of a batch see which: sequences without padding, and noisy blocks beside the sequence that they belong to.

use candle_core::{Result, bail};

/// Consecutive rows: each sees the prefix, the rows of the span before it and itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// The first row of the prefix that all rows of the span see.
    pub prefix_start: usize,
    /// Rows of the prefix; it ends before `start`.
    pub prefix_len: usize,
}

/// The rows of a batch: token position of every row, and spans that cover all rows in order.
#[derive(Clone, Debug, Default)]
pub struct RowLayout {
    positions: Vec<u32>,
    spans: Vec<Span>,
}

impl RowLayout {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sequence of `len` rows at positions 0, 1, …, each seeing the rows of the sequence up to itself. Gives its first row.
    pub fn push_sequence(&mut self, len: usize) -> usize {
        let start = self.rows();
        self.positions.extend(0..len as u32);
        self.spans.push(Span { start, len, prefix_start: start, prefix_len: 0 });
        start
    }

    /// Adds a block of `len` rows that continues the first `prefix_len` rows of the sequence that begins at row `sequence_start`:
    /// it sees these and itself, and nothing sees it. Gives its first row.
    pub fn push_block(&mut self, sequence_start: usize, prefix_len: usize, len: usize) -> Result<usize> {
        let start = self.rows();
        if sequence_start + prefix_len > start {
            bail!("a block continues {prefix_len} rows from row {sequence_start}, but only {start} rows lie before it")
        }
        self.positions.extend((prefix_len..prefix_len + len).map(|position| position as u32));
        self.spans.push(Span { start, len, prefix_start: sequence_start, prefix_len });
        Ok(start)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.positions.len()
    }

    /// Token position of every row.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// What sees what, in the order of the rows.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Whether row `query` sees row `key`: what attention computes, written for tests.
    pub fn sees(&self, query: usize, key: usize) -> bool {
        self.spans.iter().any(|span| {
            (span.start..span.start + span.len).contains(&query)
                && ((span.prefix_start..span.prefix_start + span.prefix_len).contains(&key)
                    || (span.start..=query).contains(&key))
        })
    }
}
