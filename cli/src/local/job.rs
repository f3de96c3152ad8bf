//! What the Job controller of Kubernetes does with a Job, as pure functions: which pods start, what an exit code means, when it ends.
//!
//! Only what a rendered Job can say is honoured: Indexed or not, parallelism, backoffLimit, podFailurePolicy on exit codes.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, PodFailurePolicyRule};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// What has become of a Job so far. Indexes of a Job that is not Indexed count from 0 too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    /// Indexes whose process ended with 0.
    pub succeeded: BTreeSet<u32>,
    /// Counted failures of all indexes. Not kept: who runs again wants another try.
    #[serde(skip)]
    pub failures: u32,
    /// How it ended, if it has.
    pub end: Option<End>,
    /// When the first process started.
    pub start_time: Option<Time>,
    /// When it ended.
    pub completion_time: Option<Time>,
}

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum End {
    /// All indexes succeeded.
    Complete,
    /// It will not be tried again.
    Failed {
        /// As Kubernetes names it.
        reason: String,
        /// A sentence.
        message: String,
    },
}

/// What an exit means for its Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The index is done.
    Succeeded,
    /// Start it again; nothing is counted.
    Retry,
    /// Counted; start it again unless the limit is reached.
    Counted,
    /// The whole Job has failed.
    FailJob,
}

/// How many indexes a Job has.
pub(super) fn completions(spec: &JobSpec) -> u32 {
    positive(spec.completions, 1)
}

/// How many processes run at once.
pub(super) fn parallelism(spec: &JobSpec) -> u32 {
    positive(spec.parallelism, 1)
}

/// Whether processes are told their index.
pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn positive(value: Option<i32>, default: u32) -> u32 {
    value.map_or(default, |number| u32::try_from(number).unwrap_or(0))
}

/// The indexes to start now, lowest first, given those that run.
pub(super) fn starts(spec: &JobSpec, record: &Record, active: &BTreeSet<u32>) -> Vec<u32> {
    if record.end.is_some() || spec.suspend == Some(true) {
        return Vec::new();
    }
    let free = (parallelism(spec) as usize).saturating_sub(active.len());
    (0..completions(spec))
        .filter(|index| !record.succeeded.contains(index) && !active.contains(index))
        .take(free)
        .collect()
}

/// What the rules of the Job say about an exit code.
pub(super) fn verdict(spec: &JobSpec, exit_code: i32) -> Verdict {
    if exit_code == 0 {
        return Verdict::Succeeded;
    }
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for rule in rules {
        if matches_exit_code(rule, exit_code) {
            return match rule.action.as_str() {
                "FailJob" => Verdict::FailJob,
                "Ignore" => Verdict::Retry,
                _ => Verdict::Counted,
            };
        }
    }
    Verdict::Counted
}

fn matches_exit_code(rule: &PodFailurePolicyRule, exit_code: i32) -> bool {
    rule.on_exit_codes.as_ref().is_some_and(|requirement| {
        let listed = requirement.values.contains(&exit_code);
        if requirement.operator == "NotIn" { !listed } else { listed }
    })
}

/// Enters an exit into the record; `now` dates the end of the Job if this was it.
pub(super) fn enter_exit(spec: &JobSpec, record: &mut Record, index: u32, exit_code: i32, now: &Time) {
    match verdict(spec, exit_code) {
        Verdict::Succeeded => {
            record.succeeded.insert(index);
        }
        Verdict::Retry => {}
        Verdict::Counted => count_failure(spec, record),
        Verdict::FailJob => {
            let message = format!("index {index} ended with exit code {exit_code}, which is not retried");
            record.end = Some(failed("PodFailurePolicy", message));
        }
    }
    conclude(spec, record);
    if record.end.is_some() && record.completion_time.is_none() {
        record.completion_time = Some(now.clone());
    }
}

fn count_failure(spec: &JobSpec, record: &mut Record) {
    record.failures += 1;
    let limit = positive(spec.backoff_limit, 6);
    if record.failures > limit {
        record.end = Some(failed("BackoffLimitExceeded", format!("failed more than {limit} times")));
    }
}

fn conclude(spec: &JobSpec, record: &mut Record) {
    if record.end.is_none() && record.succeeded.len() >= completions(spec) as usize {
        record.end = Some(End::Complete);
    }
}

/// How a Job ends that is given up for a reason of its own.
pub(super) fn failed(reason: &str, message: String) -> End {
    End::Failed { reason: reason.to_owned(), message }
}

