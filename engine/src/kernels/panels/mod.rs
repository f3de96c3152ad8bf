#![expect(unsafe_code, reason = "indices of the innermost loop are checked once, before it")]
#![expect(clippy::needless_range_loop, reason = "see the loops")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Weights of a linear layer in panels of thirty-two outputs, and the innermost loop over them: a few rows times a few panels, held in
//! registers.

mod float;
mod q4;
mod q8_0;

use super::activations::ActivationBlock;
use super::lanes::{LANES, Lanes};

pub(super) use float::{Bf16Pairs, F32Row};
pub(super) use q4::{Q4_0Block, Q4_1Block};
pub(super) use q8_0::Q8_0Block;

/// Outputs of a panel: two vectors.
pub(super) const PANEL: usize = 2 * LANES;

/// Bytes for which weights are asked for before they are needed: about the latency of the memory.
const AHEAD: usize = 4096;

/// Sums of one row for one panel.
pub(super) type Sums<L> = [L; 2];

/// Weights from some neighbouring inputs, [`PanelBlock::INPUTS`] of them, to [`PanelBlock::OUTPUTS`] neighbouring outputs of one panel.
/// A panel is one strip of blocks after the other, each in the order of the inputs.
pub(super) trait PanelBlock: Copy + Sync {
    /// Inputs of a block.
    const INPUTS: usize;
    /// Outputs of a block: those of a panel, or half of them where more sums would not stay in registers.
    const OUTPUTS: usize;
    /// Strips of a panel.
    const STRIPS: usize = PANEL / Self::OUTPUTS;
    /// Rows of the largest tile, whatever registers hold.
    const MOST_ROWS: usize = 8;
    /// What a row brings along for one block.
    type Activation: Activation;

    /// Packs one block of [`PanelBlock::OUTPUTS`] rows of a matrix, each as its storage writes it; zero where there is none.
    fn pack(columns: &[Option<&[u8]>]) -> Self;

    /// The weights to one output of the block.
    fn weights(&self, column: usize) -> impl Iterator<Item = f32>;

    /// Adds the products of some rows and this block of a strip. Each output is one chain of operations, whatever `ROWS` is.
    fn multiply_add<L: Lanes, const ROWS: usize>(
        &self,
        strip: usize,
        activations: [&Self::Activation; ROWS],
        sums: &mut [Sums<L>; ROWS],
    );
}

/// What a row brings along for one block; it decides over the use of registers. Unless said otherwise sums stay in them over all inputs.
pub(super) trait Activation: Sync {
    /// Rows of the largest tile, one panel wide, that registers hold. Three rows would leave too few of sixteen registers of half a
    /// vector: sums would go to memory and back at every input.
    fn tile_rows<L: Lanes>() -> usize {
        if has_room::<L>(8, 1) { 8 } else { 2 }
    }

    /// Whether so many rows leave registers for a second panel: each sum is a chain that waits for itself, many chains hide that.
    fn has_room_for_two<L: Lanes>(rows: usize) -> bool {
        has_room::<L>(rows, 2)
    }
}

/// Whether the sums of a tile leave enough registers for weights and values.
const fn has_room<L: Lanes>(rows: usize, panels: usize) -> bool {
    2 * rows * panels <= L::REGISTERS / 4 * 3
}

impl Activation for ActivationBlock {
    /// Integer sums leave enough registers for the weights; the other sums are touched once per block only.
    fn tile_rows<L: Lanes>() -> usize {
        if L::REGISTERS >= 32 { 8 } else { 4 }
    }

    fn has_room_for_two<L: Lanes>(_: usize) -> bool {
        // each block begins a chain of its own
        false
    }
}

/// Products of `ROWS` rows `[ROWS, blocks]` and `PANELS` panels `[PANELS, STRIPS, blocks]`. Each output is one chain over the inputs in
/// ascending order, starting from zero, whatever `ROWS` and `PANELS` are.
#[inline(always)]
pub(super) fn multiply<L: Lanes, B: PanelBlock, const ROWS: usize, const PANELS: usize>(
    blocks: usize,
    rows: &[B::Activation],
    panels: &[B],
) -> [[Sums<L>; ROWS]; PANELS] {
    assert!(rows.len() == ROWS * blocks && panels.len() == PANELS * B::STRIPS * blocks, "shapes of a tile");
    let rows: [&[B::Activation]; ROWS] = std::array::from_fn(|row| &rows[row * blocks..(row + 1) * blocks]);
    let mut sums = [[[L::splat(0.0); 2]; ROWS]; PANELS];
    // Plain loops over plain indices: iterators over several slices do not become the tight loop that this must be.
    for strip in 0..B::STRIPS {
        for block in 0..blocks {
            // SAFETY: `block < blocks`, and each row has `blocks` activations.
            let activations = rows.map(|row| unsafe { row.get_unchecked(block) });
            for panel in 0..PANELS {
                // SAFETY: as above; there are `PANELS * STRIPS * blocks` blocks.
                let weights = unsafe { panels.get_unchecked((panel * B::STRIPS + strip) * blocks + block) };
                // beyond the tile lie the weights of the next one; nothing is read beyond the last
                let ahead = std::ptr::from_ref(weights).wrapping_byte_add(AHEAD).cast::<[u8; 64]>();
                for line in 0..size_of::<B>().div_ceil(64) {
                    L::prefetch(ahead.wrapping_add(line));
                }
                weights.multiply_add(strip, activations, &mut sums[panel]);
            }
        }
    }
    sums
}
