//! What the engine predicts after every token of a text: our side of `tests/gguf/agreement.sh`.

use std::fmt::Write;
use std::fs;

use cllm_engine::{Checkpoint, ComputeOptions, KvCache, Model, Workspace};

/// A line for each token, as `tests/gguf/teacher_forced.cpp` prints them: its id, the two most likely ids after it, their logits, and the
/// log-probability of the token that follows (NaN after the last of a chunk).
#[test]
#[ignore = "a tool of tests/gguf/agreement.sh, which sets its variables"]
fn teacher_forced() {
    let argument = |name: &str| std::env::var(name).unwrap();
    let checkpoint = Checkpoint::open(argument("CLLM_MODEL").as_ref()).unwrap();
    let model = Model::load(&checkpoint, ComputeOptions::default()).unwrap();
    let text = fs::read_to_string(argument("CLLM_TEXT")).unwrap();
    let tokens = checkpoint.tokenizer().encode(&text).unwrap();
    let chunk: usize = argument("CLLM_CHUNK").parse().unwrap();
    let mut workspace = Workspace::new(&model);
    let mut lines = String::new();
    for tokens in tokens.chunks(chunk) {
        let mut cache = KvCache::new(&model, chunk);
        let logits = model.forward(&mut workspace, &mut cache, tokens).unwrap();
        for (index, token) in tokens.iter().enumerate() {
            let row = logits.row(index);
            let (best, second) = best_two(row);
            let next = tokens.get(index + 1).map_or(f64::NAN, |&next| log_probability(row, best, next as usize));
            writeln!(lines, "{token} {best} {second} {} {} {next}", row[best], row[second]).unwrap();
        }
    }
    fs::write(argument("CLLM_OUTPUT"), lines).unwrap();
}

/// The lowest ids among equals.
fn best_two(row: &[f32]) -> (usize, usize) {
    (1..row.len()).fold((0, usize::MAX), |(best, second), id| match row[id] {
        logit if logit > row[best] => (id, best),
        logit if second == usize::MAX || logit > row[second] => (best, id),
        _ => (best, second),
    })
}

fn log_probability(row: &[f32], best: usize, token: usize) -> f64 {
    let above = |logit: f32| f64::from(logit) - f64::from(row[best]);
    above(row[token]) - row.iter().map(|&logit| above(logit).exp()).sum::<f64>().ln()
}
