//! What a training's status says, derived from what was observed and what it said before. `Ready` is computed last.

use cllm_crds::conditions::{reasons, types};
use cllm_crds::status_page::{JobStage, Progress};
use cllm_crds::{CllmTrainingStatus, JobSummary, TrainingStage};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::conditions::{Conditions, Truth, find as find_condition};
use crate::failure::{self, PodFailure};
use crate::resources::StagedJob;
use crate::sharing::set_shared;
use crate::training::gates::{self, Verdict};
use crate::training::outcome::{find, of_job as of_single_job};
use crate::training::progress::of_shards;
use crate::training::trajectories::total;
use crate::training::{Observed, StageOutcome, ValidTraining, job, outcome};

/// Where a training stands as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// The next stage has no Job yet.
    Waiting(JobStage),
    /// The Job of that stage exists.
    Running { stage: JobStage, is_suspended: bool },
    /// All stages ended well, and the summary of the last one has not arrived.
    AwaitingReport,
    /// All stages ended well, every gate passed.
    Succeeded,
    /// No result that may be served.
    Failed { reason: &'static str, message: String },
}

/// The status. A training that has ended keeps the one it has.
pub fn status(
    training: &ValidTraining,
    observed: &Observed,
    previous: &CllmTrainingStatus,
    now: Timestamp,
) -> CllmTrainingStatus {
    if training.is_terminal {
        let summary = Some(super::summary(previous));
        return CllmTrainingStatus { observed_generation: training.generation, summary, ..previous.clone() };
    }
    let jobs = job::jobs(training);
    let mut next = CllmTrainingStatus {
        observed_generation: training.generation,
        image: Some(training.image.clone()),
        jobs: summaries(training, &jobs, observed),
        ..previous.clone()
    };
    if !observed.jobs.is_empty() {
        next.start_time.get_or_insert(Time(now));
    }
    let report_name = job::report(training).and_then(|report| report.metadata.name);
    take_results(&mut next, &jobs, report_name, observed);
    let speedup = gates::speedup(training, next.speedup.as_ref());
    let quality = gates::quality(training, next.quality.as_ref());
    let phase = phase(training, &jobs, observed, &next, [&speedup, &quality]);
    next.stage = Some(stage_word(training, &phase, next.start_time.is_some()));
    next.progress = progress(training, &phase, observed, previous, now);
    if matches!(phase, Phase::Succeeded | Phase::Failed { .. }) {
        next.completion_time.get_or_insert(Time(now));
    }
    let mut conditions = Conditions::from_previous(&previous.conditions, training.generation, now);
    set_stage_conditions(&mut conditions, training, &jobs, observed);
    conditions.set(types::SPEEDUP_VERIFIED, speedup.truth, speedup.reason, speedup.message);
    conditions.set(types::QUALITY_VERIFIED, quality.truth, quality.reason, quality.message);
    set_suspended(&mut conditions, training);
    failure::set_degraded(&mut conditions, &current_failures(training, &jobs, &phase, observed));
    let replicated = if training.owner.is_in_cluster() { job::replicated(training) } else { Vec::new() };
    set_shared(&mut conditions, &replicated, &observed.claims);
    set_summary(&mut conditions, training, &phase);
    next.conditions = conditions.into_list();
    next.summary = Some(super::summary(&next));
    next
}

/// The status of a training that cannot run as it is written: nothing is started, what runs goes on.
pub fn refused(
    previous: &CllmTrainingStatus,
    generation: Option<i64>,
    (reason, message): (&str, String),
    now: Timestamp,
) -> CllmTrainingStatus {
    let mut conditions = Conditions::from_previous(&previous.conditions, generation, now);
    conditions.set(types::RECONCILING, false, reason, message.clone());
    conditions.set(types::STALLED, true, reason, message.clone());
    conditions.set(types::READY, false, reason, message);
    let mut next = CllmTrainingStatus {
        observed_generation: generation,
        stage: previous.stage.or(Some(TrainingStage::Pending)),
        conditions: conditions.into_list(),
        ..previous.clone()
    };
    next.summary = Some(super::summary(&next));
    next
}

