//! How long a model did not answer: what a rollout in place costs.

use cllm_crds::conditions::{reasons, types};
use cllm_crds::{CllmModelStatus, Downtime};
use k8s_openapi::api::apps::v1::DeploymentStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::conditions::find;

/// The downtime that begins, goes on or ends with this look at the replicas, or else the last one.
///
/// A model that never answered is not down, and neither is one that is scaled to zero.
pub(super) fn downtime(
    previous: &CllmModelStatus,
    replicas: &DeploymentStatus,
    wanted: u32,
    now: Timestamp,
) -> Option<Downtime> {
    let answers = replicas.ready_replicas.unwrap_or_default() > 0;
    let last = previous.last_downtime.clone();
    let is_down = last.as_ref().is_some_and(|last| last.ended_at.is_none());
    if is_down && (answers || wanted == 0) {
        return last.map(|last| ended(last, now));
    }
    if !is_down && !answers && wanted > 0 && previous.ready_replicas > 0 {
        let is_rollout = was_rolling(previous) || is_rolling(replicas, wanted);
        let reason = if is_rollout { "Rollout" } else { "ReplicasLost" };
        return Some(Downtime { started_at: Time(now), ended_at: None, seconds: None, reason: reason.to_owned() });
    }
    last
}

fn ended(last: Downtime, now: Timestamp) -> Downtime {
    let seconds = now.as_second().saturating_sub(last.started_at.0.as_second());
    Downtime { ended_at: Some(Time(now)), seconds: Some(u64::try_from(seconds).unwrap_or_default()), ..last }
}

/// A Deployment counts a replica as updated as soon as it is made: at the next look nothing else may tell.
fn was_rolling(previous: &CllmModelStatus) -> bool {
    find(&previous.conditions, types::READY).is_some_and(|ready| ready.reason == reasons::PROGRESSING)
}

/// Some replica is not, or not only, as the spec says.
pub(super) fn is_rolling(replicas: &DeploymentStatus, wanted: u32) -> bool {
    let [total, updated] = [replicas.replicas, replicas.updated_replicas].map(Option::unwrap_or_default);
    updated < i32::try_from(wanted).unwrap_or(i32::MAX) || total > updated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Conditions;

    fn replicas(total: i32, updated: i32, ready: i32) -> DeploymentStatus {
        DeploymentStatus {
            replicas: Some(total),
            updated_replicas: Some(updated),
            ready_replicas: Some(ready),
            ..DeploymentStatus::default()
        }
    }

    /// Looks at the replicas second after second, and returns the last status.
    fn looks(list: &[(DeploymentStatus, u32)]) -> CllmModelStatus {
        let look = |previous: CllmModelStatus, (second, (replicas, wanted)): (i64, &(DeploymentStatus, u32))| {
            let now = Timestamp::from_second(second).unwrap();
            let last_downtime = downtime(&previous, replicas, *wanted, now);
            CllmModelStatus { ready_replicas: replicas.ready_replicas.unwrap(), last_downtime, ..previous }
        };
        (100..).zip(list).fold(CllmModelStatus::default(), look)
    }

    #[test]
    fn a_start_is_no_downtime_and_a_rollout_in_place_is_one() {
        let starts = [(replicas(1, 1, 0), 1), (replicas(1, 1, 1), 1)];
        assert_eq!(looks(&starts).last_downtime, None);
        let rolls = [(replicas(1, 1, 1), 1), (replicas(1, 0, 0), 1), (replicas(1, 1, 0), 1), (replicas(1, 1, 1), 1)];
        let last = looks(&rolls).last_downtime.unwrap();
        assert_eq!((last.seconds, last.reason.as_str()), (Some(2), "Rollout"));
        let lasts = looks(&rolls[..3]).last_downtime.unwrap();
        assert_eq!((lasts.started_at.0.as_second(), lasts.ended_at, lasts.seconds), (101, None, None));
    }

    #[test]
    fn a_rollout_is_known_by_what_the_status_said_before() {
        let mut conditions = Conditions::from_previous(&[], None, Timestamp::UNIX_EPOCH);
        conditions.set(types::READY, false, reasons::PROGRESSING, "");
        let rolling =
            CllmModelStatus { ready_replicas: 1, conditions: conditions.into_list(), ..CllmModelStatus::default() };
        let found = downtime(&rolling, &replicas(1, 1, 0), 1, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(found.reason, "Rollout");
    }

    #[test]
    fn replicas_that_are_lost_are_told_from_a_rollout_and_the_last_downtime_stays() {
        let lost = [(replicas(2, 2, 1), 2), (replicas(2, 2, 0), 2), (replicas(2, 2, 2), 2), (replicas(2, 2, 1), 2)];
        let last = looks(&lost).last_downtime.unwrap();
        assert_eq!((last.seconds, last.reason.as_str()), (Some(1), "ReplicasLost"));
    }

    #[test]
    fn a_model_that_is_scaled_to_zero_is_not_down() {
        assert_eq!(looks(&[(replicas(1, 1, 1), 1), (replicas(0, 0, 0), 0)]).last_downtime, None);
        let meanwhile = [(replicas(1, 1, 1), 1), (replicas(1, 1, 0), 1), (replicas(0, 0, 0), 0)];
        assert_eq!(looks(&meanwhile).last_downtime.unwrap().seconds, Some(1));
    }
}
