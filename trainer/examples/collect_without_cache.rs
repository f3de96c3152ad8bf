//! For `make bench-collection`: computes the trajectories of a shard once more as the CLLM reference collects them
//! (`data/generate_trajectory.py` there), with our kernels: one text at a time, without a KV cache, so that each forward computes prompt,
//! answer and block from the start, and a block ends with a forward that changes nothing. Fails unless every state is the recorded one.
//!
//! `collect_without_cache MODEL TRAJECTORIES THREADS` prints a line of JSON.
#![expect(clippy::print_stdout, reason = "printing is the purpose of this program")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cllm_engine::{Checkpoint, ComputeOptions, ForwardError, JacobiTrajectory, KvCache, Model, Segment, Workspace};
use cllm_trainer::trajectories::{TrajectoryExample, read_all};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, trajectories, threads] = &arguments[..] else {
        return Err("give a model, a folder of trajectories and a number of threads".into());
    };
    let checkpoint = Checkpoint::open(Path::new(model))?;
    let model = Model::load(&checkpoint, ComputeOptions { threads: threads.parse()?, ..ComputeOptions::default() })?;
    let (examples, _) = read_all(Path::new(trajectories))?;
    let mut reference = Reference::new(&model);
    // the first one pays for scratch memory
    if let Some(first) = examples.first() {
        reference.example(first)?;
        reference.forwards = 0;
    }
    let begin = Instant::now();
    examples.iter().try_for_each(|example| reference.example(example))?;
    let seconds = begin.elapsed().as_secs_f64();
    let tokens: usize = examples.iter().map(|example| example.tokens.len() - example.prompt_len).sum();
    let hardware = model.hardware();
    let found = serde_json::json!({
        "seconds": seconds,
        "tokens": tokens,
        "forwards": reference.forwards,
        "instructionSet": hardware.instruction_set,
        "storage": hardware.storage,
    });
    println!("{found}");
    Ok(())
}

struct Reference<'a> {
    model: &'a Model,
    workspace: Workspace,
    /// Empty before every forward.
    cache: KvCache,
    forwards: u64,
}

impl<'a> Reference<'a> {
    fn new(model: &'a Model) -> Self {
        let cache = KvCache::new(model, model.config().max_position_embeddings);
        Self { model, workspace: Workspace::new(model), cache, forwards: 0 }
    }

    fn example(&mut self, example: &TrajectoryExample) -> Result<(), Box<dyn Error>> {
        for block in &example.blocks {
            let known = &example.tokens[..example.prompt_len + block.position];
            if self.states(known, block)? != block.states {
                return Err(format!("line {}: other states than recorded", example.index).into());
            }
        }
        Ok(())
    }

    /// From the draft of a block to its fixed point.
    fn states(&mut self, known: &[u32], block: &JacobiTrajectory) -> Result<Vec<Vec<u32>>, ForwardError> {
        let mut states: Vec<Vec<u32>> = block.states[..1].to_vec();
        loop {
            let state = &states[states.len() - 1];
            let next = self.forward(known, state)?;
            if next == *state {
                return Ok(states);
            }
            states.push(next);
        }
    }

    /// What is predicted for every place of a block.
    fn forward(&mut self, known: &[u32], state: &[u32]) -> Result<Vec<u32>, ForwardError> {
        self.cache.truncate(0);
        self.forwards += 1;
        let tokens = [known, &state[..state.len() - 1]].concat();
        let segment = Segment { cache: &mut self.cache, tokens: &tokens, predict: state.len() };
        let logits = self.model.forward_batch(&mut self.workspace, &mut [segment])?.of(0);
        Ok((0..logits.rows()).map(|row| logits.argmax(row)).collect())
    }
}
