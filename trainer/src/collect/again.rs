//! Trajectories of answers that are there, by other weights than those that gave them.
//!
//! What is learnt stays the answer of the target. What changes with the weights is how they come to it: the blocks of the answer are
//! decoded once more, and every prediction that follows right tokens alone is taken to be the answer's. Otherwise the weights would go to
//! answers of their own, after which the rest of the target's makes no sense, and a run would learn from what it has got wrong.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cllm_engine::{Checkpoint, KvPool};

use super::decoding::{Answer, Decoding, Prompt};
use super::division::Budget;
use super::{free_beside_weights, load};
use crate::failure::Result;
use crate::trajectories::{Outcome, TrajectoryExample};

/// What decodes, and how.
#[derive(Debug)]
pub(crate) struct Again<'a> {
    /// The other weights.
    pub(crate) checkpoint: &'a Checkpoint,
    /// Tokens of a block.
    pub(crate) block_size: NonZeroUsize,
    /// Decides where blocks begin.
    pub(crate) seed: u64,
    /// That may compute; the outcomes do not depend on them.
    pub(crate) threads: usize,
    /// Becomes true when all shall stop.
    pub(crate) interruption: Arc<AtomicBool>,
}

impl Again<'_> {
    /// What becomes of the examples, at least one, in the order in which they end: those that are kept have the same tokens.
    pub(crate) fn collect(&self, examples: &[&TrajectoryExample]) -> Result<Vec<Outcome>> {
        let (model, division) = load(self.checkpoint, &self.budget(examples))?;
        let prompts: Vec<Prompt> = examples.iter().map(|example| prompt(example)).collect();
        let prompts: Vec<&Prompt> = prompts.iter().collect();
        let decoding = Decoding {
            model: &model,
            division,
            prompts: &prompts,
            block_size: self.block_size,
            seed: self.seed,
            interruption: Arc::clone(&self.interruption),
        };
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(examples.len());
        decoding.run(&mut outcomes)?;
        Ok(outcomes)
    }

    fn budget(&self, examples: &[&TrajectoryExample]) -> Budget {
        Budget {
            threads: self.threads,
            prompts: examples.len(),
            block_size: self.block_size.get(),
            concurrency: None,
            longest: examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0),
            page_bytes: KvPool::page_bytes_on_processor(self.checkpoint.config()) as u64,
            free_bytes: free_beside_weights(self.checkpoint),
        }
    }
}

fn prompt(example: &TrajectoryExample) -> Prompt {
    let (prompt, answer) = example.tokens.split_at(example.prompt_len);
    Prompt { index: example.index, tokens: prompt.to_vec(), answer: Answer::Given(answer.to_vec()) }
}