/// The status of a training when a step failed that is tried again.
pub fn delayed(
    previous: &CllmTrainingStatus,
    generation: Option<i64>,
    (reason, message): (&str, String),
    now: Timestamp,
) -> CllmTrainingStatus {
    let mut conditions = Conditions::from_previous(&previous.conditions, generation, now);
    conditions.set(types::RECONCILING, true, reason, message);
    CllmTrainingStatus { conditions: conditions.into_list(), ..previous.clone() }
}

/// One line for each Job; what is gone is remembered.
fn summaries(training: &ValidTraining, jobs: &[StagedJob], observed: &Observed) -> Vec<JobSummary> {
    jobs.iter()
        .filter_map(|StagedJob { stage, job }| {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let remembered = || training.recorded_jobs.iter().find(|summary| summary.name == name).cloned();
            find(&observed.jobs, name).map(|job| summary(name, *stage, job)).or_else(remembered)
        })
        .collect()
}

fn summary(name: &str, stage: JobStage, job: &Job) -> JobSummary {
    let status = job.status.clone().unwrap_or_default();
    JobSummary {
        name: name.to_owned(),
        stage,
        active: status.active.unwrap_or_default(),
        succeeded: status.succeeded.unwrap_or_default(),
        failed: status.failed.unwrap_or_default(),
    }
}

/// Copies what the Pods said at their end.
fn take_results(next: &mut CllmTrainingStatus, jobs: &[StagedJob], report_name: Option<String>, observed: &Observed) {
    let report = report_name.and_then(|name| observed.messages.get(&name)).into_iter().flatten();
    let words = jobs.iter().flat_map(|staged| messages(observed, staged)).chain(report);
    let collected: Vec<_> = words.clone().filter_map(|message| message.trajectories.as_ref()).collect();
    let sum = total(&collected);
    // Pods of finished shards may be gone: what was counted once is kept.
    if !collected.is_empty() && next.trajectories.as_ref().is_none_or(|known| known.examples <= sum.examples) {
        next.trajectories = Some(sum);
    }
    for message in words {
        if let Some(speedup) = &message.speedup {
            next.speedup = Some(speedup.clone());
        }
        if let Some(quality) = &message.quality {
            next.quality = Some(quality.clone());
        }
        if let Some(output) = &message.output {
            next.output = Some(output.clone());
        }
    }
}

fn messages<'a>(observed: &'a Observed, staged: &StagedJob) -> &'a [cllm_crds::status_page::TerminationMessage] {
    let name = staged.job.metadata.name.as_deref().unwrap_or_default();
    observed.messages.get(name).map(Vec::as_slice).unwrap_or_default()
}

fn phase(
    training: &ValidTraining,
    jobs: &[StagedJob],
    observed: &Observed,
    next: &CllmTrainingStatus,
    verdicts: [&Verdict; 2],
) -> Phase {
    let degraded = find_condition(&next.conditions, types::DEGRADED).filter(|condition| condition.status == "True");
    let held_up = degraded.map(|condition| condition.message.as_str());
    for staged in jobs {
        match outcome(training, staged, observed) {
            StageOutcome::Complete => {}
            StageOutcome::Missing => return Phase::Waiting(staged.stage),
            StageOutcome::Running { is_suspended } => return Phase::Running { stage: staged.stage, is_suspended },
            StageOutcome::Failed { reason, message } => return ended(staged, observed, &reason, &message, held_up),
        }
    }
    if next.output.is_none() || next.speedup.is_none() || next.quality.is_none() {
        return awaiting_report(training, observed);
    }
    match verdicts.iter().find(|verdict| verdict.is_missed()) {
        Some(_) => Phase::Failed { reason: reasons::GATE_FAILED, message: missed(verdicts) },
        None => Phase::Succeeded,
    }
}

fn missed(verdicts: [&Verdict; 2]) -> String {
    let sentences: Vec<_> =
        verdicts.iter().filter(|verdict| verdict.is_missed()).map(|verdict| verdict.message.as_str()).collect();
    format!("{} The output is kept, and never served.", sentences.join(" "))
}

