//! The two resources of cllm and the shapes in which its programs report: types only, no client.

#![expect(
    clippy::doc_markdown,
    reason = "the comments are the descriptions in the CRDs, which people read as plain text"
)]

mod access;
pub mod conditions;
pub mod definitions;
mod model;
mod model_status;
mod pod;
pub mod report;
mod rules;
mod serving;
pub mod status_page;
mod training;
mod training_keep;
mod training_method;
mod training_stages;
mod training_status;

pub use access::{Access, CaBundleReference, SecretReference};
pub use model::{
    CllmModel, CllmModelSpec, Decoding, Device, GateFailure, Gates, ModelSource, PromptsReference, PromptsSource,
    Strategy, TrainingReference, TrainingSelector,
};
pub use model_status::{
    ArtifactProgress, CheckpointReference, CllmModelStatus, Downtime, Failure, ModelSummary, Rejection, ServedModel,
    Throughput,
};
pub use pod::{ImagePullPolicy, PodOptions, StagePodOptions};
pub use rules::NAME_MAX_LENGTH;
pub use serving::{
    Autoscaling, Cache, NetworkPolicyOptions, PodDisruptionBudgetOptions, Rollout, RolloutStrategy, ServerOptions,
    ServiceOptions,
};
pub use training::{AccessMode, CllmTraining, CllmTrainingSpec, Dataset, OutputTarget, TargetModel, Workspace};
pub use training_keep::Keep;
pub use training_method::{LoraOptions, TrainingMethod};
pub use training_stages::{
    Adaptation, Consistency, Evaluation, NoiseSchedule, QualityMetric, States, TrainingOptions, TrajectoryOptions,
};
pub use training_status::{CllmTrainingStatus, JobSummary, TrainingStage, TrainingSummary};
