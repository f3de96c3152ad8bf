//! Columns of numbers in a safetensors file with a note, and how examples lie in them.

use std::path::Path;

use cllm_engine::JacobiTrajectory;
use safetensors::SafeTensors;

use super::TrajectoryExample;
use crate::failure::{Failure, Result};
use crate::model_folder::{Stored, write_safetensors};
use crate::run_state::checksum;

const METADATA_KEY: &str = "cllm";

/// What was read, or what is wrong with it.
pub(super) type Parsed<T> = std::result::Result<T, String>;

/// A name, and the values.
pub(super) type Column = (&'static str, Vec<u32>);

/// Columns of examples outside of files of their own, in the order of their names.
pub(crate) type NamedColumns = Vec<(String, Vec<u32>)>;

/// The columns of examples for another file, or for another process.
pub(crate) fn to_columns(examples: &[&TrajectoryExample]) -> NamedColumns {
    let mut columns = of_examples(examples);
    columns.sort_unstable_by_key(|(name, _)| *name);
    columns.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}

/// The examples of [`to_columns`]; none where there are no columns.
pub(crate) fn from_columns(columns: &NamedColumns) -> std::result::Result<Vec<TrajectoryExample>, String> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    assemble(&|name| {
        let found = columns.iter().find(|(found, _)| found == name);
        found.map(|(_, values)| values.clone()).ok_or_else(|| format!("it has no column {name}"))
    })
}

/// Writes columns with the note that `note` makes of their checksum. The file appears when it is complete.
pub(super) fn write(
    path: &Path,
    mut columns: Vec<Column>,
    note: impl FnOnce(String) -> serde_json::Result<String>,
) -> Result<()> {
    columns.sort_unstable_by_key(|(name, _)| *name);
    let tensors: Vec<(String, Stored)> =
        columns.into_iter().map(|(name, values)| (name.to_owned(), Stored::from_u32(&values))).collect();
    let checksum = checksum(tensors.iter().map(|(name, stored)| (name.as_str(), stored.bytes())));
    write_safetensors(path, tensors, METADATA_KEY, note(checksum).map_err(Failure::engine)?)
}

/// Over columns with this checksum, and over a text with a name that goes with them.
pub(super) fn checksum_with(columns: &str, name: &str, text: &str) -> String {
    checksum([("columns", columns.as_bytes()), (name, text.as_bytes())].into_iter())
}

/// The columns of examples.
pub(super) fn of_examples(examples: &[&TrajectoryExample]) -> Vec<Column> {
    let blocks = || examples.iter().flat_map(|example| &example.blocks);
    let ends = |lens: &mut dyn Iterator<Item = usize>| -> Vec<u32> {
        lens.scan(0, |end, len| {
            *end += len as u32;
            Some(*end)
        })
        .collect()
    };
    vec![
        ("block_ends", ends(&mut examples.iter().map(|example| example.blocks.len()))),
        ("block_lens", blocks().map(|block| block.states.last().map_or(0, Vec::len) as u32).collect()),
        ("block_positions", blocks().map(|block| block.position as u32).collect()),
        ("example_indexes", examples.iter().map(|example| example.index).collect()),
        ("prompt_lens", examples.iter().map(|example| example.prompt_len as u32).collect()),
        ("state_counts", blocks().map(|block| block.states.len() as u32).collect()),
        ("states", blocks().flat_map(|block| block.states.iter().flatten().copied()).collect()),
        ("token_ends", ends(&mut examples.iter().map(|example| example.tokens.len()))),
        ("tokens", examples.iter().flat_map(|example| example.tokens.iter().copied()).collect()),
    ]
}

/// A file of columns.
pub(super) struct ColumnFile<'a> {
    /// Not checked yet.
    pub(super) note: String,
    tensors: SafeTensors<'a>,
}

