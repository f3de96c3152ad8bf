//! The status of a `CllmModel`: what is served now.

#![expect(unreachable_pub, reason = "KubeSchema makes private copies of the public structs")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status_page::MeasuredSpeedup;

/// What is served now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CllmModelStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Replicas that exist.
    #[serde(default)]
    pub replicas: i32,

    /// Replicas that answer.
    #[serde(default)]
    pub ready_replicas: i32,

    /// Selects the Pods of the replicas, for the autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,

    /// Where the OpenAI API answers within the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// What was resolved for this spec, and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ServedModel>,

    /// How the replicas decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_strategy: Option<String>,

    /// How far the replica that needs longest is with its download; absent when none downloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactProgress>,

    /// What the replicas deliver; renewed at most every 30 seconds and on a change of more than 5 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,

    /// What Jacobi decoding gains, as the slowest of the replicas measured it before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<MeasuredSpeedup>,

    /// The same in the words that `kubectl get` prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<ModelSummary>,

    /// The last failure of a Pod, also when it has recovered since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,

    /// The last time that no replica answered after one had, as during a rollout in place; of a model scaled to zero it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_downtime: Option<Downtime>,

    /// What is true now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A model in the words that `kubectl get` prints: its columns cannot format a figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSummary {
    /// Replicas that answer of those that are wanted, as `2/3`.
    pub replicas: String,
    /// What Jacobi decoding gains, as `2.10x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speedup: Option<String>,
}

/// What was resolved for a spec, and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedModel {
    /// The checkpoint.
    pub uri: String,

    /// `sha256:` and 64 hexadecimal digits; absent until it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,

    /// Number of weights; absent until a replica has loaded them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,

    /// The image of the replicas, resolved once for a spec.
    pub image: String,

    /// Of the spec without `replicas` and `paused`: the image is resolved anew only when it changes.
    pub spec_hash: String,

    /// The checkpoint with which all replicas last answered: what the operator goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<CheckpointReference>,

    /// The good one before that, which spec.model.digest may name to go back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_good: Option<CheckpointReference>,

    /// The checkpoint that no replica could or may serve; not tried again until the spec changes or the training gives another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_digest: Option<String>,

    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
}

/// A checkpoint and where it lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointReference {
    /// Where it lies.
    pub uri: String,

    /// `sha256:` and 64 hexadecimal digits; absent if no replica said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Why a checkpoint was rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejection {
    /// Where it lies.
    pub uri: String,

    /// In one word, as on the conditions.
    pub reason: String,

    /// In a sentence.
    pub message: String,
}

/// A failure of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The Pod; absent when it could not even be created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,

    /// The container, unless it is the Pod as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,

    /// One word, as in the condition Degraded.
    pub reason: String,

    /// How the container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,

    /// What happened, and what to do next.
    pub message: String,

    /// When it ended, or since when it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// A time without a replica that answered, as the operator saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Downtime {
    /// The first look without such a replica.
    pub started_at: Time,

    /// Absent while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,

    /// From the one to the other in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,

    /// `Rollout` if the replicas were being replaced, else `ReplicasLost`.
    pub reason: String,
}

/// What the replicas deliver; decimals are strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Throughput {
    /// Generated tokens per second, all replicas together.
    pub tokens_per_second: String,

    /// What they can deliver with all their slots in use, as each measured it of itself; absent while one that answers does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_tokens_per_second: Option<String>,

    /// Tokens per forward, the mean of the replicas.
    pub tokens_per_forward: String,

    /// RFC 3339, UTC.
    pub measured_at: String,
}

/// How far a download is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactProgress {
    /// Bytes on the volume.
    pub bytes_done: u64,

    /// Bytes altogether; 0 until they are known.
    pub bytes_total: u64,

    /// Of the last half minute; absent until something came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,

    /// Absent until it can be estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<u64>,
}
