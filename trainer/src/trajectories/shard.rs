//! One shard: its content in memory, its bytes on disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Counts;
use super::columns::{self, ColumnFile, Parsed};
use crate::failure::{Failure, Result};

/// In version 1, which is still read, the checksum was over the tensors alone.
const VERSION: u32 = 2;
/// The part of a checksum that is over the metadata as they are written, but for an empty checksum.
const METADATA: &str = "metadata";

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
    /// Over all of this and all tensors.
    pub checksum: String,
}

/// Where a shard lies in its folder.
pub fn shard_path(folder: &Path, shard: u32, shards: u32) -> PathBuf {
    folder.join(format!("shard-{shard:05}-of-{shards:05}.safetensors"))
}

/// Writes a shard. It appears when it is complete; its checksum is filled in.
pub fn write_shard(path: &Path, examples: &[&TrajectoryExample], mut metadata: ShardMetadata) -> Result<()> {
    columns::write(path, columns::of_examples(examples), |columns| {
        (metadata.version, metadata.checksum) = (VERSION, String::new());
        metadata.checksum = columns::checksum_with(&columns, METADATA, &serde_json::to_string(&metadata)?);
        serde_json::to_string(&metadata)
    })
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

fn parse(bytes: &[u8]) -> Parsed<(ShardMetadata, Vec<TrajectoryExample>)> {
    let file = ColumnFile::parse(bytes)?;
    let metadata: ShardMetadata = serde_json::from_str(&file.note).map_err(|error| error.to_string())?;
    let found = match metadata.version {
        1 => file.checksum(),
        VERSION => columns::checksum_with(&file.checksum(), METADATA, &file.note.replacen(&metadata.checksum, "", 1)),
        other => return Err(format!("it has version {other}, and this program reads up to version {VERSION}")),
    };
    if found != metadata.checksum {
        return Err("its checksum does not fit its content".to_owned());
    }
    let examples = file.examples()?;
    Ok((metadata, examples))
}

#[cfg(test)]
mod tests {
    use cllm_engine::JacobiTrajectory;
    use serde_json::json;

    use super::*;

    fn examples() -> Vec<TrajectoryExample> {
        let blocks = vec![JacobiTrajectory { position: 0, states: vec![vec![9, 9, 9], vec![1, 2, 0]] }];
        (3..6)
            .map(|index| TrajectoryExample {
                index,
                tokens: vec![50, index, 1, 2, 0],
                prompt_len: 2,
                blocks: blocks.clone(),
            })
            .collect()
    }

    fn metadata() -> ShardMetadata {
        let settings = json!({"seed": 7, "block_size": 16, "max_examples": null});
        let counts = Counts { examples: 3, blocks: 3, ..Counts::default() };
        ShardMetadata {
            version: 0,
            model: "sha256:a".to_owned(),
            settings,
            shard: 1,
            shards: 4,
            counts,
            checksum: String::new(),
        }
    }

    fn written(path: &Path) -> Vec<u8> {
        write_shard(path, &examples().iter().collect::<Vec<_>>(), metadata()).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn a_shard_with_any_other_bit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = written(&folder.path().join("shard"));
        let whole = parse(&bytes).unwrap();
        assert_eq!((&whole.1, &whole.0.settings), (&examples(), &metadata().settings));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            // a name of a number type, or spaces that fill up the header, say nothing
            if let Ok(found) = parse(&damaged) {
                assert_eq!(found, whole, "byte {place}");
            }
        }
    }

    #[test]
    fn shards_of_version_1_are_read_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        let write = |columns_checksum: fn(String) -> String| {
            columns::write(&path, columns::of_examples(&examples().iter().collect::<Vec<_>>()), |checksum| {
                serde_json::to_string(&ShardMetadata { version: 1, checksum: columns_checksum(checksum), ..metadata() })
            })
            .unwrap();
            read_shard(&path)
        };
        assert_eq!(write(|checksum| checksum).unwrap().1, examples());
        let refused = write(|_| "sha256:b".to_owned()).unwrap_err().to_string();
        assert!(refused.contains("checksum"), "{refused}");
    }
}