/// The Job with the status that the Job controller would give it.
pub(super) fn with_status(job: &Job, record: &Record, active: usize) -> Job {
    let indexed = job.spec.as_ref().is_some_and(is_indexed);
    let status = JobStatus {
        active: (active > 0).then_some(i32::try_from(active).unwrap_or(i32::MAX)),
        succeeded: (!record.succeeded.is_empty()).then(|| i32::try_from(record.succeeded.len()).unwrap_or(i32::MAX)),
        failed: (record.failures > 0).then(|| i32::try_from(record.failures).unwrap_or(i32::MAX)),
        completed_indexes: indexed.then(|| ranges(&record.succeeded)),
        conditions: record.end.as_ref().map(|end| conditions(end, record.completion_time.as_ref())),
        start_time: record.start_time.clone(),
        completion_time: record.completion_time.clone().filter(|_| record.end == Some(End::Complete)),
        ..JobStatus::default()
    };
    Job { status: Some(status), ..job.clone() }
}

fn conditions(end: &End, time: Option<&Time>) -> Vec<JobCondition> {
    let condition = |type_: &str, reason: Option<&String>, message: Option<&String>| JobCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: reason.cloned(),
        message: message.cloned(),
        last_transition_time: time.cloned(),
        last_probe_time: None,
    };
    match end {
        End::Complete => vec![condition("SuccessCriteriaMet", None, None), condition("Complete", None, None)],
        End::Failed { reason, message } => vec![
            condition("FailureTarget", Some(reason), Some(message)),
            condition("Failed", Some(reason), Some(message)),
        ],
    }
}

/// `0-2,4`, as Kubernetes writes sets of indexes.
fn ranges(indexes: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let texts =
        runs.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(extra: &serde_json::Value) -> JobSpec {
        let mut value = json!({"template": {}, "backoffLimit": 1});
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn now() -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(1_700_000_000).unwrap())
    }

    /// Runs a Job to its end; `codes` are the exits in order. Gives the end and the starts before each exit.
    fn play(spec: &JobSpec, codes: &[i32]) -> (Option<End>, Vec<Vec<u32>>) {
        let (mut record, mut active, mut history) = (Record::default(), BTreeSet::new(), Vec::new());
        for &code in codes {
            let started = starts(spec, &record, &active);
            active.extend(&started);
            history.push(started);
            let index = active.pop_first().expect("a process runs");
            enter_exit(spec, &mut record, index, code, &now());
        }
        (record.end, history)
    }

    fn failed_reason(end: Option<End>) -> String {
        match end {
            Some(End::Failed { reason, .. }) => reason,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn an_indexed_job_runs_as_many_at_once_as_it_says_and_ends_complete() {
        let spec = spec(&json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}));
        let (end, history) = play(&spec, &[0, 0, 0]);
        assert_eq!(end, Some(End::Complete));
        assert_eq!(history, [vec![0, 1], vec![2], vec![]]);
    }

    #[test]
    fn the_rules_for_exit_codes_decide_in_order() {
        let policy = json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2]}},
            {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}},
        ]});
        let spec = spec(&json!({"podFailurePolicy": policy}));
        let cases = [
            (vec![2], "PodFailurePolicy"),
            (vec![75, 75, 75, 0], "Some(Complete)"),
            (vec![1, 0], "Some(Complete)"),
            (vec![1], "None"),
            (vec![1, 1], "BackoffLimitExceeded"),
        ];
        for (codes, expected) in cases {
            assert_eq!(failed_reason(play(&spec, &codes).0), expected, "{codes:?}");
        }
    }

    #[test]
    fn failures_of_all_indexes_count_together() {
        let spec = spec(&json!({"completions": 3, "parallelism": 1, "completionMode": "Indexed"}));
        let (end, history) = play(&spec, &[1, 0, 1]);
        assert_eq!(failed_reason(end), "BackoffLimitExceeded");
        assert_eq!(history, [vec![0], vec![0], vec![1]]);
    }

    #[test]
    fn a_suspended_job_starts_nothing() {
        assert!(starts(&spec(&json!({"suspend": true})), &Record::default(), &BTreeSet::new()).is_empty());
    }

    #[test]
    fn the_status_reads_as_from_a_cluster() {
        let spec = spec(&json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"}));
        let mut record = Record { start_time: Some(now()), ..Record::default() };
        for index in [0, 1, 3] {
            enter_exit(&spec, &mut record, index, 0, &now());
        }
        let job = Job { spec: Some(spec.clone()), ..Job::default() };
        let status = with_status(&job, &record, 1).status.unwrap();
        assert_eq!(status.completed_indexes.as_deref(), Some("0-1,3"));
        assert_eq!((status.active, status.succeeded), (Some(1), Some(3)));
        assert_eq!(status.conditions, None);
        enter_exit(&spec, &mut record, 2, 0, &now());
        let status = with_status(&job, &record, 0).status.unwrap();
        let types: Vec<_> = status.conditions.unwrap().into_iter().map(|condition| condition.type_).collect();
        assert_eq!(types, ["SuccessCriteriaMet", "Complete"]);
        assert_eq!(status.completion_time, Some(now()));
    }
}
