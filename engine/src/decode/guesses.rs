//! Guesses for the tokens after the known one. They decide how many forwards a text takes, never its tokens.
//!
//! Sources, cheapest first: what followed the same few tokens earlier in prompt and output, what the last forward predicted there,
//! the last token again. After a mismatch the predictions were conditioned on a wrong token, so a lookup may beat them: both are
//! scored on every forward, lookups by the length of their match, and the better one so far is used.
//!
//! What a lookup would have brought shows a few tokens later, with or without rows for it: a [`Verdict`], which costs nothing.

/// Longest run of tokens that a lookup compares.
const LONGEST_NGRAM: usize = 3;
/// Weight of the newest forward in the running score of a source.
const SCORE_RATE: f32 = 0.2;

/// How well guesses are founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// The last forward predicted them, or they followed the last token once before, or nothing is known.
    #[default]
    Prediction,
    /// They followed the last two tokens before.
    ShortMatch,
    /// They followed the last three tokens before.
    LongMatch,
}

impl Basis {
    /// How many there are.
    pub const COUNT: usize = 3;

    fn of_match(length: usize) -> Self {
        match length {
            0 | 1 => Self::Prediction,
            2 => Self::ShortMatch,
            _ => Self::LongMatch,
        }
    }
}

/// What became of guesses that were looked up, whether they had rows or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How they were founded; never a prediction.
    pub basis: Basis,
    /// Guesses that were right before the first wrong one.
    pub right: usize,
}

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
    /// Tokens that the lookup compared.
    matched: usize,
    lookup_scores: [f32; LONGEST_NGRAM + 1],
    prediction_score: f32,
    basis: Basis,
    on_trial: OnTrial,
}

/// Guesses that wait for their verdict.
#[derive(Debug, Default)]
struct OnTrial {
    basis: Basis,
    tokens: Vec<u32>,
    right: usize,
    verdict: Option<Verdict>,
}

impl OnTrial {
    /// Takes guesses, if none wait.
    fn begin(&mut self, basis: Basis, guesses: impl Iterator<Item = u32>) {
        if self.tokens.is_empty() && basis != Basis::Prediction {
            self.tokens.extend(guesses);
            (self.basis, self.right) = (basis, 0);
        }
    }

    /// Compares them with tokens that were found.
    fn hear(&mut self, found: &[u32]) {
        for token in found {
            let Some(guess) = self.tokens.get(self.right) else { return };
            self.right += usize::from(guess == token);
            if guess != token || self.right == self.tokens.len() {
                self.tokens.clear();
                self.verdict = Some(Verdict { basis: self.basis, right: self.right });
            }
        }
    }
}

impl Guesses {
    pub(super) fn new(lookup: bool) -> Self {
        Self { lookup, ..Self::default() }
    }

    /// The guesses, nearest first.
    pub(super) fn window(&self) -> &[Guess] {
        &self.window
    }

    /// How well they are founded.
    pub(super) fn basis(&self) -> Basis {
        self.basis
    }

    /// The verdict on guesses that was reached since the last call.
    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        self.on_trial.verdict.take()
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
        let found = &known[known.len() - accepted..];
        self.score(found);
        self.on_trial.hear(found);
        let old = self.window.split_off(accepted.min(self.window.len()));
        if self.lookup {
            self.looked_up.clear();
            self.matched = look_up(known, &[], length, &mut self.looked_up);
        }
        self.predicted.clear();
        self.predicted.extend(rest.iter().take(length));
        self.window.clear();
        let prefer_lookup = self.lookup_scores[self.matched] >= self.prediction_score || self.predicted.is_empty();
        let (first, source, basis) = if prefer_lookup && !self.looked_up.is_empty() {
            (&self.looked_up, Source::Lookup, Basis::of_match(self.matched))
        } else {
            (&self.predicted, Source::Prediction, Basis::Prediction)
        };
        self.basis = basis;
        self.window.extend(first.iter().enumerate().map(|(i, &token)| {
            let stationary = old.get(i).is_some_and(|guess| guess.token == token);
            Guess { token, source, stationary }
        }));
        self.fill_up(known, length);
        self.on_trial.begin(basis, self.window.iter().map(|guess| guess.token));
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
        let lookup_score = &mut self.lookup_scores[self.matched];
        for (score, guesses) in [(lookup_score, &self.looked_up), (&mut self.prediction_score, &self.predicted)] {
            if !guesses.is_empty() {
                *score += SCORE_RATE * (run(guesses) - *score);
            }
        }
    }
}

/// What followed the last tokens of `known` and `tail` where they stood before in `known`: the longest match, the latest of equals.
/// At most `length` tokens, none without a match. Returns how many tokens matched.
fn look_up(known: &[u32], tail: &[u32], length: usize, found: &mut Vec<u32>) -> usize {
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
    best.0
}

#[cfg(test)]
mod tests {
    use super::{Basis, Guesses, Source, Verdict, look_up};

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
    fn guesses_are_judged_without_rows() {
        // 1 2 3 stood before and was followed by 4 5 6 7; it is found one token at a time how far that is right
        let text = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 9];
        let mut guesses = Guesses::new(true);
        let verdicts: Vec<_> = (9..=text.len())
            .map(|known| {
                guesses.refill(&text[..known], 1, &[], 4);
                (guesses.basis(), guesses.verdict())
            })
            .collect();
        let none = |basis| (basis, None);
        let judged = |basis, right| Some(Verdict { basis, right });
        assert_eq!(
            verdicts,
            [
                none(Basis::Prediction),
                none(Basis::ShortMatch),
                none(Basis::LongMatch),
                none(Basis::LongMatch),
                none(Basis::LongMatch),
                (Basis::Prediction, judged(Basis::ShortMatch, 3)),
            ],
        );
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
        assert!(guesses.prediction_score > guesses.lookup_scores[guesses.matched]);
        assert_eq!(guesses.window()[0].source, Source::Prediction);
    }

    fn tokens(guesses: &Guesses) -> Vec<u32> {
        guesses.window().iter().map(|guess| guess.token).collect()
    }
}
