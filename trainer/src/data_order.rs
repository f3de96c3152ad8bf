//! Which examples a step sees: a fresh shuffle for every pass over the data, a pure function of seed and step.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Shuffles passes over `len` examples, and keeps the present one.
#[derive(Debug)]
pub(crate) struct DataOrder {
    seed: u64,
    len: usize,
    pass: Option<(u64, Vec<usize>)>,
}

impl DataOrder {
    /// For `len` examples, at least one.
    pub(crate) fn new(seed: u64, len: usize) -> Self {
        Self { seed, len, pass: None }
    }

    /// Indexes of the examples of a step, counted from 0.
    pub(crate) fn batch(&mut self, step: u64, batch_size: usize) -> Vec<usize> {
        let first = step * batch_size as u64;
        (first..first + batch_size as u64).map(|position| self.at(position)).collect()
    }

    fn at(&mut self, position: u64) -> usize {
        let (pass, index) = (position / self.len as u64, (position % self.len as u64) as usize);
        match &self.pass {
            Some((present, order)) if *present == pass => order[index],
            _ => {
                let mut order: Vec<usize> = (0..self.len).collect();
                order.shuffle(&mut random(self.seed, "order", pass));
                let found = order[index];
                self.pass = Some((pass, order));
                found
            }
        }
    }
}

/// The random numbers for a purpose and a number: independent of all others, the same in every run.
pub(crate) fn random(seed: u64, purpose: &str, number: u64) -> ChaCha8Rng {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(number.to_le_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_sees_every_example_once_in_another_order() {
        let mut order = DataOrder::new(7, 10);
        let seen: Vec<usize> = (0..5).flat_map(|step| order.batch(step, 4)).collect();
        let (first, second) = seen.split_at(10);
        for pass in [first, second] {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(first, second);
    }

    #[test]
    fn a_step_does_not_depend_on_the_steps_before() {
        let mut one = DataOrder::new(7, 10);
        let in_order: Vec<_> = (0..9).map(|step| one.batch(step, 3)).collect();
        assert_eq!(DataOrder::new(7, 10).batch(8, 3), in_order[8]);
        assert_ne!(DataOrder::new(8, 10).batch(8, 3), in_order[8]);
    }
}