impl<'a> ColumnFile<'a> {
    /// From the bytes of the file.
    pub(super) fn parse(bytes: &'a [u8]) -> Parsed<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let note = header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY));
        let note = note.ok_or("it holds no trajectories")?.clone();
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        Ok(Self { note, tensors })
    }

    /// Over all columns.
    pub(super) fn checksum(&self) -> String {
        let mut named: Vec<_> = self.tensors.iter().map(|(name, view)| (name, view.data())).collect();
        named.sort_by(|a, b| a.0.cmp(b.0));
        checksum(named.into_iter())
    }

    /// The values of one of them.
    pub(super) fn column(&self, name: &str) -> Parsed<Vec<u32>> {
        let view = self.tensors.tensor(name).map_err(|error| error.to_string())?;
        Ok(u32_values(view.data()))
    }

    /// The examples that lie in them.
    pub(super) fn examples(&self) -> Parsed<Vec<TrajectoryExample>> {
        assemble(&|name| self.column(name))
    }
}

/// The values of a column, little endian.
pub(crate) fn u32_values(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|&value| u32::from_le_bytes(value)).collect()
}

/// Splits the columns into examples. Lengths are checked although a checksum fits: the writer may have been another program.
fn assemble(column: &dyn Fn(&str) -> Parsed<Vec<u32>>) -> Parsed<Vec<TrajectoryExample>> {
    let (tokens, states) = (column("tokens")?, column("states")?);
    let (mut tokens, mut states) = (Taker(&tokens), Taker(&states));
    let blocks = [column("block_positions")?, column("block_lens")?, column("state_counts")?];
    let mut blocks_taken = 0;
    let mut examples = Vec::new();
    let (mut token_start, mut block_start) = (0, 0);
    let columns = [column("example_indexes")?, column("prompt_lens")?, column("token_ends")?, column("block_ends")?];
    for row in 0..columns[0].len() {
        let [index, prompt_len, token_end, block_end] = value_row(&columns, row)?;
        let mut example = TrajectoryExample {
            index,
            tokens: tokens.take(between(token_start, token_end)?)?,
            prompt_len: prompt_len as usize,
            blocks: Vec::new(),
        };
        for _ in 0..between(block_start, block_end)? {
            let [position, len, count] = value_row(&blocks, blocks_taken)?;
            blocks_taken += 1;
            let states = (0..count).map(|_| states.take(len as usize)).collect::<Parsed<_>>()?;
            example.blocks.push(JacobiTrajectory { position: position as usize, states });
        }
        (token_start, block_start) = (token_end, block_end);
        check_example(&example)?;
        examples.push(example);
    }
    Ok(examples)
}

/// The values of one row.
pub(super) fn value_row<const N: usize>(columns: &[Vec<u32>; N], row: usize) -> Parsed<[u32; N]> {
    let mut values = [0; N];
    for (value, column) in values.iter_mut().zip(columns) {
        *value = *column.get(row).ok_or("its columns have different lengths")?;
    }
    Ok(values)
}

fn between(start: u32, end: u32) -> Parsed<usize> {
    end.checked_sub(start).map(|len| len as usize).ok_or_else(|| "its ends are not in order".to_owned())
}

/// A block's fixed point is what was generated there.
fn check_example(example: &TrajectoryExample) -> Parsed<()> {
    let generated = example.tokens.get(example.prompt_len..).filter(|_| example.prompt_len > 0);
    let generated = generated.ok_or("an example has a prompt longer than itself, or none")?;
    let fits = |block: &JacobiTrajectory| {
        block
            .states
            .last()
            .is_some_and(|last| generated.get(block.position..).is_some_and(|rest| rest.starts_with(last)))
    };
    if example.blocks.iter().all(fits) { Ok(()) } else { Err("a block does not fit its generation".to_owned()) }
}

struct Taker<'a>(&'a [u32]);

impl Taker<'_> {
    fn take(&mut self, len: usize) -> Parsed<Vec<u32>> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends early")?;
        self.0 = rest;
        Ok(taken.to_vec())
    }
}
