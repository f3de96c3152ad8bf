//! Trajectories in numbers and colours: which token of a block was right after which forward.

use std::fmt::Write;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use cllm_engine::tokenizer::{StreamDecoder, Tokenizer};
use cllm_engine::{Checkpoint, JacobiTrajectory};
use rand::seq::IndexedRandom;

use super::{InspectArguments, lengths, row};
use crate::data_order::random;
use crate::failure::Result;
use crate::trajectories::{Counts, ShardMetadata, TrajectoryExample, read_all};

/// A token of a state against the fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It and all before it are those of the fixed point.
    Right,
    /// It is that of the fixed point, although one before it is not: the paper's stationary token (section 3.3).
    Ahead,
    /// It is another.
    Wrong,
}

impl Verdict {
    fn style(self) -> Style {
        let color = match self {
            Self::Right => AnsiColor::Green,
            Self::Ahead => AnsiColor::Cyan,
            Self::Wrong => AnsiColor::Red,
        };
        color.on_default()
    }
}

pub(super) fn describe(arguments: &InspectArguments, folder: &Path, checkpoint: &Checkpoint) -> Result<String> {
    let (examples, shards) = read_all(folder)?;
    let mut text = numbers(folder, &examples, &shards);
    let shown = examples.choose_multiple(&mut random(arguments.seed, "inspect", 1), arguments.examples);
    for example in shown {
        show(&mut text, example, checkpoint.tokenizer(), arguments.blocks.get());
    }
    Ok(text)
}

fn numbers(folder: &Path, examples: &[TrajectoryExample], shards: &[ShardMetadata]) -> String {
    let counts = shards.iter().fold(Counts::default(), |sum, shard| sum + shard.counts);
    let blocks = || examples.iter().flat_map(|example| &example.blocks);
    let forwards = blocks().map(|block| block.states.len().saturating_sub(1)).collect();
    let generations = examples.iter().map(|example| example.tokens.len() - example.prompt_len).collect();
    let mut text = String::new();
    let mut row = |name, value: String| row(&mut text, name, &value);
    row("trajectories", format!("{} ({} shards)", folder.display(), shards.len()));
    row("of model", shards.first().map_or_else(String::new, |shard| shard.model.clone()));
    row("settings", shards.first().map_or_else(String::new, |shard| shard.settings.to_string()));
    row("examples", format!("{} in {} blocks with {} states", counts.examples, counts.blocks, counts.states));
    row(
        "dropped",
        format!(
            "{} empty, {} not ended, {} repeating themselves, {} too long",
            counts.dropped_empty, counts.dropped_truncated, counts.dropped_degenerate, counts.dropped_too_long
        ),
    );
    row("generated tokens", lengths::line(generations));
    row("forwards of a block", lengths::line(forwards));
    row("tokens per forward", format!("{:.2}", counts.tokens_per_forward()));
    row("stationary tokens", format!("{:.2} in a state", mean_ahead(blocks())));
    text
}

/// Mean number of tokens in a wrong state that are right after a wrong one.
fn mean_ahead<'a>(blocks: impl Iterator<Item = &'a JacobiTrajectory>) -> f64 {
    let (mut ahead, mut states) = (0, 0);
    for block in blocks {
        let Some((fixed_point, wrong)) = block.states.split_last() else { continue };
        states += wrong.len();
        ahead += wrong.iter().flat_map(|state| judge(state, fixed_point)).filter(|v| *v == Verdict::Ahead).count();
    }
    if states == 0 { 0.0 } else { ahead as f64 / states as f64 }
}

fn judge(state: &[u32], fixed_point: &[u32]) -> Vec<Verdict> {
    let right = state.iter().zip(fixed_point).take_while(|(a, b)| a == b).count();
    let verdict = |(index, (token, fixed)): (usize, (&u32, &u32))| match (token == fixed, index < right) {
        (true, true) => Verdict::Right,
        (true, false) => Verdict::Ahead,
        (false, _) => Verdict::Wrong,
    };
    state.iter().zip(fixed_point).enumerate().map(verdict).collect()
}

fn show(text: &mut String, example: &TrajectoryExample, tokenizer: &Tokenizer, blocks: usize) {
    let prompt = tokenizer.decode(&example.tokens[..example.prompt_len]);
    let _ = writeln!(text, "\nrecord {}: {}", example.index, visible(&prompt));
    for block in example.blocks.iter().take(blocks) {
        let Some(fixed_point) = block.states.last() else { continue };
        let _ = writeln!(text, "  tokens {} to {}", block.position, block.position + fixed_point.len() - 1);
        for (forward, state) in block.states.iter().enumerate() {
            let verdicts = judge(state, fixed_point);
            let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
            let (right, ahead) = (count(Verdict::Right), count(Verdict::Ahead));
            let _ = write!(text, "  {forward:>3}: {right:>2} right, {ahead:>2} ahead │");
            colored(text, state, &verdicts, tokenizer);
            text.push('\n');
        }
    }
    if let Some(left) = example.blocks.len().checked_sub(blocks).filter(|left| *left > 0) {
        let _ = writeln!(text, "  and {left} more blocks");
    }
}

/// The tokens of a state, each in the color of its verdict. A character that is spread over tokens has that of its last one.
fn colored(text: &mut String, state: &[u32], verdicts: &[Verdict], tokenizer: &Tokenizer) {
    let mut decoder = StreamDecoder::new(tokenizer);
    for (token, verdict) in state.iter().zip(verdicts) {
        let style = verdict.style();
        let piece = visible(&decoder.push(&[*token]));
        let _ = write!(text, "{style}{piece}{style:#}");
    }
    text.push_str(&visible(&decoder.finish()));
}

/// On one line.
fn visible(text: &str) -> String {
    text.replace('\n', "⏎").replace('\t', "⇥")
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Ahead, Right, Wrong};
    use super::*;

    #[test]
    fn tokens_after_a_wrong_one_are_ahead_at_best() {
        for (state, expected) in [
            ([1, 2, 3, 4], [Right, Right, Right, Right]),
            ([1, 9, 3, 9], [Right, Wrong, Ahead, Wrong]),
            ([9, 2, 3, 4], [Wrong, Ahead, Ahead, Ahead]),
        ] {
            assert_eq!(judge(&state, &[1, 2, 3, 4]), expected);
        }
    }

    #[test]
    fn the_mean_counts_states_before_the_fixed_point() {
        let block = |states: &[[u32; 3]]| JacobiTrajectory {
            position: 0,
            states: states.iter().map(|state| state.to_vec()).collect(),
        };
        let blocks = [block(&[[9, 2, 3], [1, 9, 3], [1, 2, 3]]), block(&[[1, 2, 3]])];
        assert!((mean_ahead(blocks.iter()) - 1.5).abs() < 1e-12);
        assert!(mean_ahead([].iter()).abs() < 1e-12);
    }
}
