//! Data parallelism inside the process: micro-batches on threads, their gradients summed in order.
//!
//! How a batch is split does not depend on the number of threads or processes, and sums are taken in a fixed order: the micro-batches
//! of a part of the batch one after the other, then the parts. The result is the same, bit for bit, on any number of threads, and of
//! processes that take whole parts (`distributed`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor, Var};

use crate::failure::Result;
use crate::optimizer::Values;

/// Rows of a micro-batch, about: enough for efficient products, few enough for the caches.
const MICRO_BATCH_ROWS: usize = 512;
/// Shares of a batch, at least: so many threads always have work.
const MINIMUM_SHARES: usize = 4;
const TERMS: usize = 2;
/// Parts of a batch, each summed on its own: as many processes at most share it. A batch of no more micro-batches is summed as if
/// there were no parts.
pub(crate) const PARTS: usize = 8;

/// Terms of a loss; the meaning is the caller's.
pub(crate) type Terms = [f64; TERMS];

/// Splits a batch of examples with these many rows into consecutive micro-batches of about equal rows.
pub(crate) fn split(rows: &[usize]) -> Vec<Range<usize>> {
    let total: usize = rows.iter().sum();
    let shares = total.div_ceil(MICRO_BATCH_ROWS).next_multiple_of(MINIMUM_SHARES).min(rows.len()).max(1);
    let mut ranges = Vec::with_capacity(shares);
    let (mut start, mut passed) = (0, 0);
    for (index, rows) in rows.iter().enumerate() {
        passed += rows;
        if passed * shares >= total * (ranges.len() + 1) {
            ranges.push(start..index + 1);
            start = index + 1;
        }
    }
    ranges
}

/// The parts of every batch that a process sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    parts: Range<usize>,
    /// Whether they are added up at once.
    together: bool,
}

impl Share {
    /// Of process `index` among `processes`, at most [`PARTS`]. The first one adds its parts up; the others keep theirs apart, because
    /// each is added to a sum that only comes later.
    pub(crate) fn of(index: usize, processes: usize) -> Self {
        Self { parts: PARTS * index / processes..PARTS * (index + 1) / processes, together: index == 0 }
    }

    /// The micro-batches of each part, of `count` in the batch, without empty parts.
    fn micro_batches(&self, count: usize) -> Vec<Range<usize>> {
        let of_part = |part: usize| count * part / PARTS..count * (part + 1) / PARTS;
        self.parts.clone().map(of_part).filter(|range| !range.is_empty()).collect()
    }
}

/// Gradients and terms of some micro-batches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sums {
    /// Of every variable.
    pub gradients: Values,
    /// Of the loss.
    pub terms: Terms,
}

impl Sums {
    fn zeros(variables: &[&Var]) -> Self {
        let gradients = variables.iter().map(|variable| vec![0.0; variable.elem_count()]).collect();
        Self { gradients, terms: [0.0; TERMS] }
    }

    fn add(&mut self, later: &Self) {
        self.terms = add_terms(self.terms, later.terms);
        for (sum, values) in self.gradients.iter_mut().zip(&later.gradients) {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        }
    }

    fn add_micro_batch(&mut self, (gradients, terms): MicroBatchSums) -> Result<()> {
        self.terms = add_terms(self.terms, terms);
        for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
            if let Some(gradient) = gradient {
                add_values(sum, &gradient)?;
            }
        }
        Ok(())
    }
}

/// The sums of a share, in their order: of one part each, or only one where the parts are added up at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PartSums {
    /// Zeros where the share has no micro-batches.
    pub first: Sums,
    /// Of the parts after it.
    pub rest: Vec<Sums>,
}

impl PartSums {
    /// All added up in their order.
    pub(crate) fn total(self) -> Sums {
        let Self { mut first, rest } = self;
        for part in &rest {
            first.add(part);
        }
        first
    }
}

/// Term by term.
pub(crate) fn add_terms(sum: Terms, terms: Terms) -> Terms {
    std::array::from_fn(|i| sum[i] + terms[i])
}

