//! Data parallelism inside the process: micro-batches on threads, their gradients summed in order.
//!
//! How a batch is split does not depend on the number of threads, and sums are taken in the order of the micro-batches: the result
//! is the same, bit for bit, on any number of threads.

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

/// The gradients of a micro-batch by variable, and its loss terms.
pub(crate) type Part = (Vec<Option<Tensor>>, Terms);

/// Sums loss terms and gradients over micro-batches. `differentiate` gives those of one.
pub(crate) fn sum_gradients<B: Sync>(
    batches: &[B],
    variables: &[&Var],
    threads: usize,
    differentiate: impl Fn(&B) -> Result<Part> + Sync,
) -> Result<(Values, Terms)> {
    let next = AtomicUsize::new(0);
    let sums = Mutex::new(Ok(OrderedSums::new(variables)));
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(index) else { return };
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
        for _ in 1..threads.min(batches.len()) {
            scope.spawn(work);
        }
        work();
    });
    let sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)?;
    Ok((sums.gradients, sums.terms))
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
    found.into_values().try_fold([0.0; TERMS], |sum, terms| {
        let terms = terms?;
        Ok(std::array::from_fn(|i| sum[i] + terms[i]))
    })
}

/// Sums in the order of the micro-batches, whatever order they finish in.
struct OrderedSums {
    gradients: Values,
    terms: Terms,
    next: usize,
    early: BTreeMap<usize, Part>,
}

impl OrderedSums {
    fn new(variables: &[&Var]) -> Self {
        let gradients = variables.iter().map(|variable| vec![0.0; variable.elem_count()]).collect();
        Self { gradients, terms: [0.0; TERMS], next: 0, early: BTreeMap::new() }
    }

    fn add(&mut self, index: usize, part: Part) -> Result<()> {
        self.early.insert(index, part);
        while let Some((gradients, terms)) = self.early.remove(&self.next) {
            self.next += 1;
            for (sum, term) in self.terms.iter_mut().zip(terms) {
                *sum += term;
            }
            for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
                if let Some(gradient) = gradient {
                    add_values(sum, &gradient)?;
                }
            }
        }
        Ok(())
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

    #[test]
    fn sums_do_not_depend_on_threads() {
        let variable = Var::from_slice(&[0.1_f32, 0.7, 1e-3], 3, &Device::Cpu).unwrap();
        let batches: Vec<f64> = (1..=9).map(|i| 1.0 / f64::from(i)).collect();
        let differentiate = |factor: &f64| {
            let mut gradients = (variable.as_tensor().sqr()? * *factor)?.sum_all()?.backward()?;
            Ok((vec![gradients.remove(&variable)], [*factor, 1.0]))
        };
        let sums = [1, 2, 5].map(|threads| sum_gradients(&batches, &[&variable], threads, differentiate).unwrap());
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        assert!((f64::from(sums[0].0[0][1]) - 1.4 * batches.iter().sum::<f64>()).abs() < 1e-5);
        assert!((sums[0].1[1] - 9.0).abs() < 1e-12);
    }

    #[test]
    fn the_first_failure_is_reported() {
        let variable = Var::from_slice(&[0.1_f32], 1, &Device::Cpu).unwrap();
        let differentiate = |_: &u32| Err(crate::failure::Failure::Interrupted);
        assert!(sum_gradients(&[1, 2, 3], &[&variable], 2, differentiate).is_err());
    }
}
