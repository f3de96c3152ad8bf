//! Guesses for the tokens after the known one. They decide how many forwards a text takes, never its tokens.
//!
//! Sources, cheapest first: what followed the same few tokens earlier in prompt and output, what the last forward predicted there,
//! the last token again. After a mismatch the predictions were conditioned on a wrong token, so a lookup may beat them: both are
//! scored on every forward, and the better one so far is used.

/// Longest run of tokens that a lookup compares.
const LONGEST_NGRAM: usize = 3;
/// Weight of the newest forward in the running score of a source.
const SCORE_RATE: f32 = 0.2;

/// Where a guess comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Lookup,
    Prediction,
}

/// A guess for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) token: u32,
    pub(super) source: Source,
    /// Whether the same token stood at the same place in the forward before.
    pub(super) stationary: bool,
}

/// The window of guesses of one sequence. Reuses its memory.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    lookup: bool,
    window: Vec<Guess>,
    /// What each source would have guessed, to be scored by the next forward.
    looked_up: Vec<u32>,
    predicted: Vec<u32>,
    lookup_score: f32,
    prediction_score: f32,
}

impl Guesses {
    pub(super) fn new(lookup: bool) -> Self {
        Self { lookup, ..Self::default() }
    }

    /// The guesses, nearest first.
    pub(super) fn window(&self) -> &[Guess] {
        &self.window
    }

    /// Forgets all guesses but the first `length`.
    pub(super) fn shorten(&mut self, length: usize) {
        self.window.truncate(length);
    }

    /// Makes these guesses, which a forward predicted, and no others.
    pub(super) fn set(&mut self, tokens: &[u32]) {
        self.window.clear();
        let guess = |&token| Guess { token, source: Source::Prediction, stationary: false };
        self.window.extend(tokens.iter().map(guess));
    }

    /// Makes `length` guesses for what follows `known`, whose last `accepted` tokens the last forward has found. `rest` are its
    /// predictions after them.
    pub(super) fn refill(&mut self, known: &[u32], accepted: usize, rest: &[u32], length: usize) {
        self.score(&known[known.len() - accepted..]);
        let old = self.window.split_off(accepted.min(self.window.len()));
        if self.lookup {
            self.looked_up.clear();
            look_up(known, &[], length, &mut self.looked_up);
        }
        self.predicted.clear();
        self.predicted.extend(rest.iter().take(length));
        self.window.clear();
        let prefer_lookup = self.lookup_score >= self.prediction_score || self.predicted.is_empty();
        let (first, source) = if prefer_lookup && !self.looked_up.is_empty() {
            (&self.looked_up, Source::Lookup)
        } else {
            (&self.predicted, Source::Prediction)
        };
        self.window.extend(first.iter().enumerate().map(|(i, &token)| {
            let stationary = old.get(i).is_some_and(|guess| guess.token == token);
            Guess { token, source, stationary }
        }));
        self.fill_up(known, length);
    }

    /// Appends guesses until there are `length`: looked up after those that are there, or the last token again.
    fn fill_up(&mut self, known: &[u32], length: usize) {
        if self.lookup && self.window.len() < length {
            let tail: Vec<u32> = self.window.iter().map(|guess| guess.token).collect();
            let mut found = Vec::new();
            look_up(known, &tail, length - tail.len(), &mut found);
            let guess = |token| Guess { token, source: Source::Lookup, stationary: false };
            self.window.extend(found.into_iter().map(guess));
        }
        let last = self.window.last().map(|guess| guess.token).or(known.last().copied()).unwrap_or(0);
        self.window.resize(length, Guess { token: last, source: Source::Prediction, stationary: false });
    }

    /// Compares what each source would have guessed with what was found.
    fn score(&mut self, found: &[u32]) {
        let run = |guesses: &[u32]| guesses.iter().zip(found).take_while(|(a, b)| a == b).count() as f32;
        for (score, guesses) in
            [(&mut self.lookup_score, &self.looked_up), (&mut self.prediction_score, &self.predicted)]
        {
            if !guesses.is_empty() {
                *score += SCORE_RATE * (run(guesses) - *score);
            }
        }
    }
}

/// What followed the last tokens of `known` and `tail` where they stood before in `known`: the longest match, the latest of equals.
/// At most `length` tokens, none without a match.
fn look_up(known: &[u32], tail: &[u32], length: usize, found: &mut Vec<u32>) {
    let total = known.len() + tail.len();
    let token = |index: usize| known.get(index).copied().unwrap_or_else(|| tail[index - known.len()]);
    let mut best = (0, 0);
    // `end` is where the continuation begins.
    for end in (1..known.len()).rev() {
        let agree = |back: &usize| *back <= end && token(end - back) == token(total - back);
        let matched = (1..=LONGEST_NGRAM.min(total)).take_while(agree).count();
        if matched > best.0 {
            best = (matched, end);
        }
        if matched == LONGEST_NGRAM {
            break;
        }
    }
    if best.0 > 0 {
        found.extend(known[best.1..].iter().take(length));
    }
}

#[cfg(test)]
mod tests {
    use super::{Guesses, Source, look_up};

    #[test]
    fn a_lookup_prefers_the_longest_match_then_the_latest() {
        for (known, tail, expected) in [
            (&[1, 2, 3][..], &[][..], &[][..]),
            (&[1, 2, 1], &[], &[2, 1]),
            (&[1, 2, 1, 3, 1], &[], &[3, 1]),
            (&[1, 2, 9, 5, 2, 8, 1, 2], &[], &[9, 5, 2]),
            (&[4, 1, 2, 7, 1, 2, 8, 4, 1, 2], &[], &[7, 1, 2]),
            (&[1, 2, 3, 4], &[1, 2], &[3, 4]),
            (&[], &[1], &[]),
        ] {
            let mut found = Vec::new();
            look_up(known, tail, 3, &mut found);
            assert_eq!(found, expected, "after {known:?} and {tail:?}");
        }
    }

    #[test]
    fn the_window_slides_and_is_refilled_with_the_last_token() {
        let mut guesses = Guesses::new(false);
        guesses.refill(&[5, 6], 1, &[], 3);
        assert_eq!(tokens(&guesses), [6, 6, 6]);
        guesses.refill(&[5, 6, 7], 1, &[8, 9], 4);
        assert_eq!(tokens(&guesses), [8, 9, 9, 9]);
        guesses.refill(&[5, 6, 7, 8, 9], 2, &[9, 1], 3);
        assert_eq!(tokens(&guesses), [9, 1, 1]);
        let stationary: Vec<bool> = guesses.window().iter().map(|guess| guess.stationary).collect();
        assert_eq!(stationary, [true, false, false]);
    }

    #[test]
    fn lookups_that_fail_give_way_to_predictions() {
        let mut guesses = Guesses::new(true);
        let mut known = vec![1, 2, 1];
        guesses.refill(&known, 1, &[3], 1);
        assert_eq!(guesses.window()[0].source, Source::Lookup, "equal scores: the cheaper source");
        for _ in 0..4 {
            // The text goes 1 3 1 3: the first lookup said 2, the prediction 3.
            known.push(3);
            guesses.refill(&known, 1, &[1], 1);
            known.push(1);
            known.extend([2, 1]);
            guesses.refill(&known, 3, &[3], 1);
        }
        assert!(guesses.prediction_score > guesses.lookup_score);
        assert_eq!(guesses.window()[0].source, Source::Prediction);
    }

    fn tokens(guesses: &Guesses) -> Vec<u32> {
        guesses.window().iter().map(|guess| guess.token).collect()
    }
}