/// The gradients of a micro-batch by variable, and its loss terms.
pub(crate) type MicroBatchSums = (Vec<Option<Tensor>>, Terms);

/// Sums loss terms and gradients over the micro-batches of a share. `differentiate` gives those of one.
pub(crate) fn sum_gradients<B: Sync>(
    batches: &[B],
    share: &Share,
    variables: &[&Var],
    threads: usize,
    differentiate: impl Fn(&B) -> Result<MicroBatchSums> + Sync,
) -> Result<PartSums> {
    let sums = OrderedSums::new(variables, share.micro_batches(batches.len()), share.together);
    let (start, end) = (sums.next, sums.end());
    let next = AtomicUsize::new(start);
    let sums = Mutex::new(Ok(sums));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches[..end].get(index) else { return };
            let outcome = differentiate(batch);
            let Ok(mut sums) = sums.lock() else { return };
            let Ok(state) = &mut *sums else { return };
            let added = outcome.and_then(|part| state.add(index, part));
            if let Err(failure) = added {
                *sums = Err(failure);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(end - start) {
            scope.spawn(work);
        }
        work();
    });
    let sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)?;
    Ok(sums.sums)
}

/// Sums loss terms over micro-batches, in their order, without gradients.
pub(crate) fn sum_terms<B: Sync>(
    batches: &[B],
    threads: usize,
    terms: impl Fn(&B) -> Result<Terms> + Sync,
) -> Result<Terms> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(index) else { return };
            let outcome = terms(batch);
            let Ok(mut found) = found.lock() else { return };
            found.insert(index, outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(batches.len()) {
            scope.spawn(work);
        }
        work();
    });
    let found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.into_values().try_fold([0.0; TERMS], |sum, terms| Ok(add_terms(sum, terms?)))
}

/// Sums in the order of the micro-batches, whatever order they finish in.
struct OrderedSums<'a> {
    variables: &'a [&'a Var],
    /// Micro-batches of each part.
    parts: Vec<Range<usize>>,
    together: bool,
    sums: PartSums,
    next: usize,
    early: BTreeMap<usize, MicroBatchSums>,
}

impl<'a> OrderedSums<'a> {
    fn new(variables: &'a [&'a Var], parts: Vec<Range<usize>>, together: bool) -> Self {
        let next = parts.first().map_or(0, |part| part.start);
        let sums = PartSums { first: Sums::zeros(variables), rest: Vec::new() };
        Self { variables, parts, together, sums, next, early: BTreeMap::new() }
    }

    /// After the last micro-batch.
    fn end(&self) -> usize {
        self.parts.last().map_or(0, |part| part.end)
    }

    fn add(&mut self, index: usize, micro_batch: MicroBatchSums) -> Result<()> {
        self.early.insert(index, micro_batch);
        while let Some(micro_batch) = self.early.remove(&self.next) {
            if self.begins_sum() {
                self.sums.rest.push(Sums::zeros(self.variables));
            }
            self.sums.rest.last_mut().unwrap_or(&mut self.sums.first).add_micro_batch(micro_batch)?;
            self.next += 1;
            if self.together && self.ends_part() {
                self.add_up();
            }
        }
        Ok(())
    }

    /// The first part begins the sum. A part of one micro-batch is its own sum: it need not be made apart only to be added.
    fn begins_sum(&self) -> bool {
        let later = self.parts.iter().skip(1).find(|part| part.start == self.next);
        later.is_some_and(|part| !self.together || part.len() > 1)
    }

    fn ends_part(&self) -> bool {
        self.parts.iter().any(|part| part.end == self.next)
    }

    fn add_up(&mut self) {
        if let Some(part) = self.sums.rest.pop() {
            self.sums.first.add(&part);
        }
    }
}

