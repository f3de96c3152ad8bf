#![expect(unsafe_code, reason = "threads write disjoint columns of one output")]
#![expect(clippy::inline_always, reason = "must be inlined into the function that enables the instruction set")]
//! Linear layers whose weights are packed once into panels of thirty-two outputs, fast for one row and for some rows.
//!
//! Several rows share one reading of the weights: a general matrix product would pack the weights again for each call, and a loop
//! over rows would read them once for each. Threads split outputs only.

use std::borrow::Cow;
use std::ops::Range;

use super::activations::{ActivationBlock, Activations, BLOCK, Pair, quantize, resized, round_pairs};
use super::elementwise::gated_silu;
use super::instruction_set::dispatch;
use super::lanes::{LANES, Lanes};
use super::large_pages::with_capacity;
use super::panels::{
    Activation, Bf16Pairs, F32Row, PANEL, PanelBlock, Q4_0Block, Q4_1Block, Q8_0Block, Sums, multiply,
};
use super::shared::SharedMut;
use super::storage::Storage;
use super::{InstructionSet, ThreadPool};

/// Panels that all rows pass before the next ones are read: few enough to stay in the cache next to the processor.
const GROUP: usize = 2;
/// Pieces for each thread: enough of them that a late thread can be helped.
const PIECES: usize = 3;
/// Blocks of activations that are worth a piece of their own.
const QUANTIZED_BLOCKS: usize = 96;
/// As many activations in pairs.
const ROUNDED_PAIRS: usize = QUANTIZED_BLOCKS * BLOCK / 2;
/// Multiplications below which a second thread costs more than it saves.
const WORTH_SHARING: usize = 1 << 15;

/// A linear layer without bias.
#[derive(Debug)]
pub(crate) struct PackedLinear {
    inputs: usize,
    outputs: usize,
    weights: Weights,
    /// The first half of a panel is gate, the second up of the same outputs of a feed-forward layer.
    gated: bool,
}

/// Panel after panel; columns beyond the last output are zero.
#[derive(Debug)]
enum Weights {
    F32(Vec<F32Row>),
    Bf16(Vec<Bf16Pairs>),
    Q8_0(Vec<Q8_0Block>),
    Q4_0(Vec<Q4_0Block>),
    Q4_1(Vec<Q4_1Block>),
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
    input: Input<'a>,
    rows: usize,
    output: SharedMut<'a, f32>,
    finish: Finish,
}

