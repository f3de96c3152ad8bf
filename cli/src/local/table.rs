//! A status as a row of the table that people watch. Pure.

use cllm_crds::conditions::types;
use cllm_crds::status_page::Progress;
use cllm_crds::{CllmModelStatus, CllmTrainingStatus, TrainingStage};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::columns::columns;

/// What people see of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// `training/text2sql`.
    pub resource: String,
    /// In one word.
    pub stage: String,
    /// Of the stage.
    pub percentage: Option<u32>,
    /// To the end of the stage.
    pub remaining_seconds: Option<u64>,
    /// The last loss.
    pub loss: Option<String>,
    /// The last measurement.
    pub tokens_per_forward: Option<String>,
}

/// The row of a training.
pub(super) fn training_row(name: &str, status: &CllmTrainingStatus) -> Row {
    let is_suspended = is_true(&status.conditions, types::SUSPENDED);
    let stage = status.stage.unwrap_or(TrainingStage::Pending);
    let has_ended = matches!(stage, TrainingStage::Succeeded | TrainingStage::Failed);
    let progress = status.progress.as_ref();
    let measured = status.speedup.as_ref().map(|speedup| speedup.tokens_per_forward.clone());
    Row {
        resource: format!("training/{name}"),
        stage: if is_suspended && !has_ended { "Suspended".to_owned() } else { format!("{stage:?}") },
        percentage: progress.map(|progress| progress.progress_percentage),
        remaining_seconds: progress.and_then(|progress| progress.estimated_remaining_seconds).filter(|_| !has_ended),
        loss: metric(progress, "loss"),
        tokens_per_forward: measured.or_else(|| metric(progress, "tokensPerForward")),
    }
}

/// The row of a model.
pub(super) fn model_row(name: &str, status: &CllmModelStatus) -> Row {
    let stage = if is_true(&status.conditions, types::READY) {
        "Ready"
    } else if status.replicas > 0 {
        "Loading"
    } else {
        "Waiting"
    };
    Row {
        resource: format!("model/{name}"),
        stage: stage.to_owned(),
        tokens_per_forward: (status.throughput.as_ref().map(|throughput| throughput.tokens_per_forward.clone()))
            .or_else(|| status.speedup.as_ref().map(|measured| measured.tokens_per_forward.clone())),
        ..Row::default()
    }
}

/// Whether the condition of that type is true.
pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

fn metric(progress: Option<&Progress>, name: &str) -> Option<String> {
    progress?.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value.clone())
}

/// All rows as a table, without a line break at its end.
pub(super) fn render(rows: &[Row]) -> String {
    let heads = ["RESOURCE", "STAGE", "PROGRESS", "ETA", "LOSS", "TOKENS/FORWARD"];
    let cells = rows.iter().map(|row| {
        let figures = [
            row.percentage.map(|percentage| format!("{percentage} %")),
            row.remaining_seconds.map(duration),
            row.loss.clone(),
            row.tokens_per_forward.clone(),
        ];
        let figures = figures.map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
        [row.resource.clone(), row.stage.clone()].into_iter().chain(figures).collect()
    });
    columns(2, &heads, cells)
}

/// The same on one line, for logs.
pub(super) fn line(row: &Row) -> String {
    let mut details = Vec::new();
    details.extend(row.remaining_seconds.map(|seconds| format!("ETA {}", duration(seconds))));
    details.extend(row.loss.as_ref().map(|loss| format!("loss {loss}")));
    details.extend(row.tokens_per_forward.as_ref().map(|rate| format!("{rate} tokens per forward")));
    let percentage = row.percentage.map(|percentage| format!(" {percentage} %")).unwrap_or_default();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
    format!("{}: {}{percentage}{details}", row.resource, row.stage)
}

/// `48s`, `3m 20s`, `1h 02m`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use cllm_crds::status_page::Metric;

    use super::*;

    fn training() -> CllmTrainingStatus {
        let metric = |name: &str, value: &str| Metric { name: name.to_owned(), value: value.to_owned() };
        CllmTrainingStatus {
            stage: Some(TrainingStage::Training),
            progress: Some(Progress {
                progress_percentage: 42,
                estimated_remaining_seconds: Some(200),
                metrics: vec![metric("loss", "1.25"), metric("tokensPerForward", "2.10")],
                last_updated_time: String::new(),
            }),
            ..CllmTrainingStatus::default()
        }
    }

    #[test]
    fn a_running_training_and_a_waiting_model() {
        let rows = [training_row("shop", &training()), model_row("shop", &CllmModelStatus::default())];
        insta::assert_snapshot!(render(&rows), @r"
        RESOURCE       STAGE     PROGRESS     ETA  LOSS  TOKENS/FORWARD
        training/shop  Training      42 %  3m 20s  1.25            2.10
        model/shop     Waiting          -       -     -               -
        ");
        assert_eq!(line(&rows[0]), "training/shop: Training 42 % (ETA 3m 20s, loss 1.25, 2.10 tokens per forward)");
        assert_eq!(line(&rows[1]), "model/shop: Waiting");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3720, "1h 02m")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
