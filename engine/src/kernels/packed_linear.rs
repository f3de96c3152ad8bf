#![expect(unsafe_code, reason = "threads write disjoint columns of one output")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Linear layers whose weights are packed once into panels of thirty-two outputs, fast for one row and for some rows.
//!
//! Several rows share one reading of the weights: a general matrix product would pack the weights again for each call, and a loop
//! over rows would read them once for each. Threads split outputs only.

use std::ops::Range;

use super::elementwise::gated_silu;
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};
use super::shared::SharedMut;
use super::tile::{PANEL, PanelRow, Sums, multiply};
use super::{InstructionSet, ThreadPool};

/// Panels that all rows pass before the next ones are read: few enough to stay in the cache next to the processor.
const GROUP: usize = 2;
/// Pieces for each thread: enough of them that a late thread can be helped.
const PIECES: usize = 3;
/// Multiplications below which a second thread costs more than it saves.
const WORTH_SHARING: usize = 1 << 15;

/// A linear layer without bias.
#[derive(Debug)]
pub(crate) struct PackedLinear {
    inputs: usize,
    outputs: usize,
    /// Panel after panel, `inputs` rows each; columns beyond `outputs` are zero.
    panels: Vec<PanelRow>,
    /// The first half of a panel is gate, the second up of the same outputs of a feed-forward layer.
    gated: bool,
}

/// What becomes of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Set,
    Add,
    /// `silu(gate) * up` of the halves of a panel.
    Gate,
}

/// One call of a layer.
struct Product<'a> {
    layer: &'a PackedLinear,
    input: &'a [f32],
    output: SharedMut<'a>,
    finish: Finish,
}

impl PackedLinear {
    /// Packs matrices `[outputs, inputs]` that read the same input, one below the other.
    pub(crate) fn stacked(matrices: &[&[f32]], inputs: usize) -> Self {
        let rows: Vec<_> = matrices.iter().flat_map(|matrix| matrix.chunks_exact(inputs)).collect();
        let panels =
            rows.chunks(PANEL).flat_map(|rows| pack(rows.split_at(LANES.min(rows.len())).into(), inputs)).collect();
        Self { inputs, outputs: rows.len(), panels, gated: false }
    }

    /// Packs gate and up, both `[outputs, inputs]`, for [`PackedLinear::gate`].
    pub(crate) fn gated(gate: &[f32], up: &[f32], inputs: usize) -> Self {
        let [gate, up] = [gate, up].map(|matrix| matrix.chunks_exact(inputs).collect::<Vec<_>>());
        let halves = gate.chunks(LANES).zip(up.chunks(LANES));
        let panels = halves.flat_map(|halves| pack([halves.0, halves.1], inputs)).collect();
        Self { inputs, outputs: gate.len(), panels, gated: true }
    }

    /// Number of outputs of a row; of a gated layer after gating.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `output[rows, outputs] = input[rows, inputs] · weightsᵀ`.
    pub(crate) fn set(&self, pool: &ThreadPool, set: InstructionSet, input: &[f32], output: &mut [f32]) {
        self.run(pool, set, input, output, Finish::Set);
    }

    /// `output += input · weightsᵀ`: each product is summed up from zero first, then added.
    pub(crate) fn add(&self, pool: &ThreadPool, set: InstructionSet, input: &[f32], output: &mut [f32]) {
        self.run(pool, set, input, output, Finish::Add);
    }

    /// `output = silu(input · gateᵀ) * (input · upᵀ)`.
    pub(crate) fn gate(&self, pool: &ThreadPool, set: InstructionSet, input: &[f32], output: &mut [f32]) {
        self.run(pool, set, input, output, Finish::Gate);
    }

    /// Weights to one output: a row of the matrix that was packed.
    pub(crate) fn copy_weights(&self, output: usize, weights: &mut [f32]) {
        let (panel, column) = (output / PANEL, output % PANEL);
        let rows = &self.panels[panel * self.inputs..(panel + 1) * self.inputs];
        for (weight, row) in weights.iter_mut().zip(rows) {
            *weight = row.0.as_flattened()[column];
        }
    }

