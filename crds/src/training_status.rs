//! The status of a `CllmTraining`: what happens, and what came out.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::{Quality, Speedup};
use crate::status_page::{JobStage, Output, Progress, Trajectories};

/// What happens and what came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CllmTrainingStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// When the first stage was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,

    /// When the training completed or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,

    /// The image of all stages, resolved once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// What happens now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<TrainingStage>,

    /// How far the stage is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,

    /// What was collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trajectories: Option<Trajectories>,

    /// How much faster the result is, and than what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<Speedup>,

    /// How good the result is, and how good the target was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,

    /// The checkpoint that came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,

    /// The same in the words that `kubectl get` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<TrainingSummary>,

    /// The Jobs of the stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub jobs: Vec<JobSummary>,

    /// What is true now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A training in the words that `kubectl get` prints: its columns cannot format a figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrainingSummary {
    /// The stage, or Suspended.
    pub stage: String,
    /// How far the stage is, as `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Until the end of the stage, as `3m20s`; absent until it can be estimated, and after the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// Decode tokens per second over the target decoded autoregressively, as `2.10x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<String>,
    /// By spec.evaluation.metric, as `89.5%` or `perplexity 1.150`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
}

/// What a training does now, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrainingStage {
    /// Nothing has started.
    Pending,
    /// The Job waits in a queue.
    Queued,
    /// The target is fine-tuned.
    Adapting,
    /// Trajectories are collected.
    Collecting,
    /// The consistency model is trained.
    Training,
    /// The result is measured.
    Evaluating,
    /// Every stage ended well and every gate passed.
    Succeeded,
    /// There is no result that may be served.
    Failed,
}

impl From<JobStage> for TrainingStage {
    fn from(stage: JobStage) -> Self {
        match stage {
            JobStage::Adapting => Self::Adapting,
            JobStage::Collecting => Self::Collecting,
            JobStage::Training => Self::Training,
            JobStage::Evaluating => Self::Evaluating,
        }
    }
}

/// A Job of a training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSummary {
    /// The name of the Job.
    pub name: String,
    /// The stage that it runs.
    pub stage: JobStage,
    /// Pods that run or wait for a node.
    pub active: i32,
    /// Pods that ended well (in collection: shards).
    pub succeeded: i32,
    /// Pods that failed.
    pub failed: i32,
}
