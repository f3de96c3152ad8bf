//! Parts of a shard that is being collected: what became of some of its prompts, for a process that goes on after this one.
//!
//! `part-00001-of-00004-00000012.safetensors` is the thirteenth of shard 1. It has the columns of a shard, and of every prompt that is
//! done, dropped ones included:
//!
//! | tensor | content |
//! | --- | --- |
//! | `prompt_indexes` | line of the data set, from 0 |
//! | `prompt_outcomes` | 0: the next of the examples; else a number for the reason why there is none |
//! | `prompt_forwards` | forwards that the tokens of an example took |
//!
//! The metadata key `cllm` holds JSON with the origin of the part and a checksum over it and all tensors.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::columns::{self, ColumnFile, Parsed, value_row};
use super::{DropReason, Outcome, TrajectoryExample};
use crate::failure::{Failure, Result};
use crate::storage;

const VERSION: u32 = 1;
/// Numbered from 1; more may be added at the end.
const REASONS: [DropReason; 4] =
    [DropReason::Empty, DropReason::Truncated, DropReason::Degenerate, DropReason::TooLong];

/// What a part comes from: it is of use to nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Digest of the checkpoint that generates.
    pub model: String,
    /// Everything else that decides over the content of all shards.
    pub settings: Value,
    /// Which shard, from 0.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    origin: Origin,
    checksum: String,
}

impl Origin {
    /// What the names of all parts begin with.
    fn prefix(&self) -> String {
        format!("part-{:05}-of-{:05}-", self.shard, self.shards)
    }

    /// Where a part of this shard lies.
    pub fn part_path(&self, folder: &Path, number: u32) -> PathBuf {
        folder.join(format!("{}{number:08}.safetensors", self.prefix()))
    }

    /// The parts of this shard that are there, by their numbers.
    pub fn parts(&self, folder: &Path) -> Result<Vec<(u32, PathBuf)>> {
        let prefix = self.prefix();
        let number = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(".safetensors")?.parse::<u32>().ok();
        let mut parts: Vec<(u32, PathBuf)> =
            names(folder)?.into_iter().filter_map(|name| Some((number(&name)?, folder.join(name)))).collect();
        parts.sort();
        Ok(parts)
    }

    /// Removes the parts of this shard, and what killed processes left of some.
    pub fn remove_parts(&self, folder: &Path) -> Result<()> {
        let prefix = self.prefix();
        for name in names(folder)?.into_iter().filter(|name| name.starts_with(&prefix)) {
            storage::remove(&folder.join(name))?;
        }
        storage::remove_unfinished(folder, &prefix)
    }