    fn run(&self, pool: &ThreadPool, set: InstructionSet, input: &[f32], output: &mut [f32], finish: Finish) {
        let rows = input.len() / self.inputs;
        assert!(input.len() == rows * self.inputs && output.len() == rows * self.outputs, "shapes of a linear layer");
        assert!(self.gated == (finish == Finish::Gate), "gated layers gate, others do not");
        let product = Product { layer: self, input, output: SharedMut::new(output), finish };
        let panels = self.panels.len() / self.inputs;
        let grain = grain(panels, rows * self.inputs * PANEL, pool.threads());
        pool.run(panels.div_ceil(grain), |piece| {
            let (product, panels) = (&product, piece * grain..panels.min((piece + 1) * grain));
            dispatch!(set, fn compute_panels(product: &Product<'_>, panels: Range<usize>));
        });
    }
}

/// The panel of two times at most [`LANES`] rows of a matrix.
fn pack<'a>(halves: [&'a [&'a [f32]]; 2], inputs: usize) -> impl Iterator<Item = PanelRow> + 'a {
    (0..inputs).map(move |input| {
        let lane = |rows: &[&[f32]], lane: usize| rows.get(lane).map_or(0.0, |row| row[input]);
        PanelRow(halves.map(|rows| std::array::from_fn(|i| lane(rows, i))))
    })
}

/// Panels per piece: few pieces, yet enough of them that a late thread can be helped; whole groups.
fn grain(panels: usize, multiplications_per_panel: usize, threads: usize) -> usize {
    let sharing = if threads == 1 { 1 } else { PIECES * threads };
    let worth = WORTH_SHARING.div_ceil(multiplications_per_panel);
    panels.div_ceil(sharing).max(worth).next_multiple_of(GROUP)
}

#[inline(always)]
fn compute_panels<L: Lanes>(product: &Product<'_>, panels: Range<usize>) {
    let rows = product.input.len() / product.layer.inputs;
    let mut panel = panels.start;
    while panel < panels.end {
        let group = panel..panels.end.min(panel + GROUP);
        let mut tiles = rows.div_ceil(tile_rows::<L>());
        let mut row = 0;
        while row < rows {
            let height = (rows - row).div_ceil(tiles);
            product.tiles::<L>(row, height, group.clone());
            row += height;
            tiles -= 1;
        }
        panel = group.end;
    }
}

/// Rows of the largest tile.
const fn tile_rows<L: Lanes>() -> usize {
    if has_room::<L>(8, 1) { 8 } else { 3 }
}

/// Whether the sums of a tile leave enough registers for weights and values.
const fn has_room<L: Lanes>(rows: usize, panels: usize) -> bool {
    2 * rows * panels <= L::REGISTERS / 4 * 3
}

impl Product<'_> {
    /// Some rows for some panels.
    #[inline(always)]
    fn tiles<L: Lanes>(&self, row: usize, height: usize, panels: Range<usize>) {
        match height {
            1 => self.tiles_of::<L, 1>(row, panels),
            2 => self.tiles_of::<L, 2>(row, panels),
            3 => self.tiles_of::<L, 3>(row, panels),
            4 => self.tiles_of::<L, 4>(row, panels),
            5 => self.tiles_of::<L, 5>(row, panels),
            6 => self.tiles_of::<L, 6>(row, panels),
            7 => self.tiles_of::<L, 7>(row, panels),
            _ => self.tiles_of::<L, 8>(row, panels),
        }
    }

    /// As many panels at a time as registers hold: each sum is a chain that waits for itself, many chains hide that.
    #[inline(always)]
    fn tiles_of<L: Lanes, const ROWS: usize>(&self, row: usize, panels: Range<usize>) {
        let mut panel = panels.start;
        while has_room::<L>(ROWS, 2) && panel + 2 <= panels.end {
            self.tile::<L, ROWS, 2>(row, panel);
            panel += 2;
        }
        for panel in panel..panels.end {
            self.tile::<L, ROWS, 1>(row, panel);
        }
    }

    #[inline(always)]
    fn tile<L: Lanes, const ROWS: usize, const PANELS: usize>(&self, row: usize, first: usize) {
        let inputs = self.layer.inputs;
        let rows = &self.input[row * inputs..(row + ROWS) * inputs];
        let panels = &self.layer.panels[first * inputs..(first + PANELS) * inputs];
        let sums = multiply::<L, ROWS, PANELS>(inputs, rows, panels);
        for (row, sums) in (row..).zip(sums) {
            for (panel, sums) in (first..).zip(sums) {
                self.finish(row, panel, sums);
            }
        }
    }

    #[inline(always)]
    fn finish<L: Lanes>(&self, row: usize, panel: usize, sums: Sums<L>) {
        let mut values = [[0.0; LANES]; 2];
        sums[0].store(&mut values[0]);
        sums[1].store(&mut values[1]);
        if self.finish == Finish::Gate {
            let [gate, up] = &mut values;
            for lane in 0..LANES {
                gate[lane] = gated_silu(gate[lane], up[lane]);
            }
            self.write(row, panel * LANES, gate);
        } else {
            self.write(row, panel * PANEL, &values[0]);
            self.write(row, panel * PANEL + LANES, &values[1]);
        }
    }

    #[inline(always)]
    fn write(&self, row: usize, first: usize, values: &[f32; LANES]) {
        let count = LANES.min(self.layer.outputs.saturating_sub(first));
        // SAFETY: the columns of a panel are written once for each row, by the thread that claimed the panel.
        let output = unsafe { self.output.part(row * self.layer.outputs + first.min(self.layer.outputs), count) };
        if let Ok(output) = <&mut [f32; LANES]>::try_from(&mut *output) {
            self.write_some(output, values);
        } else {
            self.write_some(output, &values[..count]);
        }
    }

    #[inline(always)]
    fn write_some(&self, output: &mut [f32], values: &[f32]) {
        if self.finish == Finish::Add {
            output.iter_mut().zip(values).for_each(|(output, value)| *output += value);
        } else {
            output.copy_from_slice(values);
        }
    }
}
