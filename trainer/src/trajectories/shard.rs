//! One shard: its content in memory, its bytes on disk.

use std::fs;
use std::ops::Add;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::model_folder::{Stored, write_safetensors};
use crate::run_state::checksum;

const VERSION: u32 = 1;
const METADATA_KEY: &str = "cllm";

/// A usable generation with the trajectories of its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrajectoryExample {
    /// Line of the data set, from 0.
    pub index: u32,
    /// Prompt and generation, end marker included.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_len: usize,
    /// In the order of their positions.
    pub blocks: Vec<cllm_engine::JacobiTrajectory>,
}

/// What a shard is, as JSON in its metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardMetadata {
    /// Of this format.
    pub version: u32,
    /// Digest of the checkpoint that generated.
    pub model: String,
    /// Everything else that decides over the content of all shards.
    pub settings: Value,
    /// Which shard, from 0.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
    /// What is in it.
    pub counts: Counts,
    /// Over all tensors.
    pub checksum: String,
}

/// What was collected and what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Usable generations.
    pub examples: u64,
    /// Their blocks.
    pub blocks: u64,
    /// States of these blocks.
    pub states: u64,
    /// Generated tokens.
    pub tokens: u64,
    /// Forwards that these tokens took.
    pub forwards: u64,
    /// Generations that ended at once.
    pub dropped_empty: u64,
    /// Generations that did not end.
    pub dropped_truncated: u64,
    /// Generations that repeat themselves.
    pub dropped_degenerate: u64,
    /// Prompts that do not fit the context.
    pub dropped_too_long: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            examples: self.examples + other.examples,
            blocks: self.blocks + other.blocks,
            states: self.states + other.states,
            tokens: self.tokens + other.tokens,
            forwards: self.forwards + other.forwards,
            dropped_empty: self.dropped_empty + other.dropped_empty,
            dropped_truncated: self.dropped_truncated + other.dropped_truncated,
            dropped_degenerate: self.dropped_degenerate + other.dropped_degenerate,
            dropped_too_long: self.dropped_too_long + other.dropped_too_long,
        }
    }
}

impl Counts {
    /// All that was left out.
    pub fn dropped(&self) -> u64 {
        self.dropped_empty + self.dropped_truncated + self.dropped_degenerate + self.dropped_too_long
    }

    /// Of the usable generations.
    pub fn tokens_per_forward(&self) -> f64 {
        if self.forwards == 0 { 1.0 } else { self.tokens as f64 / self.forwards as f64 }
    }
}

/// Where a shard lies in its folder.
pub fn shard_path(folder: &Path, shard: u32, shards: u32) -> PathBuf {
    folder.join(format!("shard-{shard:05}-of-{shards:05}.safetensors"))
}

/// Writes a shard. It appears when it is complete; its checksum is filled in.
pub fn write_shard(path: &Path, examples: &[TrajectoryExample], mut metadata: ShardMetadata) -> Result<()> {
    let tensors: Vec<(String, Stored)> =
        columns(examples).into_iter().map(|(name, values)| (name.to_owned(), Stored::from_u32(&values))).collect();
    metadata.version = VERSION;
    metadata.checksum = checksum(tensors.iter().map(|(name, stored)| (name.as_str(), stored.bytes())));
    let text = serde_json::to_string(&metadata).map_err(Failure::engine)?;
    write_safetensors(path, tensors, METADATA_KEY, text)
}

/// The columns in the order of their names.
fn columns(examples: &[TrajectoryExample]) -> Vec<(&'static str, Vec<u32>)> {
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

/// All examples of a folder, shard by shard, and what the shards say about themselves. Fails where a shard is missing or damaged.
pub fn read_all(folder: &Path) -> Result<(Vec<TrajectoryExample>, Vec<ShardMetadata>)> {
    let names = fs::read_dir(folder).map_err(Failure::read(folder))?;
    let mut paths: Vec<PathBuf> =
        names.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_shard(path)).collect();
    paths.sort();
    let (mut examples, mut shards) = (Vec::new(), Vec::new());
    for path in &paths {
        let (metadata, part) = read_shard(path)?;
        examples.extend(part);
        shards.push(metadata);
    }
    check_complete(folder, &shards)?;
    Ok((examples, shards))
}

fn is_shard(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("shard-") && name.ends_with(".safetensors")
}

