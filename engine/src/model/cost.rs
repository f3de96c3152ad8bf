//! What a forward of so many rows costs on this machine: the figure that Jacobi decoding lives by.

use std::time::Instant;

use super::{KvCache, Model, Workspace};

/// Positions in the cache before each forward that is timed.
const CONTEXT: usize = 64;

/// Forwards of one size in a row, of which the first is not timed: decoding repeats one size, and the first forward of another size
/// is slower.
const BURST: usize = 16;

/// Median seconds of a forward of each number of `rows` after a short context. Sizes take turns of a few forwards, so that a
/// disturbance hits them all alike. Sizes that are zero or do not fit the context of the model are left out.
pub fn forward_cost(model: &Model, rows: &[usize], repetitions: usize) -> Vec<(usize, f64)> {
    let limit = model.config().max_position_embeddings;
    let sizes: Vec<usize> = rows.iter().copied().filter(|&rows| rows > 0 && rows < limit).collect();
    let longest = sizes.iter().copied().max().unwrap_or(0);
    let context = CONTEXT.min(limit - longest.min(limit));
    let tokens: Vec<u32> = (0..context + longest).map(|i| (i * 7 % model.config().vocab_size) as u32).collect();
    let (mut workspace, mut cache) = (Workspace::new(model), KvCache::new(model, context + longest));
    let mut times = vec![Vec::with_capacity(repetitions); sizes.len()];
    let mut time = |start: usize, rows: usize| {
        cache.truncate(start);
        let begin = Instant::now();
        let done = model.forward(&mut workspace, &mut cache, &tokens[start..start + rows]).is_ok();
        (begin.elapsed().as_secs_f64(), done)
    };
    if context > 0 {
        time(0, context);
    }
    for _ in 0..repetitions.div_ceil(BURST - 1) {
        for (times, &rows) in times.iter_mut().zip(&sizes) {
            time(context, rows);
            let timed = (1..BURST).map(|_| time(context, rows));
            times.extend(timed.filter(|(_, done)| *done).map(|(seconds, _)| seconds));
        }
    }
    sizes.into_iter().zip(times).filter_map(|(rows, times)| Some((rows, median(times)?))).collect()
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
