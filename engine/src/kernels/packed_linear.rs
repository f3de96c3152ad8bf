#![expect(unsafe_code, reason = "threads write disjoint columns of one output")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Linear layers whose weights are packed once into panels of sixteen outputs, fast for one row and for some rows.
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

/// Rows of the largest tile: with one panel they fill twelve of sixteen registers with sums.
const TILE_ROWS: usize = 6;
/// Rows that are few enough for [`FEW_ROWS_PANELS`].
const FEW_ROWS: usize = 3;
/// Panels that are computed together for few rows: enough independent chains to hide the latency of an addition. More rows have
/// enough chains, and one panel after the other is one stream of weights, which the processor fetches ahead best.
const FEW_ROWS_PANELS: usize = 2;
/// The same for a single row.
const ROW_PANELS: usize = 4;
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
            *weight = row.0[column / LANES][column % LANES];
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

/// Panels per piece: few pieces, yet enough of them that a late thread can be helped; whole groups of [`ROW_PANELS`].
fn grain(panels: usize, multiplications_per_panel: usize, threads: usize) -> usize {
    let sharing = if threads == 1 { 1 } else { 2 * threads };
    let worth = WORTH_SHARING.div_ceil(multiplications_per_panel);
    panels.div_ceil(sharing).max(worth).next_multiple_of(ROW_PANELS)
}

#[inline(always)]
fn compute_panels<L: Lanes>(product: &Product<'_>, panels: Range<usize>) {
    let rows = product.input.len() / product.layer.inputs;
    let mut panel = panels.start;
    if rows == 1 {
        while panel + ROW_PANELS <= panels.end {
            product.tile::<L, 1, ROW_PANELS>(0, panel);
            panel += ROW_PANELS;
        }
    }
    if rows <= FEW_ROWS {
        while panel + FEW_ROWS_PANELS <= panels.end {
            compute_few_rows::<L>(product, rows, panel);
            panel += FEW_ROWS_PANELS;
        }
    }
    for panel in panel..panels.end {
        compute_rows::<L>(product, rows, panel);
    }
}

#[inline(always)]
fn compute_few_rows<L: Lanes>(product: &Product<'_>, rows: usize, panel: usize) {
    match rows {
        1 => product.tile::<L, 1, FEW_ROWS_PANELS>(0, panel),
        2 => product.tile::<L, 2, FEW_ROWS_PANELS>(0, panel),
        _ => product.tile::<L, FEW_ROWS, FEW_ROWS_PANELS>(0, panel),
    }
}

/// All rows for a panel, in tiles of nearly equal heights.
#[inline(always)]
fn compute_rows<L: Lanes>(product: &Product<'_>, rows: usize, panel: usize) {
    let mut tiles = rows.div_ceil(TILE_ROWS);
    let mut row = 0;
    while row < rows {
        let height = (rows - row).div_ceil(tiles);
        match height {
            1 => product.tile::<L, 1, 1>(row, panel),
            2 => product.tile::<L, 2, 1>(row, panel),
            3 => product.tile::<L, 3, 1>(row, panel),
            4 => product.tile::<L, 4, 1>(row, panel),
            5 => product.tile::<L, 5, 1>(row, panel),
            _ => product.tile::<L, TILE_ROWS, 1>(row, panel),
        }
        row += height;
        tiles -= 1;
    }
}

impl Product<'_> {
    #[inline(always)]
    fn tile<L: Lanes, const ROWS: usize, const PANELS: usize>(&self, row: usize, first: usize) {
        let inputs = self.layer.inputs;
        let rows = &self.input[row * inputs..(row + ROWS) * inputs];
        let panels = &self.layer.panels[first * inputs..(first + PANELS) * inputs];
        let sums = multiply::<L, ROWS, PANELS>(inputs, rows, panels);
        for (i, sums) in sums.iter().enumerate() {
            self.finish_row(row + i, first, sums);
        }
    }

    #[inline(always)]
    fn finish_row<L: Lanes, const PANELS: usize>(&self, row: usize, panel: usize, sums: &[Sums<L>; PANELS]) {
        for (i, sums) in sums.iter().enumerate() {
            let mut values = [[0.0; LANES]; 2];
            sums[0].store(&mut values[0]);
            sums[1].store(&mut values[1]);
            if self.finish == Finish::Gate {
                let [gate, up] = &mut values;
                for (gate, up) in gate.iter_mut().zip(up) {
                    *gate = gated_silu(*gate, *up);
                }
                self.write(row, (panel + i) * LANES, gate);
            } else {
                self.write(row, (panel + i) * PANEL, values.as_flattened());
            }
        }
    }

    #[inline(always)]
    fn write(&self, row: usize, first: usize, values: &[f32]) {
        let outputs = self.layer.outputs;
        // SAFETY: a panel of a row is written once, by the thread that claimed the panel.
        let output = unsafe { self.output.part(row * outputs + first, values.len().min(outputs - first)) };
        if self.finish == Finish::Add {
            output.iter_mut().zip(values).for_each(|(output, value)| *output += value);
        } else {
            output.copy_from_slice(&values[..output.len()]);
        }
    }
}
