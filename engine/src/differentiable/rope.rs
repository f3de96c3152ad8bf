//! Rotary position embedding: the table of a batch and the rotation, forwards and backwards.

use super::real::Real;

/// Cosines and sines of every row of a batch.
#[derive(Clone, Debug)]
pub struct RopeTable {
    half: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl RopeTable {
    /// `positions`: of every row; `frequencies`: radians per position of the pairs of a head, `head_dim / 2` of them.
    pub fn new(positions: &[u32], frequencies: &[f32]) -> Self {
        let angles = || positions.iter().flat_map(|&position| frequencies.iter().map(move |f| position as f32 * f));
        Self {
            half: frequencies.len(),
            cosines: angles().map(f32::cos).collect(),
            sines: angles().map(f32::sin).collect(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.cosines.len() / self.half.max(1)
    }

    /// Values of a head that it rotates.
    pub fn head_dim(&self) -> usize {
        2 * self.half
    }

    /// `[rows, head_dim / 2]`
    pub(crate) fn cosines(&self) -> &[f32] {
        &self.cosines
    }

    /// `[rows, head_dim / 2]`
    pub(crate) fn sines(&self) -> &[f32] {
        &self.sines
    }

    /// Rotates the heads that lie one after the other in `heads`; value i of a head pairs with value i + `head_dim` / 2.
    pub(super) fn rotate<T: Real>(&self, row: usize, heads: &mut [T], direction: Direction) {
        let table = row * self.half..(row + 1) * self.half;
        let (cosines, sines) = (&self.cosines[table.clone()], &self.sines[table]);
        for head in heads.chunks_exact_mut(2 * self.half) {
            let (first, second) = head.split_at_mut(self.half);
            for i in 0..self.half {
                let cosine = T::from_f32(cosines[i]);
                let sine = match direction {
                    Direction::Forward => T::from_f32(sines[i]),
                    Direction::Backward => T::zero() - T::from_f32(sines[i]),
                };
                let (a, b) = (first[i], second[i]);
                first[i] = a * cosine - b * sine;
                second[i] = b * cosine + a * sine;
            }
        }
    }
}

/// A rotation is orthogonal: its gradient is the opposite rotation.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Forward,
    Backward,
}
