#![expect(unsafe_code, reason = "indices of the innermost loop are checked once, before it")]
#![expect(clippy::needless_range_loop, reason = "see the loops")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! The innermost loop of a linear layer: a few rows times a few panels, held in registers.

use super::lanes::{LANES, Lanes};

/// Output columns of a panel: two cache lines of weights for each input.
pub(super) const PANEL: usize = 2 * LANES;

/// Weights from one input to the outputs of one panel.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelRow(pub(super) [[f32; LANES]; 2]);

/// Inputs for which weights are asked for before they are needed: about the latency of the last-level cache.
const AHEAD: usize = 16;

/// Sums of one row for one panel.
pub(super) type Sums<L> = [L; 2];

/// Products of `ROWS` rows `[ROWS, inputs]` and `PANELS` panels `[PANELS, inputs]`. Each output is one chain of multiply-adds over the
/// inputs in ascending order, starting from zero, whatever `ROWS` and `PANELS` are.
#[inline(always)]
pub(super) fn multiply<L: Lanes, const ROWS: usize, const PANELS: usize>(
    inputs: usize,
    rows: &[f32],
    panels: &[PanelRow],
) -> [[Sums<L>; PANELS]; ROWS] {
    assert!(rows.len() == ROWS * inputs && panels.len() == PANELS * inputs, "shapes of a tile");
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[row * inputs..(row + 1) * inputs]);
    let mut sums = [[[L::splat(0.0); 2]; PANELS]; ROWS];
    // Plain loops over plain indices: closures and iterators over several slices do not become the tight loop that this must be.
    for input in 0..inputs {
        // SAFETY: `input < inputs`, and each row has `inputs` values.
        let value = |row: usize| L::splat(unsafe { *rows[row].get_unchecked(input) });
        for panel in 0..PANELS {
            // SAFETY: as above; there are `PANELS * inputs` panel rows.
            let weights = unsafe { panels.get_unchecked(panel * inputs + input) };
            // beyond the tile lie the weights of the next one; nothing is read beyond the last
            let ahead = std::ptr::from_ref(weights).wrapping_add(AHEAD).cast::<[f32; LANES]>();
            L::prefetch(ahead);
            L::prefetch(ahead.wrapping_add(1));
            let weights = weights.0.each_ref().map(L::load);
            for row in 0..ROWS {
                let value = value(row);
                for half in 0..2 {
                    sums[row][panel][half] = weights[half].multiply_add(value, sums[row][panel][half]);
                }
            }
        }
    }
    sums
}
