//! Which split a pair belongs to, and the drawing of three splits of given sizes. A query belongs to one split, whatever
//! the question; a question has one query. So the splits share neither.

use std::collections::HashMap;

use anyhow::{Result, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::pairs::{Pair, Sampler};

/// Draws that may bring nothing new before the amounts are called too large, for every pair that is wanted.
const DRAWS_PER_PAIR: usize = 50;

/// Three parts of a data set, or their sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Splits<T> {
    /// To train on.
    pub train: T,
    /// To choose settings by.
    pub dev: T,
    /// To report on.
    pub test: T,
}

impl<T> Splits<T> {
    /// The parts with their names.
    pub fn named(&self) -> [(&'static str, &T); 3] {
        [("train", &self.train), ("dev", &self.dev), ("test", &self.test)]
    }
}

/// Draws distinct questions until every split has its size.
///
/// # Errors
/// When a question is drawn with two different queries, and when there are not enough distinct questions.
pub fn draw(sampler: &Sampler, seed: u64, sizes: Splits<usize>) -> Result<Splits<Vec<Pair>>> {
    // another stream than that of the rows, which come from the same seed
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    let total = sizes.train + sizes.dev + sizes.test;
    let mut seen: HashMap<String, String> = HashMap::with_capacity(total);
    let mut splits = Splits::<Vec<Pair>>::default();
    for _ in 0..total * DRAWS_PER_PAIR {
        if splits.train.len() + splits.dev.len() + splits.test.len() == total {
            return Ok(splits);
        }
        let pair = sampler.sample(&mut rng)?;
        if remember(&mut seen, &pair)? {
            add(&mut splits, pair, sizes);
        }
    }
    bail!("the intents do not give {total} distinct questions: ask for fewer with --train, --dev and --test")
}

/// Whether the question is new.
fn remember(seen: &mut HashMap<String, String>, pair: &Pair) -> Result<bool> {
    match seen.get(&pair.question) {
        None => {
            seen.insert(pair.question.clone(), pair.sql.clone());
            Ok(true)
        }
        Some(sql) if *sql == pair.sql => Ok(false),
        Some(sql) => bail!(
            "the question \"{}\" means both \"{sql}\" and \"{}\": reword the intent \"{}\"",
            pair.question,
            pair.sql,
            pair.intent
        ),
    }
}

fn add(splits: &mut Splits<Vec<Pair>>, pair: Pair, sizes: Splits<usize>) {
    let (split, size) = match split_of(&pair.sql, sizes) {
        "train" => (&mut splits.train, sizes.train),
        "dev" => (&mut splits.dev, sizes.dev),
        _ => (&mut splits.test, sizes.test),
    };
    if split.len() < size {
        split.push(pair);
    }
}

/// The split of a query, from a hash of its text, in proportion to the sizes.
pub fn split_of(sql: &str, sizes: Splits<usize>) -> &'static str {
    let digest = Sha256::digest(sql.as_bytes());
    let head = digest.iter().take(4).fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let position = (head * (sizes.train + sizes.dev + sizes.test) as u64) >> 32;
    if position < sizes.test as u64 {
        "test"
    } else if position < (sizes.test + sizes.dev) as u64 {
        "dev"
    } else {
        "train"
    }
}
