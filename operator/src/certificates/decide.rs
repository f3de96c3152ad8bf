//! What is to be done about the certificates at a moment. Pure: clock and cluster are the caller's.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::certificates::certificate::Certificate;
use crate::certificates::stored::Stored;

/// How certificates are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The host names of the Service.
    pub names: BTreeSet<String>,
    /// How long an authority lives.
    pub authority_lifetime: Duration,
    /// How long what it signs lives.
    pub serving_lifetime: Duration,
    /// How long an authority is published before anything that it signed is served. By then every API server has read it.
    pub overlap: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, before that second.
    Keep {
        /// Since 1970.
        until: i64,
    },
    /// To change what is stored.
    Write(Change),
}

/// A change of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new authority and what it signs: nothing that is stored can be gone on from.
    Everything,
    /// A new authority beside those that are published. What is served stays.
    NextAuthority,
    /// The newest authority signs what is served from now on.
    Serving,
    /// What cannot be in use any more is left out.
    Forget,
}

/// What is to be done. `published`: for how long every place that the API server reads has named the newest authority; `None`: not all do.
pub fn decide(now: i64, stored: Option<&Stored>, published: Option<Duration>, rules: &Rules) -> Decision {
    let Some(stored) = stored.filter(|stored| now <= stored.authority.not_after()) else {
        return Decision::Write(Change::Everything);
    };
    let Stored { authority, serving, .. } = stored;
    if now > serving.not_after() {
        // Nobody is served by it, so nobody is cut off.
        return Decision::Write(Change::Serving);
    }
    if !serving.is_signed_by(authority) {
        let left = rules.overlap.saturating_sub(published.unwrap_or_default());
        return if left.is_zero() { Decision::Write(Change::Serving) } else { keep(now, [now + seconds(left)]) };
    }
    if now >= authority.renewed_from() {
        return Decision::Write(Change::NextAuthority);
    }
    if now >= serving.renewed_from() || *serving.names() != rules.names {
        return Decision::Write(Change::Serving);
    }
    if stored.without_what_is_over(now, rules.overlap) != *stored {
        return Decision::Write(Change::Forget);
    }
    let ends = stored.previous.iter().map(|certificate| over_from(certificate, rules.overlap));
    keep(now, ends.chain([authority.renewed_from(), serving.renewed_from()]))
}

impl Stored {
    /// Without certificates that expired, and without authorities that signed none that can be in use: an old authority is trusted until
    /// the last that it signed has expired, since a replica that reads late serves that for so long.
    pub(super) fn without_what_is_over(&self, now: i64, overlap: Duration) -> Self {
        let mut left = self.clone();
        left.previous.retain(|certificate| now < over_from(certificate, overlap));
        let in_use = |older: &Certificate| {
            left.serving.is_signed_by(older) || left.previous.iter().any(|previous| previous.is_signed_by(older))
        };
        let older = left.older.iter().filter(|older| in_use(older)).cloned().collect();
        Self { older, ..left }
    }
}

/// From when on a certificate cannot be in use. The clocks of others may be behind.
fn over_from(certificate: &Certificate, overlap: Duration) -> i64 {
    certificate.not_after().saturating_add(seconds(overlap)).saturating_add(1)
}

fn keep(now: i64, next: impl IntoIterator<Item = i64>) -> Decision {
    let until = next.into_iter().filter(|second| *second > now).min().unwrap_or_else(|| now.saturating_add(1));
    Decision::Keep { until }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}
