//! The two resources of cllm and the shapes in which its programs report: types only, no client.

#![expect(
    clippy::doc_markdown,
    reason = "the comments are the descriptions in the CRDs, which people read as plain text"
)]

pub mod conditions;
pub mod definitions;
mod model;
mod pod;
pub mod report;
mod rules;
pub mod status_page;
mod training;

pub use model::{
    Autoscaling, CllmModel, CllmModelSpec, CllmModelStatus, Decoding, Device, ModelSource, NetworkPolicyOptions,
    PodDisruptionBudgetOptions, Rollout, RolloutStrategy, ServedModel, ServerOptions, ServiceOptions, Strategy,
    Throughput, TrainingReference,
};
pub use pod::{ImagePullPolicy, PodOptions};
pub use rules::{DECIMAL_PATTERN, NAME_MAX_LENGTH, NAME_PATTERN, URI_MAX_LENGTH};
pub use training::{
    AccessMode, Adaptation, CllmTraining, CllmTrainingSpec, CllmTrainingStatus, Dataset, Evaluation, JobSummary,
    NoiseSchedule, OutputTarget, QualityMetric, States, TargetModel, TrainingOptions, TrainingStage, TrajectoryOptions,
    Workspace,
};
