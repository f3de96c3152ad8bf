//! What a backend delivers with all its slots in use, before it answers anybody.
//!
//! Bounded: as many texts at once as there are slots, one after the other in each, until there are [`TOKENS_PER_SLOT`] tokens for each
//! slot; no forward is begun after [`MOST_TIME`], once there is a token.

use std::time::{Duration, Instant};

use crate::backend::{Backend, Sampling, Step};

/// Tokens that are generated for each slot, and for each prompt at most.
pub const TOKENS_PER_SLOT: usize = 64;
/// After it no forward is begun.
pub const MOST_TIME: Duration = Duration::from_secs(10);

/// Generated tokens per second of everything, the computation of the prompts included; whoever ends makes room for the next. Absent where
/// no prompt fits the context. The error is a sentence without its full stop.
pub fn measure<B: Backend>(
    backend: &mut B,
    prompts: &[Vec<u32>],
    slots: usize,
    context_length: usize,
) -> Result<Option<f64>, String> {
    let fitting: Vec<&Vec<u32>> = prompts.iter().filter(|tokens| (1..context_length).contains(&tokens.len())).collect();
    let mut next = fitting.iter().cycle();
    let mut running: Vec<B::Generation> = Vec::with_capacity(slots);
    let mut tokens = 0;
    let began = Instant::now();
    while tokens < slots * TOKENS_PER_SLOT && (tokens == 0 || began.elapsed() < MOST_TIME) {
        while running.len() < slots {
            let Some(prompt) = next.next() else { return Ok(None) };
            let most = TOKENS_PER_SLOT.min(context_length - prompt.len());
            running.push(backend.start(prompt, most, &Sampling::default())?);
        }
        let mut states: Vec<&mut B::Generation> = running.iter_mut().collect();
        let steps = backend.step(&mut states)?;
        tokens += steps.iter().map(|step| step.pieces.len()).sum::<usize>();
        end_those_that_are_over(backend, &mut running, &steps);
    }
    let seconds = began.elapsed().as_secs_f64();
    for generation in &running {
        backend.end(generation);
    }
    Ok(Some(tokens as f64 / seconds))
}

fn end_those_that_are_over<B: Backend>(backend: &mut B, running: &mut Vec<B::Generation>, steps: &[Step]) {
    let mut steps = steps.iter();
    running.retain(|generation| {
        let is_over = steps.next().is_some_and(|step| step.finish.is_some());
        if is_over {
            backend.end(generation);
        }
        !is_over
    });
}