/// `[rows, inputs]`, as the storage of the weights multiplies it.
enum Input<'a> {
    Values(&'a [f32]),
    Pairs(&'a [Pair]),
    Quantized(&'a [ActivationBlock]),
}

/// How a call computes, and its memory for inputs as the weights want them.
pub(crate) struct Compute<'a> {
    pub(crate) pool: &'a ThreadPool,
    pub(crate) set: InstructionSet,
    pub(crate) activations: &'a mut Activations,
}

impl PackedLinear {
    /// Packs rows of matrices that read the same input, one below the other, each row as `storage` writes it. There is room for `outputs`
    /// of them: with more the memory moves.
    pub(crate) fn stacked<'a>(
        storage: Storage,
        inputs: usize,
        outputs: usize,
        rows: impl Iterator<Item = Cow<'a, [u8]>>,
    ) -> Self {
        let mut packing = Packing::new(storage, inputs, outputs.div_ceil(PANEL));
        rows.for_each(|row| packing.push(row));
        Self { inputs, outputs: packing.rows, weights: packing.finish(), gated: false }
    }

    /// Packs gate and up, rows as `storage` writes them, for [`PackedLinear::gate`]. `outputs` as of [`PackedLinear::stacked`].
    pub(crate) fn gated<'a>(
        storage: Storage,
        inputs: usize,
        outputs: usize,
        gate: impl Iterator<Item = Cow<'a, [u8]>>,
        up: impl Iterator<Item = Cow<'a, [u8]>>,
    ) -> Self {
        let mut packing = Packing::new(storage, inputs, outputs.div_ceil(LANES));
        let mut pairs = gate.zip(up).peekable();
        let mut packed = 0;
        while pairs.peek().is_some() {
            let (gate, up): (Vec<_>, Vec<_>) = pairs.by_ref().take(LANES).unzip();
            packed += gate.len();
            packing.push_panel([&gate, &up]);
        }
        Self { inputs, outputs: packed, weights: packing.finish(), gated: true }
    }

    /// Number of outputs of a row; of a gated layer after gating.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// How its weights are stored.
    pub(crate) fn storage(&self) -> Storage {
        match self.weights {
            Weights::F32(_) => Storage::F32,
            Weights::Bf16(_) => Storage::Bf16,
            Weights::Q8_0(_) => Storage::Q8_0,
            Weights::Q4_0(_) => Storage::Q4_0,
            Weights::Q4_1(_) => Storage::Q4_1,
        }
    }

    /// Bytes of memory that its weights take.
    pub(crate) fn bytes(&self) -> usize {
        match &self.weights {
            Weights::F32(blocks) => size_of_val(&blocks[..]),
            Weights::Bf16(blocks) => size_of_val(&blocks[..]),
            Weights::Q8_0(blocks) => size_of_val(&blocks[..]),
            Weights::Q4_0(blocks) => size_of_val(&blocks[..]),
            Weights::Q4_1(blocks) => size_of_val(&blocks[..]),
        }
    }

    /// `output[rows, outputs] = input[rows, inputs] · weightsᵀ`.
    pub(crate) fn set(&self, compute: Compute<'_>, input: &[f32], output: &mut [f32]) {
        self.run(compute, input, output, Finish::Set);
    }

    /// `output += input · weightsᵀ`: each product is summed up from zero first, then added.
    pub(crate) fn add(&self, compute: Compute<'_>, input: &[f32], output: &mut [f32]) {
        self.run(compute, input, output, Finish::Add);
    }

    /// `output = silu(input · gateᵀ) * (input · upᵀ)`.
    pub(crate) fn gate(&self, compute: Compute<'_>, input: &[f32], output: &mut [f32]) {
        self.run(compute, input, output, Finish::Gate);
    }

    /// Weights to one output: a row of the matrix that was packed.
    pub(crate) fn copy_weights(&self, output: usize, weights: &mut [f32]) {
        match &self.weights {
            Weights::F32(blocks) => copy_weights(blocks, output, weights),
            Weights::Bf16(blocks) => copy_weights(blocks, output, weights),
            Weights::Q8_0(blocks) => copy_weights(blocks, output, weights),
            Weights::Q4_0(blocks) => copy_weights(blocks, output, weights),
            Weights::Q4_1(blocks) => copy_weights(blocks, output, weights),
        }
    }

    fn run(&self, compute: Compute<'_>, input: &[f32], output: &mut [f32], finish: Finish) {
        let rows = input.len() / self.inputs;
        assert!(input.len() == rows * self.inputs && output.len() == rows * self.outputs, "shapes of a linear layer");
        assert!(self.gated == (finish == Finish::Gate), "gated layers gate, others do not");
        let Compute { pool, set, activations } = compute;
        let input = match self.storage() {
            Storage::F32 => Input::Values(input),
            Storage::Bf16 => {
                let pairs = resized(&mut activations.pairs, rows * self.inputs.div_ceil(2));
                round_rows(pool, set, input, self.inputs, pairs);
                Input::Pairs(pairs)
            }
            Storage::Q8_0 | Storage::Q4_0 | Storage::Q4_1 => {
                let blocks = resized(&mut activations.blocks, input.len() / BLOCK);
                quantize_all(pool, set, input, blocks);
                Input::Quantized(blocks)
            }
        };
        let product = Product { layer: self, input, rows, output: SharedMut::new(output), finish };
        let panels = self.outputs.div_ceil(if self.gated { LANES } else { PANEL });
        let grain = grain(panels, rows * self.inputs * PANEL, pool.threads());
        pool.run(panels.div_ceil(grain), |piece| {
            let (product, panels) = (&product, piece * grain..panels.min((piece + 1) * grain));
            dispatch!(set, fn compute_panels(product: &Product<'_>, panels: Range<usize>));
        });
    }
}

/// Rounds rows of `inputs` values, each into pairs of its own.
fn round_rows(pool: &ThreadPool, set: InstructionSet, input: &[f32], inputs: usize, pairs: &mut [Pair]) {
    let length = inputs.div_ceil(2);
    let rows = ROUNDED_PAIRS.div_ceil(length);
    pool.run_chunks(pairs, rows * length, |index, pairs| {
        let input = input.chunks(inputs).skip(index * rows);
        input.zip(pairs.chunks_mut(length)).for_each(|(row, pairs)| round_pairs(set, row, pairs));
    });
}

fn quantize_all(pool: &ThreadPool, set: InstructionSet, input: &[f32], blocks: &mut [ActivationBlock]) {
    pool.run_chunks(blocks, QUANTIZED_BLOCKS, |index, blocks| {
        let first = index * QUANTIZED_BLOCKS * BLOCK;
        quantize(set, &input[first..first + blocks.len() * BLOCK], blocks);
    });
}

fn copy_weights<B: PanelBlock>(blocks: &[B], output: usize, weights: &mut [f32]) {
    let count = weights.len().div_ceil(B::INPUTS);
    let blocks = &blocks[output / B::OUTPUTS * count..][..count];
    let row = blocks.iter().flat_map(|block| block.weights(output % B::OUTPUTS));
    weights.iter_mut().zip(row).for_each(|(weight, packed)| *weight = packed);
}

/// A layer while it is packed.
struct Packing<'a> {
    storage: Storage,
    row_bytes: usize,
    /// Of the panel that is not full yet.
    pending: Vec<Cow<'a, [u8]>>,
    rows: usize,
    weights: Weights,
}