fn check_complete(folder: &Path, shards: &[ShardMetadata]) -> Result<()> {
    let Some(first) = shards.first() else {
        return Err(Failure::BadInput(format!("{} holds no trajectories; run `collect` first", folder.display())));
    };
    let fits = |(index, shard): (usize, &ShardMetadata)| {
        shard.shard == index as u32
            && shard.shards == first.shards
            && shard.settings == first.settings
            && shard.model == first.model
    };
    if shards.len() != first.shards as usize || !shards.iter().enumerate().all(fits) {
        return Err(Failure::BadInput(format!(
            "{} holds {} shards, which are not the {} shards of one collection; remove those of others and run `collect` again",
            folder.display(),
            shards.len(),
            first.shards
        )));
    }
    Ok(())
}

/// Reads a shard and checks it.
pub fn read_shard(path: &Path) -> Result<(ShardMetadata, Vec<TrajectoryExample>)> {
    let bytes = fs::read(path).map_err(Failure::read(path))?;
    parse(&bytes).map_err(|problem| {
        Failure::BadInput(format!("{} is damaged: {problem}; remove it and run `collect` again", path.display()))
    })
}

fn parse(bytes: &[u8]) -> std::result::Result<(ShardMetadata, Vec<TrajectoryExample>), String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let text =
        header.metadata().as_ref().and_then(|map| map.get(METADATA_KEY)).ok_or("it is not a shard of trajectories")?;
    let metadata: ShardMetadata = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if metadata.version != VERSION {
        return Err(format!("it has version {}, this program reads version {VERSION}", metadata.version));
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut named: Vec<_> = tensors.iter().map(|(name, view)| (name, view.data())).collect();
    named.sort_by(|a, b| a.0.cmp(b.0));
    if checksum(named.into_iter()) != metadata.checksum {
        return Err("its checksum does not fit its content".to_owned());
    }
    let column = |name: &str| -> std::result::Result<Vec<u32>, String> {
        let view = tensors.tensor(name).map_err(|error| error.to_string())?;
        Ok(view.data().as_chunks().0.iter().map(|&value| u32::from_le_bytes(value)).collect())
    };
    let examples = assemble(&column)?;
    Ok((metadata, examples))
}

/// Splits the columns into examples. Lengths are checked although a checksum fits: the writer may have been another program.
fn assemble(
    column: &dyn Fn(&str) -> std::result::Result<Vec<u32>, String>,
) -> std::result::Result<Vec<TrajectoryExample>, String> {
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
            let states = (0..count).map(|_| states.take(len as usize)).collect::<std::result::Result<_, _>>()?;
            example.blocks.push(cllm_engine::JacobiTrajectory { position: position as usize, states });
        }
        (token_start, block_start) = (token_end, block_end);
        check_example(&example)?;
        examples.push(example);
    }
    Ok(examples)
}

fn value_row<const N: usize>(columns: &[Vec<u32>; N], row: usize) -> std::result::Result<[u32; N], String> {
    let mut values = [0; N];
    for (value, column) in values.iter_mut().zip(columns) {
        *value = *column.get(row).ok_or("its columns have different lengths")?;
    }
    Ok(values)
}

fn between(start: u32, end: u32) -> std::result::Result<usize, String> {
    end.checked_sub(start).map(|len| len as usize).ok_or_else(|| "its ends are not in order".to_owned())
}

/// A block's fixed point is what was generated there.
fn check_example(example: &TrajectoryExample) -> std::result::Result<(), String> {
    let generated = example.tokens.get(example.prompt_len..).filter(|_| example.prompt_len > 0);
    let generated = generated.ok_or("an example has a prompt longer than itself, or none")?;
    let fits = |block: &cllm_engine::JacobiTrajectory| {
        block
            .states
            .last()
            .is_some_and(|last| generated.get(block.position..).is_some_and(|rest| rest.starts_with(last)))
    };
    if example.blocks.iter().all(fits) { Ok(()) } else { Err("a block does not fit its generation".to_owned()) }
}

struct Taker<'a>(&'a [u32]);

impl Taker<'_> {
    fn take(&mut self, len: usize) -> std::result::Result<Vec<u32>, String> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("it ends early")?;
        self.0 = rest;
        Ok(taken.to_vec())
    }
}
