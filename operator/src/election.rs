//! Who of several operators acts: the rules over a Lease, without clock, client or waiting.
//!
//! A holder is dead when its record has not changed for as long as it asked for, by the observer's own clock: clocks of two machines are
//! never compared. Writes carry the resource version that was read, so that of two who take over at once one is refused. A holder
//! counts its time from before its request was sent, and stops [`Timing::renew_deadline`] later: before anyone can think it dead.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

/// How long things take; the defaults are those of Kubernetes' own controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// After so long without a renewal others take over. Whole seconds.
    pub lease_duration: Duration,
    /// After so long without a renewal the holder stops; shorter than `lease_duration`.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry_period: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// There is none: create this one.
    Create(Lease),
    /// Replace it by this one, which carries the resource version that was read.
    Replace(Lease),
    /// Another one holds it.
    Wait,
}

/// One who wants to act. Times are durations since any fixed moment of a clock that never goes back.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    identity: String,
    timing: Timing,
    /// The record of another holder, and when it was first seen like that.
    observed: Option<(LeaseSpec, Duration)>,
    held_until: Option<Duration>,
}

impl Candidate {
    /// For the Lease of that name. Two candidates must never have the same identity, also not one after the other.
    pub fn new(name: &str, identity: &str, timing: Timing) -> Self {
        Self { name: name.to_owned(), identity: identity.to_owned(), timing, observed: None, held_until: None }
    }

    /// What to do about the Lease as it was just read. `wall` is only written for people to read.
    pub fn step(&mut self, lease: Option<&Lease>, now: Duration, wall: Timestamp) -> Step {
        let Some(lease) = lease else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            return Step::Create(Lease { metadata, spec: Some(self.record(None, wall)) });
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity {
            self.held_until = None;
            if !holder.is_empty() && !self.is_dead(&spec, now) {
                return Step::Wait;
            }
        }
        Step::Replace(Lease { metadata: lease.metadata.clone(), spec: Some(self.record(Some(&spec), wall)) })
    }

    /// A write was accepted that was sent at that time.
    pub fn written(&mut self, sent_at: Duration) {
        self.observed = None;
        self.held_until = Some(sent_at + self.timing.renew_deadline);
    }

    /// Until when this one may act without another accepted write; absent while another one holds the Lease.
    pub fn held_until(&self) -> Option<Duration> {
        self.held_until
    }

    /// The Lease without a holder, for others to take at once.
    pub fn released(&self, lease: &Lease, wall: Timestamp) -> Lease {
        let spec = lease.spec.clone().unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(wall)),
            ..spec
        };
        Lease { metadata: lease.metadata.clone(), spec: Some(spec) }
    }

    fn is_dead(&mut self, spec: &LeaseSpec, now: Duration) -> bool {
        let since = match &self.observed {
            Some((known, since)) if known == spec => *since,
            _ => {
                self.observed = Some((spec.clone(), now));
                now
            }
        };
        let asked = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
        now.saturating_sub(since) >= self.timing.lease_duration.max(Duration::from_secs(asked))
    }

    fn record(&self, previous: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let mine = previous.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = previous.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.timing.lease_duration.as_secs()).ok(),
            acquire_time: mine.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions + i32::from(mine.is_none() && previous.is_some())),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn candidate(identity: &str) -> Candidate {
        Candidate::new("cllm-operator", identity, Timing::default())
    }

    fn taken(step: Step) -> Lease {
        match step {
            Step::Create(lease) | Step::Replace(lease) => lease,
            Step::Wait => panic!("it waits"),
        }
    }

    fn spec(lease: &Lease) -> LeaseSpec {
        lease.spec.clone().unwrap()
    }

    #[test]
    fn the_first_takes_it_and_keeps_it_and_the_second_waits() {
        let (mut first, mut second) = (candidate("first"), candidate("second"));
        let Step::Create(lease) = first.step(None, seconds(0), wall(100)) else { panic!("not created") };
        first.written(seconds(0));
        assert_eq!(first.held_until(), Some(seconds(10)));
        assert_eq!(second.step(Some(&lease), seconds(1), wall(0)), Step::Wait);
        let renewed = taken(first.step(Some(&lease), seconds(2), wall(102)));
        first.written(seconds(2));
        assert_eq!(first.held_until(), Some(seconds(12)));
        assert_eq!(spec(&renewed).acquire_time, spec(&lease).acquire_time);
        assert_eq!(
            (spec(&renewed).renew_time, spec(&renewed).lease_transitions),
            (Some(MicroTime(wall(102))), Some(0))
        );
    }

    #[test]
    fn a_holder_is_dead_when_its_record_did_not_change_for_its_duration_whatever_the_clocks_say() {
        for holders_clock in [0, 1_000_000] {
            let lease = taken(candidate("first").step(None, seconds(0), wall(holders_clock)));
            let mut second = candidate("second");
            assert_eq!(second.step(Some(&lease), seconds(50), wall(500)), Step::Wait, "seen for the first time");
            assert_eq!(second.step(Some(&lease), seconds(64), wall(514)), Step::Wait);
            let over = taken(second.step(Some(&lease), seconds(65), wall(515)));
            assert_eq!(spec(&over).holder_identity.as_deref(), Some("second"));
            assert_eq!(spec(&over).lease_transitions, Some(1));
            assert_eq!(over.metadata, lease.metadata, "with the resource version that was read");
        }
    }

    #[test]
    fn each_renewal_starts_the_time_anew_and_a_longer_lease_is_respected() {
        let mut first = candidate("first");
        let lease = taken(first.step(None, seconds(0), wall(0)));
        let mut second = candidate("second");
        assert_eq!(second.step(Some(&lease), seconds(0), wall(0)), Step::Wait);
        let renewed = taken(first.step(Some(&lease), seconds(14), wall(14)));
        assert_eq!(second.step(Some(&renewed), seconds(14), wall(14)), Step::Wait);
        assert_eq!(second.step(Some(&renewed), seconds(28), wall(28)), Step::Wait);
        assert_ne!(second.step(Some(&renewed), seconds(29), wall(29)), Step::Wait);

        let mut long = renewed;
        long.spec.as_mut().unwrap().lease_duration_seconds = Some(60);
        let mut third = candidate("third");
        assert_eq!(third.step(Some(&long), seconds(0), wall(0)), Step::Wait);
        assert_eq!(third.step(Some(&long), seconds(59), wall(0)), Step::Wait);
        assert_ne!(third.step(Some(&long), seconds(60), wall(0)), Step::Wait);
    }

    #[test]
    fn what_was_released_is_taken_at_once_and_what_was_taken_over_is_lost() {
        let mut first = candidate("first");
        let lease = taken(first.step(None, seconds(0), wall(0)));
        first.written(seconds(0));
        let released = first.released(&lease, wall(1));
        let mut second = candidate("second");
        let taken_over = taken(second.step(Some(&released), seconds(1), wall(1)));
        assert_eq!(spec(&taken_over).lease_transitions, Some(1));
        assert_eq!(first.step(Some(&taken_over), seconds(2), wall(2)), Step::Wait);
        assert_eq!(first.held_until(), None);
    }
}
