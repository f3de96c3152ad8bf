//! Which tokens the next forward computes. Pure.

/// Rows of a forward, about: more hardly make it cheaper by the row, but let every text wait longer for it.
const ROWS: usize = 64;
/// Rows of prompts where other texts are being decoded: these then wait as long as for a few forwards of their own.
const PROMPT_ROWS_BESIDE_OTHERS: usize = 32;

/// What one text has to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Known tokens without keys and values, the last one included.
    pub(super) uncomputed: usize,
    /// Whether it has generated tokens.
    pub(super) decodes: bool,
    /// Rows for the last known token and the guesses after it.
    pub(super) rows: usize,
}

impl Need {
    /// Nothing but the last known token and guesses is left to compute.
    pub(super) fn only_decodes(&self) -> bool {
        self.decodes && self.uncomputed == 1
    }
}

/// Most rows for the last known token and the guesses of each of so many texts.
pub(super) fn most_rows(texts: usize) -> usize {
    (ROWS / texts.max(1)).max(1)
}

/// Known tokens of each text, oldest first, that are computed now. Who decodes always goes on; prompts, and what has to be computed again,
/// get what is left, the oldest first.
pub(super) fn share(needs: &[Need]) -> Vec<usize> {
    let decoding: usize = needs.iter().filter(|need| need.only_decodes()).map(|need| need.rows).sum();
    let most = if decoding == 0 { ROWS } else { PROMPT_ROWS_BESIDE_OTHERS };
    let mut left = most.min(ROWS.saturating_sub(decoding).max(1));
    let mut known = Vec::with_capacity(needs.len());
    for need in needs {
        let share = if need.only_decodes() { 1 } else { need.uncomputed.min(left) };
        if !need.only_decodes() {
            left -= share;
        }
        known.push(share);
    }
    known
}

#[cfg(test)]
mod tests {
    use super::{Need, most_rows, share};

    fn decoding(rows: usize) -> Need {
        Need { uncomputed: 1, decodes: true, rows }
    }

    fn prompt(uncomputed: usize) -> Need {
        Need { uncomputed, decodes: false, rows: 1 }
    }

    fn preempted(uncomputed: usize) -> Need {
        Need { uncomputed, decodes: true, rows: 4 }
    }

    #[test]
    fn everyone_who_decodes_goes_on_and_prompts_share_the_rest() {
        for (needs, expected) in [
            (vec![], vec![]),
            (vec![prompt(5)], vec![5]),
            (vec![prompt(500)], vec![64]),
            (vec![prompt(50), prompt(50), prompt(50)], vec![50, 14, 0]),
            (vec![decoding(4), prompt(500)], vec![1, 32]),
            (vec![prompt(20), decoding(4), preempted(30)], vec![20, 1, 12]),
            (vec![decoding(60), prompt(500)], vec![1, 4]),
            (vec![decoding(64), prompt(500)], vec![1, 1]),
            (vec![decoding(16); 9], vec![1; 9]),
        ] {
            assert_eq!(share(&needs), expected, "{needs:?}");
        }
    }

    #[test]
    fn many_texts_have_few_rows_each() {
        assert_eq!([0, 1, 4, 16, 63, 64, 200].map(most_rows), [64, 64, 16, 4, 1, 1, 1]);
    }
}