/// A stage that will not be tried again. The Pods say best why; when the Job has deleted them, what held it up before.
fn ended(staged: &StagedJob, observed: &Observed, reason: &str, message: &str, held_up: Option<&str>) -> Phase {
    let failure = failure::last(&of_job(observed, staged), None);
    let is_out_of_memory = failure.as_ref().is_some_and(|failure| failure.reason == reasons::OUT_OF_MEMORY);
    let reason = match reason {
        "PodFailurePolicy" => reasons::BAD_INPUT,
        "DeadlineExceeded" => reasons::DEADLINE_EXCEEDED,
        _ if is_out_of_memory => reasons::OUT_OF_MEMORY,
        _ => reasons::STAGE_FAILED,
    };
    let of_pod = failure.map(|failure| failure::sentence(&failure));
    let last_words = || messages(observed, staged).iter().rev().find_map(|message| message.error.clone());
    let of_job = || match held_up {
        Some(before) => format!("{message}. {before}"),
        None => message.to_owned(),
    };
    let message = of_pod.or_else(last_words).unwrap_or_else(of_job);
    Phase::Failed { reason, message: format!("{:?} failed: {message}", staged.stage) }
}

/// The failures of the Pods of a stage.
fn of_job(observed: &Observed, staged: &StagedJob) -> Vec<PodFailure> {
    let is_of = |found: &&PodFailure| found.job == staged.job.metadata.name;
    observed.failures.iter().filter(is_of).cloned().collect()
}

/// The failures of the stage that runs; those of stages that ended are history.
fn current_failures(
    training: &ValidTraining,
    jobs: &[StagedJob],
    phase: &Phase,
    observed: &Observed,
) -> Vec<PodFailure> {
    match phase {
        Phase::Running { stage, is_suspended: false } if !training.spec.suspend => {
            jobs.iter().filter(|staged| staged.stage == *stage).flat_map(|staged| of_job(observed, staged)).collect()
        }
        Phase::AwaitingReport => {
            let report = job::report(training).and_then(|report| report.metadata.name);
            observed.failures.iter().filter(|found| found.job == report).cloned().collect()
        }
        _ => Vec::new(),
    }
}

/// All stages ended well, but the Pod of the last one was gone before its summary was read: a Job reads the stored report.
fn awaiting_report(training: &ValidTraining, observed: &Observed) -> Phase {
    let report = job::report(training).and_then(|report| report.metadata.name).unwrap_or_default();
    let ended = match find(&observed.jobs, &report).map(of_single_job) {
        None | Some(StageOutcome::Running { .. } | StageOutcome::Missing) => return Phase::AwaitingReport,
        Some(StageOutcome::Complete) => "its Pod was gone before it was read, too".to_owned(),
        Some(StageOutcome::Failed { reason: _, message }) => {
            let failures: Vec<_> =
                observed.failures.iter().filter(|found| found.job.as_ref() == Some(&report)).cloned().collect();
            failure::last(&failures, None).map_or(message, |failure| failure::sentence(&failure))
        }
    };
    let message = format!(
        "The last stage ended well, but its Pod was gone before its summary was read, and Job {report}, which reads the stored report, \
         did not help: {} report.json lies beside the checkpoint, in a new folder of {}.",
        as_sentence(&ended),
        training.output
    );
    Phase::Failed { reason: reasons::REPORT_LOST, message }
}

fn as_sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

fn stage_word(training: &ValidTraining, phase: &Phase, has_started: bool) -> TrainingStage {
    match phase {
        Phase::Waiting(stage) if has_started => (*stage).into(),
        Phase::Waiting(_) => TrainingStage::Pending,
        Phase::Running { is_suspended: true, .. } if !training.spec.suspend => TrainingStage::Queued,
        Phase::Running { stage, .. } => (*stage).into(),
        Phase::AwaitingReport => TrainingStage::Evaluating,
        Phase::Succeeded => TrainingStage::Succeeded,
        Phase::Failed { .. } => TrainingStage::Failed,
    }
}

fn progress(
    training: &ValidTraining,
    phase: &Phase,
    observed: &Observed,
    previous: &CllmTrainingStatus,
    now: Timestamp,
) -> Option<Progress> {
    let stage = match phase {
        Phase::Waiting(stage) | Phase::Running { stage, .. } => *stage,
        Phase::AwaitingReport | Phase::Failed { .. } => return previous.progress.clone(),
        Phase::Succeeded => return Some(finished(previous, now)),
    };
    let page = observed.page.as_ref().filter(|page| page.stage == stage).map(|page| page.progress.clone());
    let known = previous.progress.clone().filter(|_| previous.stage == Some(stage.into()));
    if stage != JobStage::Collecting {
        return page.or(known);
    }
    of_shards(page, known, written_shards(training, observed), training.spec.trajectories.shards)
}

