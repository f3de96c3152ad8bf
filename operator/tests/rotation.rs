//! Certificates are renewed so that nobody is ever cut off: whatever a replica serves, however late it reads, is trusted by every API server,
//! however late that one reads.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is a failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cllm_operator::certificates::{
    Certificate, Change, Decision, PrivateKeyPem, Rules, Stored, carry_out, certificates, decide, keys,
};
use k8s_openapi::ByteString;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{ServerName, UnixTime};

const HOST: &str = "cllm-operator.cllm.svc";
const START: i64 = 1_800_000_000;

fn rules(authority: u64, serving: u64, overlap: u64) -> Rules {
    Rules {
        names: BTreeSet::from([HOST.to_owned(), "cllm-operator".to_owned()]),
        authority_lifetime: Duration::from_secs(authority),
        serving_lifetime: Duration::from_secs(serving),
        overlap: Duration::from_secs(overlap),
    }
}

/// Whether a client that trusts the bundle accepts the certificate at that moment.
fn is_trusted(certificate: &Certificate, bundle: &[u8], now: i64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(bundle).unwrap());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
    let name = ServerName::try_from(HOST).unwrap();
    verifier.build().unwrap().verify_server_cert(certificate.der(), &[], &name, &[], now).is_ok()
}

fn first(now: i64, rules: &Rules) -> Stored {
    assert_eq!(decide(now, None, None, rules), Decision::Write(Change::Everything));
    carry_out(Change::Everything, None, now, rules).unwrap()
}

#[test]
fn what_was_made_is_read_as_it_was_written_and_kept_until_two_thirds_of_its_life() {
    let rules = rules(3000, 300, 10);
    let stored = first(START, &rules);
    assert_eq!(Stored::read(&stored.data()).unwrap().as_ref(), Some(&stored));
    assert!(is_trusted(&stored.serving, &stored.bundle(), START));
    let Decision::Keep { until } = decide(START, Some(&stored), None, &rules) else { panic!("not kept") };
    // A hundredth of it lies before its beginning, for clocks that are behind.
    assert!((START + 195..=START + 200).contains(&until), "{}", until - START);
    assert_eq!(decide(until, Some(&stored), None, &rules), Decision::Write(Change::Serving));
    let renewed = carry_out(Change::Serving, Some(&stored), until, &rules).unwrap();
    assert!(renewed.serving.is_signed_by(&stored.authority) && renewed.previous == [stored.serving.clone()]);
    assert!(is_trusted(&stored.serving, &renewed.bundle(), until));
}

#[test]
fn a_new_authority_signs_only_when_it_has_been_published_for_long_enough() {
    let rules = rules(300, 290, 10);
    let old = first(START, &rules);
    let due = old.authority.renewed_from();
    assert_eq!(decide(due, Some(&old), None, &rules), Decision::Write(Change::NextAuthority));
    let both = carry_out(Change::NextAuthority, Some(&old), due, &rules).unwrap();
    assert_eq!((&both.serving, both.older.as_slice()), (&old.serving, std::slice::from_ref(&old.authority)));
    for (published, expected) in [
        (None, Decision::Keep { until: due + 10 }),
        (Some(4), Decision::Keep { until: due + 6 }),
        (Some(10), Decision::Write(Change::Serving)),
    ] {
        assert_eq!(decide(due, Some(&both), published.map(Duration::from_secs), &rules), expected, "{published:?}");
    }
    let new = carry_out(Change::Serving, Some(&both), due + 10, &rules).unwrap();
    assert!(new.serving.is_signed_by(&new.authority) && new.older.contains(&old.authority));
    // The old one is trusted until what it signed has expired, and a little longer.
    let over = old.serving.not_after() + 11;
    let left = carry_out(Change::Forget, Some(&new), over, &rules).unwrap();
    assert!(left.older.is_empty() && left.previous.is_empty());
    assert!(carry_out(Change::Forget, Some(&new), over - 1, &rules).unwrap() == new);
}

#[test]
fn whatever_cannot_be_gone_on_from_is_made_anew() {
    let rules = rules(300, 100, 10);
    let stored = first(START, &rules);
    let other = first(START, &rules);
    let with = |key: &str, value: Option<ByteString>| {
        let mut data = stored.data();
        match value {
            Some(value) => data.insert(key.to_owned(), value),
            None => data.remove(key),
        };
        data
    };
    assert_eq!(Stored::read(&BTreeMap::new()).unwrap(), None);
    for (key, value) in [
        (keys::PRIVATE_KEY, None),
        (keys::PRIVATE_KEY, Some(other.data()[keys::PRIVATE_KEY].clone())),
        (keys::AUTHORITY_KEY, None),
        (keys::AUTHORITY_KEY, Some(other.data()[keys::AUTHORITY_KEY].clone())),
        (keys::AUTHORITIES, Some(ByteString(b"no certificate".to_vec()))),
        (keys::CERTIFICATE, None),
    ] {
        assert!(Stored::read(&with(key, value.clone())).is_err(), "{key} {value:?}");
    }
    // Of an operator that was away for years.
    assert_eq!(decide(START + 10_000, Some(&stored), None, &rules), Decision::Write(Change::Everything));
    // For a Service with another name.
    let renamed = Rules { names: BTreeSet::from(["other".to_owned()]), ..rules };
    assert_eq!(decide(START + 1, Some(&stored), None, &renamed), Decision::Write(Change::Serving));
    assert_eq!(format!("{:?}", PrivateKeyPem::new("secret".to_owned())), "PrivateKeyPem(…)");
}

