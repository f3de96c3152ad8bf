//! Draws question → SQL pairs from the intents. Decides neither splits nor amounts.

use anyhow::{Context, Result};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::database::Shop;
use crate::intents::{Intent, all};
use crate::phrasing::{decorate, expand};
use crate::schema::write_joins;
use crate::slots::{bind_all, fill_question, fill_sql};

/// A question and the query that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Name of the intent that it was drawn from.
    pub intent: &'static str,
    /// One sentence.
    pub question: String,
    /// One statement with its semicolon.
    pub sql: String,
}

/// Draws pairs for one shop.
#[derive(Debug)]
pub struct Sampler<'s> {
    shop: &'s Shop,
    intents: Vec<(Intent, String)>,
}

impl<'s> Sampler<'s> {
    /// Over all intents.
    ///
    /// # Errors
    /// When the query of an intent joins two tables between which the schema has no foreign key.
    pub fn new(shop: &'s Shop) -> Result<Self> {
        Self::over(shop, all())
    }

    /// Over these intents.
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub fn over(shop: &'s Shop, intents: Vec<Intent>) -> Result<Self> {
        let with_joins = |intent: Intent| {
            let sql = write_joins(intent.sql).with_context(|| format!("in the intent \"{}\"", intent.name))?;
            Ok((intent, sql))
        };
        Ok(Self { shop, intents: intents.into_iter().map(with_joins).collect::<Result<_>>()? })
    }

    /// How many intents there are.
    pub fn len(&self) -> usize {
        self.intents.len()
    }

    /// Whether there is nothing to draw from.
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty()
    }

    /// One pair of a random intent, each as likely as the others.
    ///
    /// # Errors
    /// When an intent names a slot that is not known.
    pub fn sample(&self, rng: &mut ChaCha8Rng) -> Result<Pair> {
        self.sample_from(rng.random_range(0..self.intents.len()), rng)
    }

    /// One pair of the intent with this index.
    ///
    /// # Errors
    /// When the intent names a slot that is not known.
    pub fn sample_from(&self, index: usize, rng: &mut ChaCha8Rng) -> Result<Pair> {
        let (intent, template) = &self.intents[index];
        let bindings =
            bind_all(template, self.shop, rng).with_context(|| format!("in the intent \"{}\"", intent.name))?;
        let phrase = expand(intent.questions.choose(rng).copied().unwrap_or_default(), rng);
        let question = decorate(&fill_question(&phrase, &bindings), rng);
        Ok(Pair { intent: intent.name, question, sql: fill_sql(template, &bindings) + ";" })
    }
}
