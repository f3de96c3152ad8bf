//! Finds stop strings in text that arrives in pieces. Knows nothing of tokens or requests.

/// Lets text through until one of its stop strings is complete, and holds back whatever may still become one.
///
/// The stop string that is complete first wins; of those that end at the same place, the longest. This does not depend
/// on how the text is cut into pieces.
#[derive(Clone, Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Text that is certainly before any stop string.
    pub text: String,
    /// A stop string is complete: nothing may follow.
    pub stopped: bool,
}

impl StopMatcher {
    /// Stop strings that are not empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes the next piece and gives what may be shown.
    pub fn push(&mut self, piece: &str) -> Released {
        self.held.push_str(piece);
        if let Some(start) = self.match_start() {
            self.held.truncate(start);
            return Released { text: std::mem::take(&mut self.held), stopped: true };
        }
        let kept = self.held.split_off(self.held.len() - self.possible_start_len());
        Released { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// Gives what was held back when nothing more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// No stop string was complete before the last piece, so the first occurrence of each is the one that ends first.
    fn match_start(&self) -> Option<usize> {
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|start| (start + stop.len(), start)));
        found.min().map(|(_, start)| start)
    }

    /// Bytes at the end that are the beginning of a stop string.
    fn possible_start_len(&self) -> usize {
        self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0)
    }
}

/// The length of the longest proper beginning of `stop` that `text` ends with.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().map(|(end, _)| end).rev().find(|&end| text.ends_with(&stop[..end])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule itself, one character after the other.
    fn expected(text: &str, stops: &[String]) -> (String, bool) {
        for (position, character) in text.char_indices() {
            let seen = &text[..position + character.len_utf8()];
            if let Some(stop) = stops.iter().filter(|stop| seen.ends_with(*stop)).max_by_key(|stop| stop.len()) {
                return (seen[..seen.len() - stop.len()].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_text_and_leaks_nothing(
            pieces in prop::collection::vec("[abé\n]{0,4}", 0..12),
            stops in prop::collection::vec("[abé\n]{1,5}", 0..4),
        ) {
            let (text, stopped) = expected(&pieces.concat(), &stops);
            let mut matcher = StopMatcher::new(stops);
            let mut shown = String::new();
            let mut ended = false;
            for piece in &pieces {
                let released = matcher.push(piece);
                shown.push_str(&released.text);
                prop_assert!(text.starts_with(&shown), "{shown:?} is not a beginning of {text:?}");
                if released.stopped {
                    ended = true;
                    break;
                }
            }
            if !ended {
                shown.push_str(&matcher.finish());
            }
            prop_assert_eq!((shown, ended), (text, stopped));
        }

        #[test]
        fn only_what_may_become_a_stop_string_is_held(text in "[abc]{0,20}", stop in "[ab]{1,4}") {
            let mut matcher = StopMatcher::new(vec![stop.clone()]);
            let released = matcher.push(&text);
            if !released.stopped {
                let held = &text[released.text.len()..];
                prop_assert!(stop.starts_with(held) && held.len() < stop.len());
            }
        }
    }

    #[test]
    fn without_stop_strings_everything_passes_at_once() {
        let mut matcher = StopMatcher::new(Vec::new());
        assert_eq!(matcher.push("abc"), Released { text: "abc".to_owned(), stopped: false });
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn the_stop_string_that_is_complete_first_wins() {
        let mut matcher = StopMatcher::new(vec!["abcd".to_owned(), "c".to_owned()]);
        assert_eq!(matcher.push("xab"), Released { text: "x".to_owned(), stopped: false });
        assert_eq!(matcher.push("cd"), Released { text: "ab".to_owned(), stopped: true });
    }
}
