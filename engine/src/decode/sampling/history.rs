//! Which tokens a text has, and how often.

use std::collections::HashMap;

/// What is known of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) in_prompt: bool,
    pub(super) generated: u32,
}

/// Counts of the tokens of a text, which grows, and shrinks again where guesses were counted.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    seen: HashMap<u32, Seen>,
}

impl History {
    pub(super) fn of_prompt(prompt: &[u32]) -> Self {
        let seen = Seen { in_prompt: true, generated: 0 };
        Self { seen: prompt.iter().map(|&token| (token, seen)).collect() }
    }

    pub(super) fn push(&mut self, token: u32) {
        self.seen.entry(token).or_default().generated += 1;
    }

    /// Takes back one [`History::push`].
    pub(super) fn pop(&mut self, token: u32) {
        if let Some(seen) = self.seen.get_mut(&token) {
            seen.generated -= 1;
            if *seen == Seen::default() {
                self.seen.remove(&token);
            }
        }
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Seen)> {
        self.seen.iter().map(|(&token, &seen)| (token, seen))
    }
}