    /// Over this and over columns with this checksum.
    fn checksum(&self, columns: &str) -> serde_json::Result<String> {
        let origin = serde_json::to_string(self)?;
        Ok(columns::checksum_with(columns, "origin", &origin))
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(Failure::read(folder))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// Writes a part. It appears when it is complete.
pub fn write_part(path: &Path, outcomes: &[Outcome], origin: &Origin) -> Result<()> {
    let examples: Vec<&TrajectoryExample> = outcomes.iter().filter_map(Outcome::example).collect();
    let mut columns = columns::of_examples(&examples);
    let column = |value: fn(&Outcome) -> u32| outcomes.iter().map(value).collect::<Vec<_>>();
    columns.extend([
        ("prompt_indexes", column(Outcome::index)),
        ("prompt_outcomes", column(number)),
        ("prompt_forwards", column(forwards)),
    ]);
    columns::write(path, columns, |checksum| {
        let checksum = origin.checksum(&checksum)?;
        serde_json::to_string(&Metadata { version: VERSION, origin: origin.clone(), checksum })
    })
}

fn number(outcome: &Outcome) -> u32 {
    match outcome {
        Outcome::Kept { .. } => 0,
        Outcome::Dropped { reason, .. } => {
            REASONS.iter().zip(1..).find_map(|(known, number)| (known == reason).then_some(number)).unwrap_or(u32::MAX)
        }
    }
}

fn forwards(outcome: &Outcome) -> u32 {
    match outcome {
        Outcome::Kept { forwards, .. } => *forwards,
        Outcome::Dropped { .. } => 0,
    }
}

/// Reads a part and checks it.
pub fn read_part(path: &Path) -> Result<(Origin, Vec<Outcome>)> {
    let bytes = fs::read(path).map_err(Failure::read(path))?;
    parse(&bytes).map_err(|problem| Failure::BadInput(format!("{} is damaged: {problem}", path.display())))
}

fn parse(bytes: &[u8]) -> Parsed<(Origin, Vec<Outcome>)> {
    let file = ColumnFile::parse(bytes)?;
    let Metadata { version, origin, checksum } = serde_json::from_str(&file.note).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it has version {version}, this program reads version {VERSION}"));
    }
    if origin.checksum(&file.checksum()).map_err(|error| error.to_string())? != checksum {
        return Err("its checksum does not fit its content".to_owned());
    }
    let columns = [file.column("prompt_indexes")?, file.column("prompt_outcomes")?, file.column("prompt_forwards")?];
    let mut examples = file.examples()?.into_iter();
    let mut outcomes = Vec::with_capacity(columns[0].len());
    for row in 0..columns[0].len() {
        let [index, number, forwards] = value_row(&columns, row)?;
        outcomes.push(match number.checked_sub(1) {
            None => {
                let example = examples.next().filter(|example| example.index == index);
                Outcome::Kept { example: example.ok_or("its examples are not those of its prompts")?, forwards }
            }
            Some(place) => {
                let reason = *REASONS.get(place as usize).ok_or("it has a reason that this program does not know")?;
                Outcome::Dropped { index, reason }
            }
        });
    }
    Ok((origin, outcomes))
}

#[cfg(test)]
mod tests {
    use cllm_engine::JacobiTrajectory;
    use serde_json::json;

    use super::*;

    fn origin() -> Origin {
        let settings = json!({"seed": 7, "max_examples": null});
        Origin { model: "sha256:a".to_owned(), settings, shard: 1, shards: 4 }
    }

    fn outcomes() -> Vec<Outcome> {
        let kept = |index: u32| Outcome::Kept {
            example: TrajectoryExample {
                index,
                tokens: vec![50, index, 1, 2, 0],
                prompt_len: 2,
                blocks: vec![JacobiTrajectory { position: 0, states: vec![vec![9, 9, 9], vec![1, 2, 0]] }],
            },
            forwards: 2 + index,
        };
        let dropped = REASONS.into_iter().zip(10..).map(|(reason, index)| Outcome::Dropped { index, reason });
        [kept(3), kept(1)].into_iter().chain(dropped).chain([kept(2)]).collect()
    }

    #[test]
    fn parts_give_back_what_was_put_in() {
        let folder = tempfile::tempdir().unwrap();
        for (number, outcomes) in [(0, outcomes()), (12, outcomes()[2..4].to_vec())] {
            let path = origin().part_path(folder.path(), number);
            write_part(&path, &outcomes, &origin()).unwrap();
            assert_eq!(read_part(&path).unwrap(), (origin(), outcomes));
        }
        let other = Origin { shard: 2, ..origin() };
        write_part(&other.part_path(folder.path(), 5), &outcomes(), &other).unwrap();
        fs::create_dir(folder.path().join(".part-00001-of-00004-00000013.safetensors.partial")).unwrap();
        let numbers = |origin: &Origin| -> Vec<u32> {
            origin.parts(folder.path()).unwrap().into_iter().map(|(number, _)| number).collect()
        };
        assert_eq!((numbers(&origin()), numbers(&other)), (vec![0, 12], vec![5]));
        origin().remove_parts(folder.path()).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["part-00002-of-00004-00000005.safetensors"]);
    }

    #[test]
    fn a_part_with_any_other_bit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        write_part(&path, &outcomes(), &origin()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            // a name of a number type, or spaces that fill up the header, say nothing
            if let Ok(found) = parse(&damaged) {
                assert_eq!(found, (origin(), outcomes()), "byte {place}");
            }
        }
        for length in [0, 8, bytes.len() / 2, bytes.len() - 1] {
            assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
        }
        let values = bytes.len() - 4;
        let mut damaged = bytes;
        damaged[values] ^= 1;
        assert!(parse(&damaged).unwrap_err().contains("checksum"));
    }
}