fn add_values(sum: &mut [f32], gradient: &Tensor) -> candle_core::Result<()> {
    let gradient = gradient.contiguous()?.to_device(&Device::Cpu)?;
    let (storage, layout) = gradient.storage_and_layout();
    let candle_core::Storage::Cpu(storage) = &*storage else {
        candle_core::bail!("gradients are summed on the CPU, found one on {:?}", gradient.device())
    };
    let values = &storage.as_slice::<f32>()?[layout.start_offset()..][..sum.len()];
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn micro_batches_cover_the_batch_in_order(rows in proptest::collection::vec(1_usize..300, 1..60)) {
            let ranges = split(&rows);
            prop_assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..rows.len()).collect::<Vec<_>>());
            prop_assert!(ranges.iter().all(|range| !range.is_empty()));
            let longest = *rows.iter().max().unwrap_or(&0);
            let limit = MICRO_BATCH_ROWS.max(longest) + longest;
            prop_assert!(ranges.iter().all(|range| rows[range.clone()].iter().sum::<usize>() <= limit));
        }
    }

    /// Numbers whose sum depends on the order.
    fn sums(count: u32, share: &Share, threads: usize) -> PartSums {
        let variable = Var::from_slice(&[0.1_f32, 0.7, 1e-3], 3, &Device::Cpu).unwrap();
        let batches: Vec<f64> = (1..=count).map(|i| 1.0 / f64::from(i * i % 7 + 1)).collect();
        let differentiate = |factor: &f64| {
            let mut gradients = (variable.as_tensor().sqr()? * *factor)?.sum_all()?.backward()?;
            Ok((vec![gradients.remove(&variable)], [factor / 3.0, 1.0]))
        };
        sum_gradients(&batches, share, &[&variable], threads, differentiate).unwrap()
    }

    #[test]
    fn sums_do_not_depend_on_threads() {
        for share in [Share::of(0, 1), Share::of(1, 2)] {
            for count in [9, 40] {
                let sums = [1, 2, 5].map(|threads| sums(count, &share, threads));
                assert!(sums.iter().all(|sum| *sum == sums[0]), "{share:?} of {count}");
            }
        }
        let total = sums(9, &Share::of(0, 1), 2).total();
        let factors: f64 = (1_u32..=9).map(|i| 1.0 / f64::from(i * i % 7 + 1)).sum();
        assert!((f64::from(total.gradients[0][1]) - 1.4 * factors).abs() < 1e-5);
        assert!((total.terms[1] - 9.0).abs() < 1e-12);
    }

    #[test]
    fn sums_do_not_depend_on_processes() {
        for count in [1, 2, 4, 7, 8, 9, 16, 29, 64] {
            let alone = sums(count, &Share::of(0, 1), 2).total();
            for processes in 2..=PARTS {
                let mut sum = sums(count, &Share::of(0, processes), 2).total();
                for index in 1..processes {
                    let PartSums { mut first, rest } = sums(count, &Share::of(index, processes), 2);
                    // as a worker does: what came before is added to its own
                    first.terms = add_terms(sum.terms, first.terms);
                    for (own, before) in first.gradients.iter_mut().flatten().zip(sum.gradients.iter().flatten()) {
                        *own += before;
                    }
                    sum = PartSums { first, rest }.total();
                }
                assert_eq!(sum, alone, "{count} micro-batches on {processes} processes");
            }
        }
    }

    #[test]
    fn shares_cover_a_batch_evenly() {
        for count in [0, 1, 4, 8, 16, 50] {
            for processes in 1..=PARTS {
                let of = |index| Share::of(index, processes).micro_batches(count);
                let all: Vec<usize> = (0..processes).flat_map(of).flatten().collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>(), "{count} on {processes}");
            }
            for processes in [2, 4, 8] {
                let of = |index| Share::of(index, processes).micro_batches(count).into_iter().flatten().count();
                assert!((0..processes).all(|index| of(index) <= count.div_ceil(processes)), "{count} on {processes}");
            }
        }
    }

    #[test]
    fn the_first_failure_is_reported() {
        let variable = Var::from_slice(&[0.1_f32], 1, &Device::Cpu).unwrap();
        let differentiate = |_: &u32| Err(crate::failure::Failure::Interrupted);
        assert!(sum_gradients(&[1, 2, 3], &Share::of(0, 1), &[&variable], 2, differentiate).is_err());
    }
}