/// A leader that is away now and then, replicas and API servers that read late.
struct Timeline {
    random: StdRng,
    rules: Rules,
    /// Every state of the Secret.
    secrets: Vec<Stored>,
    /// What the places say that API servers read: a state of the Secret, and since when.
    published: Option<(usize, i64)>,
    /// Every state of these places with the moment when it came.
    history: Vec<(usize, i64)>,
    /// Which state of the Secret each replica has read.
    replicas: [Option<usize>; 3],
    /// Which state of the places each API server has read.
    servers: [Option<usize>; 2],
    /// Pairs of states that were checked.
    checked: BTreeSet<(usize, usize)>,
}

impl Timeline {
    fn new(seed: u64, rules: Rules) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            rules,
            secrets: Vec::new(),
            published: None,
            history: Vec::new(),
            replicas: [None; 3],
            servers: [None; 2],
            checked: BTreeSet::new(),
        }
    }

    /// One look of the leader; it may die between its two writes, and the next one knows nothing of how long anything has been published.
    fn lead(&mut self, now: i64) {
        let latest = self.secrets.len().checked_sub(1);
        let known = self.published.filter(|(state, _)| {
            latest.is_some_and(|latest| self.secrets[*state].bundle() == self.secrets[latest].bundle())
        });
        let since = known.map(|(_, since)| Duration::from_secs((now - since).unsigned_abs()));
        let stored = latest.map(|latest| &self.secrets[latest]);
        if let Decision::Write(change) = decide(now, stored, since, &self.rules) {
            let next = carry_out(change, stored, now, &self.rules).unwrap();
            self.secrets.push(next);
            if self.random.random_bool(0.2) {
                self.published = None;
                return;
            }
        }
        let latest = self.secrets.len() - 1;
        let is_told = self
            .history
            .last()
            .is_some_and(|(state, _)| self.secrets[*state].bundle() == self.secrets[latest].bundle());
        if !is_told {
            self.history.push((latest, now));
        }
        let is_known = known.is_some_and(|_| is_told);
        if !is_known {
            self.published = Some((latest, now));
        }
    }

    /// Each replica reads now and then, but before a third of a certificate's life is over; each API server before the overlap is.
    fn read(&mut self, now: i64) {
        let latest = self.secrets.len().checked_sub(1);
        for replica in &mut self.replicas {
            let is_late = replica.is_none_or(|state| self.secrets[state].serving.not_after() - now < 2);
            if is_late || self.random.random_bool(0.05) {
                *replica = latest;
            }
        }
        let overlap = i64::try_from(self.rules.overlap.as_secs()).unwrap();
        for server in &mut self.servers {
            // The newest state that is older than the overlap has been read; a newer one perhaps.
            let due = self.history.iter().rposition(|(_, came)| now - came >= overlap - 1);
            *server = (*server).max(due);
            if self.random.random_bool(0.3) {
                *server = self.history.len().checked_sub(1);
            }
        }
    }

    fn check(&mut self, now: i64) {
        for state in self.replicas.into_iter().flatten() {
            for place in self.servers.into_iter().flatten() {
                let (serving, published) = (&self.secrets[state].serving, self.history[place].0);
                if now <= serving.not_after() && self.checked.insert((state, published)) {
                    let bundle = self.secrets[published].bundle();
                    assert!(is_trusted(serving, &bundle, now), "state {state} is not trusted by {published} at {now}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_served_is_trusted_wherever_it_was_published(
        seed: u64, authority in 120_u64..400, serving in 30_u64..60, overlap in 2_u64..6,
    ) {
        let mut timeline = Timeline::new(seed, rules(authority, serving, overlap));
        for second in 0..900 {
            let now = START + second;
            if second == 0 || timeline.random.random_bool(0.7) {
                timeline.lead(now);
            }
            timeline.read(now);
            timeline.check(now);
        }
        let authorities: BTreeSet<_> = timeline.secrets.iter().map(|stored| stored.authority.der().to_vec()).collect();
        prop_assert!(authorities.len() > 2, "only {} authorities", authorities.len());
        prop_assert!(timeline.secrets.iter().all(|stored| stored.older.len() < 3 && stored.previous.len() < 4));
        prop_assert!(timeline.checked.len() > 20, "only {} pairs", timeline.checked.len());
    }
}
