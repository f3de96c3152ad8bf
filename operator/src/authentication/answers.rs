//! Answers of the API server that hold for a few seconds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// As Kubernetes' own servers keep them.
const HOLDS_FOR: Duration = Duration::from_secs(10);
/// More are asked for anew: whoever sends ever new tokens must not fill the memory.
const MOST_ANSWERS: usize = 1024;

/// Answers by what was asked. Only its hash is kept: a question may be a token.
#[derive(Debug)]
pub(super) struct Answers<A> {
    answers: Mutex<HashMap<[u8; 32], (Instant, A)>>,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question([u8; 32]);

impl Question {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl<A: Clone> Answers<A> {
    pub(super) fn new() -> Self {
        Self { answers: Mutex::default() }
    }

    /// The answer, if it was given not long ago.
    pub(super) fn known(&self, question: Question, now: Instant) -> Option<A> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (given, answer) = answers.get(&question.0)?;
        (now.saturating_duration_since(*given) < HOLDS_FOR).then(|| answer.clone())
    }

    pub(super) fn remember(&self, question: Question, answer: A, now: Instant) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST_ANSWERS {
            answers.retain(|_, (given, _)| now.saturating_duration_since(*given) < HOLDS_FOR);
        }
        if answers.len() < MOST_ANSWERS {
            answers.insert(question.0, (now, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_ten_seconds_and_memory_is_bounded() {
        let answers = Answers::new();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        answers.remember(Question::of(b"a"), true, start);
        assert_eq!(answers.known(Question::of(b"a"), after(9)), Some(true));
        assert_eq!(answers.known(Question::of(b"a"), after(10)), None);
        assert_eq!(answers.known(Question::of(b"b"), start), None);
        for number in 0..2 * MOST_ANSWERS {
            answers.remember(Question::of(&number.to_le_bytes()), false, start);
        }
        assert_eq!(answers.answers.lock().unwrap().len(), MOST_ANSWERS);
        answers.remember(Question::of(b"b"), true, after(11));
        assert_eq!(answers.known(Question::of(b"b"), after(12)), Some(true));
    }
}
