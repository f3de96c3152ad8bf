//! One shard after the other, each from what is there of it to its file.

use std::path::Path;
use std::time::Duration;

use cllm_engine::Model;

use super::CollectArguments;
use super::decoding::{Decoding, Prompt};
use super::division::Division;
use super::ledger::{Ledger, Pace, foreign};
use crate::failure::Result;
use crate::progress::Reporter;
use crate::storage::FolderLock;
use crate::trajectories::{Counts, Origin, Outcome, ShardMetadata, read_shard, shard_path, write_shard};

/// What all shards are collected with.
pub(super) struct Collector<'a> {
    pub(super) arguments: &'a CollectArguments,
    /// Digest of the checkpoint.
    pub(super) digest: String,
    /// What else decides over the content of all shards.
    pub(super) settings: serde_json::Value,
    /// Of all shards.
    pub(super) prompts: Vec<Prompt>,
    pub(super) model: Model,
    pub(super) division: Division,
    pub(super) reporter: &'a mut Reporter,
}

impl Collector<'_> {
    /// Collects a shard, unless it is complete already. What this process generated is added to `pace`.
    pub(super) fn shard(&mut self, shard: u32, pace: &mut Pace) -> Result<Counts> {
        let (folder, shards) = (&self.arguments.output, self.arguments.shards);
        let _lock = FolderLock::take_named(folder, &format!(".lock-{shard:05}"))?;
        let origin = Origin { model: self.digest.clone(), settings: self.settings.clone(), shard, shards };
        let path = shard_path(folder, shard, shards);
        let counts = match self.complete(&path, &origin)? {
            Some(counts) => counts,
            None => self.collect(&path, &origin, pace)?,
        };
        origin.remove_parts(folder)?;
        Ok(counts)
    }

    /// What is in a shard that is there and valid.
    fn complete(&self, path: &Path, origin: &Origin) -> Result<Option<Counts>> {
        if !path.exists() {
            return Ok(None);
        }
        match read_shard(path) {
            Ok((found, _)) => {
                let ShardMetadata { model, settings, shard, shards, counts, .. } = found;
                let found = Origin { model, settings, shard, shards };
                if found.model != origin.model || found.settings != origin.settings {
                    return Err(foreign(path, &found, origin));
                }
                self.reporter.note(&format!("{} is complete already", path.display()));
                Ok(Some(counts))
            }
            Err(problem) => {
                self.reporter.note(&format!("{problem}: collecting it again"));
                Ok(None)
            }
        }
    }

    /// Answers the prompts that no part has the answers of, and writes the shard.
    fn collect(&mut self, path: &Path, origin: &Origin, pace: &mut Pace) -> Result<Counts> {
        let CollectArguments { output, checkpoint_every_seconds, .. } = self.arguments;
        let of_shard: Vec<&Prompt> =
            self.prompts.iter().skip(origin.shard as usize).step_by(origin.shards as usize).collect();
        let interval = Duration::from_secs(*checkpoint_every_seconds);
        let interruption = self.reporter.interruption();
        let (mut ledger, left) = Ledger::open(output, origin, interval, &of_shard, self.reporter)?;
        let decoding = Decoding {
            model: &self.model,
            division: self.division,
            prompts: &left,
            block_size: self.arguments.block_size,
            seed: self.arguments.seed,
            interruption,
        };
        if let Err(failure) = decoding.run(&mut ledger) {
            ledger.save()?;
            return Err(failure);
        }
        let (outcomes, counts, own) = ledger.into_outcomes();
        let examples: Vec<_> = outcomes.iter().filter_map(Outcome::example).collect();
        write_shard(path, &examples, metadata(origin, counts))?;
        self.reporter.note(&described(path, &counts, own));
        *pace = Pace { tokens: pace.tokens + own.tokens, seconds: pace.seconds + own.seconds };
        Ok(counts)
    }
}

/// Version and checksum are filled in when it is written.
fn metadata(origin: &Origin, counts: Counts) -> ShardMetadata {
    let Origin { model, settings, shard, shards } = origin.clone();
    ShardMetadata { version: 0, model, settings, shard, shards, counts, checksum: String::new() }
}

/// A shard that was written, in a line.
fn described(path: &Path, counts: &Counts, pace: Pace) -> String {
    let rate = pace.tokens_per_second().map_or_else(String::new, |rate| format!(", {rate:.1} tokens/s"));
    format!(
        "{}: {} examples; dropped: {} empty, {} not ended, {} repeating themselves, {} too long{rate}",
        path.display(),
        counts.examples,
        counts.dropped_empty,
        counts.dropped_truncated,
        counts.dropped_degenerate,
        counts.dropped_too_long
    )
}