impl<'a> Packing<'a> {
    fn new(storage: Storage, inputs: usize, panels: usize) -> Self {
        assert!(inputs.is_multiple_of(storage.block_len()), "inputs of a layer are whole blocks");
        let weights = match storage {
            Storage::F32 => Weights::F32(room(panels, inputs)),
            Storage::Bf16 => Weights::Bf16(room(panels, inputs)),
            Storage::Q8_0 => Weights::Q8_0(room(panels, inputs)),
            Storage::Q4_0 => Weights::Q4_0(room(panels, inputs)),
            Storage::Q4_1 => Weights::Q4_1(room(panels, inputs)),
        };
        let row_bytes = inputs / storage.block_len() * storage.block_bytes();
        Self { storage, row_bytes, pending: Vec::new(), rows: 0, weights }
    }

    fn push(&mut self, row: Cow<'a, [u8]>) {
        self.rows += 1;
        self.pending.push(row);
        if self.pending.len() == PANEL {
            self.push_pending();
        }
    }

    fn push_pending(&mut self) {
        let rows = std::mem::take(&mut self.pending);
        let (first, second) = rows.split_at(LANES.min(rows.len()));
        self.push_panel([first, second]);
    }

    /// A panel of two times at most [`LANES`] rows.
    fn push_panel(&mut self, halves: [&[Cow<'a, [u8]>]; 2]) {
        let rows: [Option<&[u8]>; PANEL] =
            std::array::from_fn(|column| halves[column / LANES].get(column % LANES).map(AsRef::as_ref));
        assert!(rows.iter().flatten().all(|row| row.len() == self.row_bytes), "length of a stored row");
        let storage = self.storage;
        match &mut self.weights {
            Weights::F32(blocks) => pack(blocks, &rows, storage),
            Weights::Bf16(blocks) => pack(blocks, &rows, storage),
            Weights::Q8_0(blocks) => pack(blocks, &rows, storage),
            Weights::Q4_0(blocks) => pack(blocks, &rows, storage),
            Weights::Q4_1(blocks) => pack(blocks, &rows, storage),
        }
    }

    fn finish(mut self) -> Weights {
        if !self.pending.is_empty() {
            self.push_pending();
        }
        self.weights
    }
}

fn room<B: PanelBlock>(panels: usize, inputs: usize) -> Vec<B> {
    with_capacity(panels * B::STRIPS * inputs.div_ceil(B::INPUTS))
}

/// Appends a panel of stored rows.
fn pack<B: PanelBlock>(packed: &mut Vec<B>, rows: &[Option<&[u8]>; PANEL], storage: Storage) {
    let size = B::INPUTS / storage.block_len() * storage.block_bytes();
    let length = rows.iter().flatten().map(|row| row.len()).max().unwrap_or(0);
    for rows in rows.chunks(B::OUTPUTS) {
        packed.extend((0..length.div_ceil(size)).map(|block| {
            let bytes = block * size..length.min((block + 1) * size);
            let columns: Vec<_> = rows.iter().map(|row| row.map(|row| &row[bytes.clone()])).collect();
            B::pack(&columns)
        }));
    }
}

/// Panels per piece: few pieces, yet enough of them that a late thread can be helped; whole groups.
fn grain(panels: usize, multiplications_per_panel: usize, threads: usize) -> usize {
    let sharing = if threads == 1 { 1 } else { PIECES * threads };
    let worth = WORTH_SHARING.div_ceil(multiplications_per_panel);
    panels.div_ceil(sharing).max(worth).next_multiple_of(GROUP)
}

#[inline(always)]
fn compute_panels<L: Lanes>(product: &Product<'_>, panels: Range<usize>) {
    match (&product.layer.weights, &product.input) {
        (Weights::F32(weights), Input::Values(rows)) => product.panels::<L, _>(weights, rows, panels),
        (Weights::Bf16(weights), Input::Pairs(rows)) => product.panels::<L, _>(weights, rows, panels),
        (Weights::Q8_0(weights), Input::Quantized(rows)) => product.panels::<L, _>(weights, rows, panels),
        (Weights::Q4_0(weights), Input::Quantized(rows)) => product.panels::<L, _>(weights, rows, panels),
        (Weights::Q4_1(weights), Input::Quantized(rows)) => product.panels::<L, _>(weights, rows, panels),
        _ => unreachable!("the input is made for the storage"),
    }
}

impl Product<'_> {
    /// All rows for some panels.
    #[inline(always)]
    fn panels<L: Lanes, B: PanelBlock>(&self, weights: &[B], rows: &[B::Activation], panels: Range<usize>) {
        let mut panel = panels.start;
        while panel < panels.end {
            let group = panel..panels.end.min(panel + GROUP);
            let mut tiles = self.rows.div_ceil(B::Activation::tile_rows::<L>().min(B::MOST_ROWS));
            let mut row = 0;
            while row < self.rows {
                let height = (self.rows - row).div_ceil(tiles);
                self.tiles::<L, B>(weights, rows, row..row + height, group.clone());
                row += height;
                tiles -= 1;
            }
            panel = group.end;
        }
    }

    /// Some rows for some panels.
    #[inline(always)]
    fn tiles<L: Lanes, B: PanelBlock>(
        &self,
        weights: &[B],
        rows: &[B::Activation],
        tile: Range<usize>,
        panels: Range<usize>,
    ) {
        match tile.len() {
            1 => self.tiles_of::<L, B, 1>(weights, rows, tile.start, panels),
            2 => self.tiles_of::<L, B, 2>(weights, rows, tile.start, panels),
            3 => self.tiles_of::<L, B, 3>(weights, rows, tile.start, panels),
            4 => self.tiles_of::<L, B, 4>(weights, rows, tile.start, panels),
            5 => self.tiles_of::<L, B, 5>(weights, rows, tile.start, panels),
            6 => self.tiles_of::<L, B, 6>(weights, rows, tile.start, panels),
            7 => self.tiles_of::<L, B, 7>(weights, rows, tile.start, panels),
            _ => self.tiles_of::<L, B, 8>(weights, rows, tile.start, panels),
        }
    }

    #[inline(always)]
    fn tiles_of<L: Lanes, B: PanelBlock, const ROWS: usize>(
        &self,
        weights: &[B],
        rows: &[B::Activation],
        row: usize,
        panels: Range<usize>,
    ) {
        let mut panel = panels.start;
        while B::Activation::has_room_for_two::<L>(ROWS) && panel + 2 <= panels.end {
            self.tile::<L, B, ROWS, 2>(weights, rows, row, panel);
            panel += 2;
        }
        for panel in panel..panels.end {
            self.tile::<L, B, ROWS, 1>(weights, rows, row, panel);
        }
    }

    #[inline(always)]
    fn tile<L: Lanes, B: PanelBlock, const ROWS: usize, const PANELS: usize>(
        &self,
        weights: &[B],
        rows: &[B::Activation],
        row: usize,
        first: usize,
    ) {
        let blocks = self.layer.inputs.div_ceil(B::INPUTS);
        let rows = &rows[row * blocks..(row + ROWS) * blocks];
        let panels = &weights[first * B::STRIPS * blocks..(first + PANELS) * B::STRIPS * blocks];
        let sums = multiply::<L, B, ROWS, PANELS>(blocks, rows, panels);
        for (panel, sums) in (first..).zip(&sums) {
            for (row, sums) in (row..).zip(sums) {
                self.finish(row, panel, *sums);
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
