//! What a forward of so many rows costs on this machine: the figure that Jacobi decoding lives by.

use std::time::{Duration, Instant};

use super::{KvCache, Model, Workspace};

/// Positions in the cache before each forward that is timed: about those of a short prompt.
pub const COST_CONTEXT: usize = 64;

/// Forwards of one size in a row, of which the first is not timed: decoding repeats one size, and the first forward of another size
/// is slower.
const BURST: usize = 16;

/// Turns of each size where time is short: a disturbance of some moments must not look like the cost of one size.
const TURNS: usize = 4;

/// The part of the time that is spent before anything is timed: threads wake, clocks rise, memory is mapped. What is timed before it
/// looks dearer than it is, and the sizes beside it free.
const WARM_UP: f64 = 0.2;

/// Forwards of a warm-up at most: a small model is warm sooner.
const MOST_WARM_UP: usize = 64;

/// Median seconds of a forward of each number of `rows` after a short context. Sizes take turns of a few forwards, so that a
/// disturbance hits them all alike. Sizes that are zero or do not fit the context of the model are left out.
pub fn forward_cost(model: &Model, rows: &[usize], repetitions: usize) -> Vec<(usize, f64)> {
    let sizes = fitting(model, rows);
    let mut timer = Timer::new(model, &sizes, COST_CONTEXT);
    timer.prefill();
    let mut times = vec![Vec::with_capacity(repetitions); sizes.len()];
    for _ in 0..repetitions.div_ceil(BURST - 1) {
        for (times, &rows) in times.iter_mut().zip(&sizes) {
            timer.burst(rows, BURST, times);
        }
    }
    sizes.into_iter().zip(times).filter_map(|(rows, times)| Some((rows, median(times)?))).collect()
}

/// [`forward_cost`] after `context` positions for whoever waits for it, ascending in rows. It takes about `budget` at most: of a slow
/// model fewer forwards are timed, and some sizes not at all. Only the fewest and the most rows are timed once however slow they are.
pub fn forward_cost_within(model: &Model, rows: &[usize], context: usize, budget: Duration) -> Vec<(usize, f64)> {
    let begin = Instant::now();
    let left = || budget.saturating_sub(begin.elapsed()).as_secs_f64();
    let sizes = ends_first(fitting(model, rows));
    let mut timer = Timer::new(model, &sizes, context);
    timer.fill();
    timer.warm_up(sizes.first().copied(), budget.mul_f64(WARM_UP));
    let mut found: Vec<(usize, f64, Vec<f64>)> = Vec::with_capacity(sizes.len());
    for rows in sizes {
        // so many rows cost at most as much as so many forwards of one
        let fits = |&(fewest, seconds, _): &(usize, f64, _)| seconds * rows as f64 / fewest as f64 <= left();
        if (found.len() < 2 || found.first().is_some_and(fits))
            && let Some(seconds) = timer.time(rows)
        {
            found.push((rows, seconds, Vec::new()));
        }
    }
    for turn in 0..TURNS {
        let share = left() / (TURNS - turn) as f64 / found.len() as f64;
        for (rows, seconds, times) in &mut found {
            timer.burst(*rows, BURST.min((share / *seconds) as usize), times);
        }
    }
    found.sort_unstable_by_key(|(rows, ..)| *rows);
    found.into_iter().map(|(rows, seconds, times)| (rows, median(times).unwrap_or(seconds))).collect()
}

/// Numbers of rows that a forward of the model can have.
fn fitting(model: &Model, rows: &[usize]) -> Vec<usize> {
    let limit = model.config().max_position_embeddings;
    rows.iter().copied().filter(|&rows| rows > 0 && rows < limit).collect()
}

/// The least, the greatest, the others.
fn ends_first(mut sizes: Vec<usize>) -> Vec<usize> {
    sizes.sort_unstable();
    sizes.dedup();
    if let Some(greatest) = sizes.pop() {
        sizes.insert(sizes.len().min(1), greatest);
    }
    sizes
}

/// Runs forwards after one context and takes their time.
struct Timer<'a> {
    model: &'a Model,
    workspace: Workspace,
    cache: KvCache,
    tokens: Vec<u32>,
    context: usize,
}

impl<'a> Timer<'a> {
    /// For forwards of at most the greatest of `sizes`; the context is shorter where the model has no room for it.
    fn new(model: &'a Model, sizes: &[usize], context: usize) -> Self {
        let longest = sizes.iter().copied().max().unwrap_or(0);
        let config = model.config();
        let context = context.min(config.max_position_embeddings.saturating_sub(longest));
        let tokens = (0..context + longest).map(|i| (i * 7 % config.vocab_size) as u32).collect();
        let cache = KvCache::new(model, context + longest);
        Self { model, workspace: Workspace::new(model), cache, tokens, context }
    }

    /// Forwards that nobody times, of as many rows as are told, as long as there is time for another.
    fn warm_up(&mut self, rows: Option<usize>, budget: Duration) {
        let begin = Instant::now();
        for _ in 0..MOST_WARM_UP {
            let Some(seconds) = rows.and_then(|rows| self.time(rows)) else { return };
            if begin.elapsed().as_secs_f64() + seconds > budget.as_secs_f64() {
                return;
            }
        }
    }

    /// Computes the context.
    fn prefill(&mut self) {
        if self.context > 0 {
            self.forward(0, self.context);
        }
    }

    /// Positions with anything in them, which take no time: what is read there does not matter, only that memory is read.
    fn fill(&mut self) {
        // without room for them the forwards fail too
        let _ = self.cache.fill(self.context);
    }

    /// Seconds of one forward after the context.
    fn time(&mut self, rows: usize) -> Option<f64> {
        self.forward(self.context, rows)
    }

    /// Forwards in a row; all but the first are added to `times`.
    fn burst(&mut self, rows: usize, length: usize, times: &mut Vec<f64>) {
        if length > 1 {
            self.time(rows);
            times.extend((1..length).filter_map(|_| self.time(rows)));
        }
    }

    fn forward(&mut self, start: usize, rows: usize) -> Option<f64> {
        self.cache.truncate(start);
        let begin = Instant::now();
        let done = self.model.forward(&mut self.workspace, &mut self.cache, &self.tokens[start..start + rows]).is_ok();
        done.then(|| begin.elapsed().as_secs_f64())
    }
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::ends_first;

    #[test]
    fn the_ends_of_the_curve_come_first() {
        for (sizes, expected) in
            [(&[][..], &[][..]), (&[3], &[3]), (&[8, 1], &[1, 8]), (&[1, 2, 4, 4, 16, 8], &[1, 16, 2, 4, 8])]
        {
            assert_eq!(ends_first(sizes.to_vec()), expected);
        }
    }
}
