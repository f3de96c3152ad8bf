//! Decoding while tokens arrive: the pieces, put together, are the decoded whole.
//!
//! A piece never ends inside a character (bytes of one character may be spread over tokens), and spaces at token borders are kept:
//! each piece is what a window of tokens decodes to beyond what its beginning already gave.

use super::Tokenizer;

/// Replaces bytes that do not form a character, or not yet.
const UNFINISHED: char = '\u{FFFD}';
/// Bytes of the longest character: text further back than so many tokens does not change any more.
const LONGEST_CHARACTER: usize = 4;
/// Held back tokens from which on a safe place to cut is looked for, so that endless garbage does not cost ever more.
const LONG_WAIT: usize = 16;

/// Turns tokens into text one step at a time.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    /// Tokens of the last piece, as context, and those whose text is still held back.
    window: Vec<u32>,
    /// Number of tokens at the beginning of the window whose text is out.
    emitted: usize,
}

impl StreamDecoder {
    /// Begins a text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { tokenizer: tokenizer.clone(), window: Vec::new(), emitted: 0 }
    }

    /// Takes further tokens, gives the text that is certain by now: possibly none.
    pub fn push(&mut self, tokens: &[u32]) -> String {
        tokens.iter().map(|&token| self.push_one(token)).collect()
    }

    /// Ends the text: gives what was held back.
    pub fn finish(mut self) -> String {
        self.take()
    }

    fn push_one(&mut self, token: u32) -> String {
        self.window.push(token);
        if !self.tokenizer.decode(&self.window).ends_with(UNFINISHED) {
            self.take()
        } else if self.window.len() - self.emitted >= LONG_WAIT {
            self.cut()
        } else {
            String::new()
        }
    }

    /// Gives all text of the window that is not out yet, and keeps the newest tokens as context.
    fn take(&mut self) -> String {
        let before = self.tokenizer.decode(&self.window[..self.emitted]);
        let whole = self.tokenizer.decode(&self.window);
        let piece = whole.get(before.len()..).unwrap_or_default().to_owned();
        if !piece.is_empty() {
            self.window.drain(..self.emitted);
        }
        self.emitted = self.window.len();
        piece
    }

    /// Gives the text before a border of characters near the end of the window, where there is one.
    fn cut(&mut self) -> String {
        let whole = self.tokenizer.decode(&self.window);
        let earliest = self.window.len() - LONGEST_CHARACTER;
        for border in earliest..self.window.len() {
            let [head, tail] = [&self.window[..border], &self.window[border..]].map(|part| self.tokenizer.decode(part));
            if head.len() + tail.len() == whole.len() && whole.starts_with(&head) {
                let before = self.tokenizer.decode(&self.window[..self.emitted]);
                self.window.drain(..border);
                self.emitted = 0;
                return head.get(before.len()..).unwrap_or_default().to_owned();
            }
        }
        String::new()
    }
}
