//! Reads and writes data sets as `.jsonl.gz`, the same bytes for the same pairs.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};

use crate::pairs::Pair;

/// A line of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The question and a line break.
    pub prompt: String,
    /// The query.
    pub completion: String,
    /// Where the pair comes from; not used in training.
    #[serde(default)]
    pub intent: String,
}

/// Writes a data set, replacing what is there only when it is complete.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_lines(path: &Path, pairs: &[Pair]) -> Result<()> {
    let context = || format!("failed to write {}", path.display());
    let partial = path.with_extension("partial");
    let file = BufWriter::new(File::create(&partial).with_context(context)?);
    // no name, no time and a fixed operating system in the header: the bytes follow from the pairs
    let mut encoder = GzBuilder::new().mtime(0).operating_system(255).write(file, Compression::default());
    for pair in pairs {
        let prompt = format!("{}\n", pair.question);
        let line = Line { prompt, completion: pair.sql.clone(), intent: pair.intent.to_owned() };
        serde_json::to_writer(&mut encoder, &line).with_context(context)?;
        encoder.write_all(b"\n").with_context(context)?;
    }
    encoder.finish().and_then(|mut file| file.flush()).with_context(context)?;
    std::fs::rename(&partial, path).with_context(context)
}

/// Reads a data set.
///
/// # Errors
/// When the file cannot be read, or a line (named by its number) is not a pair.
pub fn read_lines(path: &Path) -> Result<Vec<Line>> {
    let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let parse = |(index, line): (usize, std::io::Result<String>)| {
        let context = || format!("{}:{}: not a JSON object with prompt and completion", path.display(), index + 1);
        serde_json::from_str(&line.with_context(context)?).with_context(context)
    };
    BufReader::new(MultiGzDecoder::new(file)).lines().enumerate().map(parse).collect()
}
