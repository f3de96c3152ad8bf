//! Which files make a data set, and their records one after the other, whatever holds them. Knows nothing of prompts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use serde_json::Value;

use crate::failure::{Failure, Result};

/// What a record is called in a sentence, and its number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Line(usize),
    Row(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(formatter, "line {number}"),
            Self::Row(number) => write!(formatter, "row {number}"),
        }
    }
}

/// A record, or why it cannot be read.
pub(super) type Record = std::result::Result<Value, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    JsonLines,
    GzippedJsonLines,
    ZstandardJsonLines,
    Parquet,
}

/// What names end in, for sentences.
const ENDINGS: &str = "*.jsonl, *.jsonl.gz, *.jsonl.zst or *.parquet";

impl Format {
    /// By the name; none where it is not that of data.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let endings = [
            (".jsonl", Self::JsonLines),
            (".jsonl.gz", Self::GzippedJsonLines),
            (".jsonl.zst", Self::ZstandardJsonLines),
            (".parquet", Self::Parquet),
        ];
        let ends = |(ending, _): &&(&str, Self)| name.ends_with(ending) && !name.starts_with('.');
        endings.iter().find(ends).map(|(_, format)| *format)
    }

    /// The format of a file that somebody named: its compression by the last part of the name, lines of JSON by default.
    fn of_named(path: &Path) -> Self {
        Self::of(path).unwrap_or_else(|| match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => Self::GzippedJsonLines,
            Some("zst") => Self::ZstandardJsonLines,
            _ => Self::JsonLines,
        })
    }
}

/// The files of a data set, in the order of their names.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(Failure::read(path))? {
        let file = entry.map_err(Failure::read(path))?.path();
        if Format::of(&file).is_some() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::BadInput(format!("{} holds no {ENDINGS}: name the folder of the data", path.display())));
    }
    Ok(files)
}

/// Calls `visit` with file, place and content of every record, until it answers `false`. Blank lines are none.
pub(super) fn for_each_record(path: &Path, visit: &mut dyn FnMut(&Path, Place, Record) -> Result<bool>) -> Result<()> {
    for file in files(path)? {
        let goes_on = match Format::of_named(&file) {
            Format::Parquet => for_each_row(&file, visit)?,
            format => for_each_line(&file, format, visit)?,
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

fn for_each_line(
    path: &Path,
    format: Format,
    visit: &mut dyn FnMut(&Path, Place, Record) -> Result<bool>,
) -> Result<bool> {
    let file = File::open(path).map_err(Failure::read(path))?;
    let content: Box<dyn Read> = match format {
        Format::GzippedJsonLines => Box::new(MultiGzDecoder::new(file)),
        Format::ZstandardJsonLines => Box::new(zstd::Decoder::new(file).map_err(Failure::read(path))?),
        Format::JsonLines | Format::Parquet => Box::new(file),
    };
    for (index, line) in BufReader::new(content).lines().enumerate() {
        let place = Place::Line(index + 1);
        let line = line.map_err(|error| unreadable(path, place, &error))?;
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(&line).map_err(|error| format!("it is not JSON ({error})"));
        if !visit(path, place, record)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn for_each_row(path: &Path, visit: &mut dyn FnMut(&Path, Place, Record) -> Result<bool>) -> Result<bool> {
    let file = File::open(path).map_err(Failure::read(path))?;
    let damaged = |error: parquet::errors::ParquetError| {
        Failure::BadInput(format!("{} cannot be read as Parquet: {error}; write the file again", path.display()))
    };
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    for (index, row) in RowIter::from_file_into(Box::new(reader)).enumerate() {
        let place = Place::Row(index + 1);
        let row = row.map_err(|error| unreadable(path, place, &error))?;
        if !visit(path, place, Ok(row.to_json_value()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A file that ends in the middle or is damaged: nothing after this place can be read.
fn unreadable(path: &Path, place: Place, error: &dyn std::fmt::Display) -> Failure {
    Failure::BadInput(format!("{}, {place}: {error}; the file is damaged here: write it again", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        use Format::{GzippedJsonLines, JsonLines, Parquet, ZstandardJsonLines};
        for (name, found, named) in [
            ("a.jsonl", Some(JsonLines), JsonLines),
            ("a.jsonl.gz", Some(GzippedJsonLines), GzippedJsonLines),
            ("a.jsonl.zst", Some(ZstandardJsonLines), ZstandardJsonLines),
            ("train-00000-of-00002.parquet", Some(Parquet), Parquet),
            (".a.jsonl", None, JsonLines),
            ("a.json.gz", None, GzippedJsonLines),
            ("a.zst", None, ZstandardJsonLines),
            ("README.md", None, JsonLines),
        ] {
            assert_eq!(Format::of(Path::new(name)), found, "{name}");
            assert_eq!(Format::of_named(Path::new(name)), named, "{name}");
        }
    }
}