fn written_shards(training: &ValidTraining, observed: &Observed) -> u32 {
    let collecting = job::jobs(training).into_iter().find(|staged| staged.stage == JobStage::Collecting);
    let name = collecting.and_then(|staged| staged.job.metadata.name).unwrap_or_default();
    let succeeded = find(&observed.jobs, &name).and_then(|job| job.status.as_ref()?.succeeded).unwrap_or_default();
    u32::try_from(succeeded).unwrap_or_default()
}

fn finished(previous: &CllmTrainingStatus, now: Timestamp) -> Progress {
    Progress {
        progress_percentage: 100,
        estimated_remaining_seconds: Some(0),
        metrics: previous.progress.iter().flat_map(|progress| progress.metrics.clone()).collect(),
        last_updated_time: now.to_string(),
    }
}

fn set_stage_conditions(
    conditions: &mut Conditions,
    training: &ValidTraining,
    jobs: &[StagedJob],
    observed: &Observed,
) {
    for (stage, type_) in [(JobStage::Collecting, types::TRAJECTORIES_COLLECTED), (JobStage::Training, types::TRAINED)]
    {
        let Some(staged) = jobs.iter().find(|staged| staged.stage == stage) else { continue };
        let name = staged.job.metadata.name.as_deref().unwrap_or_default();
        let (reason, message) = match outcome(training, staged, observed) {
            StageOutcome::Complete => (reasons::STAGE_SUCCEEDED, format!("Job {name} ended well.")),
            StageOutcome::Running { .. } => (reasons::RUNNING, format!("Job {name} has not ended.")),
            StageOutcome::Failed { .. } => (reasons::STAGE_FAILED, format!("Job {name} failed.")),
            StageOutcome::Missing => (reasons::PENDING, "The stage has not started.".to_owned()),
        };
        conditions.set(type_, reason == reasons::STAGE_SUCCEEDED, reason, message);
    }
}

fn set_suspended(conditions: &mut Conditions, training: &ValidTraining) {
    if !training.spec.suspend {
        return conditions.set(types::SUSPENDED, false, reasons::RESUMED, "spec.suspend is false.");
    }
    let message = if training.queue_labels.is_empty() {
        "No stage runs; set spec.suspend to false to go on."
    } else {
        "No further stage is started; the running one belongs to its queue. Set spec.suspend to false to go on."
    };
    conditions.set(types::SUSPENDED, true, reasons::SUSPENDED, message);
}

fn running(stage: JobStage, conditions: &Conditions) -> String {
    match conditions.get(types::DEGRADED).filter(|condition| condition.status == Truth::True.as_str()) {
        Some(degraded) => format!("{stage:?} is held up: {}", degraded.message),
        None => format!("{stage:?} is running."),
    }
}

/// Complete, Failed, Reconciling, Stalled, and from them Ready.
fn set_summary(conditions: &mut Conditions, training: &ValidTraining, phase: &Phase) {
    let (reason, message) = match phase {
        _ if training.spec.suspend && !matches!(phase, Phase::Succeeded | Phase::Failed { .. }) => {
            (reasons::SUSPENDED, "spec.suspend holds the training.".to_owned())
        }
        Phase::Waiting(stage) => (reasons::PENDING, format!("{stage:?} is about to start.")),
        Phase::Running { stage, is_suspended: true } => (reasons::QUEUED, format!("{stage:?} waits in a queue.")),
        Phase::Running { stage, is_suspended: false } => (reasons::RUNNING, running(*stage, conditions)),
        Phase::AwaitingReport => (reasons::RUNNING, "The report of the last stage is read again.".to_owned()),
        Phase::Succeeded => (reasons::SUCCEEDED, "Every stage ended well and every gate passed.".to_owned()),
        Phase::Failed { reason, message } => (*reason, message.clone()),
    };
    let (has_succeeded, has_failed) = (*phase == Phase::Succeeded, matches!(phase, Phase::Failed { .. }));
    conditions.set(types::COMPLETE, has_succeeded, reason, message.clone());
    conditions.set(types::FAILED, has_failed, reason, message.clone());
    conditions.set(types::RECONCILING, !has_succeeded && !has_failed, reason, message.clone());
    conditions.set(types::STALLED, has_failed, reason, message.clone());
    conditions.set(types::READY, Truth::from(has_succeeded), reason, message);
}
