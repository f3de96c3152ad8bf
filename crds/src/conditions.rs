//! The types and reasons of the conditions on both resources: each constant says what it means and what to do.
//!
//! `Ready`, `Reconciling` and `Stalled` follow kstatus, so that Flux, `helm --wait` and `kubectl wait` understand them.

/// Types of conditions.
pub mod types {
    /// Summary, computed last: the model answers, or the training is complete.
    pub const READY: &str = "Ready";
    /// True while the operator or a Pod works towards the spec.
    pub const RECONCILING: &str = "Reconciling";
    /// True when nothing more happens until a person changes something.
    pub const STALLED: &str = "Stalled";
    /// True while a Pod shows a failure, or a CllmModel serves something other than was asked for; the message names the Pod and the next
    /// step. A Pod that is only starting shows none.
    pub const DEGRADED: &str = "Degraded";

    /// CllmModel: a replica has loaded the weights that the spec names.
    pub const MODEL_LOADED: &str = "ModelLoaded";
    /// CllmModel with `spec.autoscaling`: the autoscaler reads its metrics and may set the replicas; the message says what it does and why.
    pub const SCALING_ACTIVE: &str = "ScalingActive";
    /// Several Pods at once can use their claims from several nodes; absent where one Pod runs at a time, or none uses a claim.
    pub const STORAGE_SHARED: &str = "StorageShared";

    /// CllmTraining: every stage ended well and every gate passed.
    pub const COMPLETE: &str = "Complete";
    /// CllmTraining: it ended without a result that may be served.
    pub const FAILED: &str = "Failed";
    /// CllmTraining: `spec.suspend` holds it.
    pub const SUSPENDED: &str = "Suspended";
    /// CllmTraining: every shard of trajectories is written.
    pub const TRAJECTORIES_COLLECTED: &str = "TrajectoriesCollected";
    /// CllmTraining: the checkpoint is written.
    pub const TRAINED: &str = "Trained";
    /// CllmTraining: the loss of quality is within `spec.evaluation.maxQualityDrop`.
    pub const QUALITY_VERIFIED: &str = "QualityVerified";
    /// The speed-up reaches `spec.evaluation.minSpeedup` (CllmTraining) or `spec.gates.minSpeedup` (CllmModel).
    pub const SPEEDUP_VERIFIED: &str = "SpeedupVerified";
}

/// Reasons of conditions.
pub mod reasons {
    /// All is as the spec says.
    pub const AS_DECLARED: &str = "AsDeclared";
    /// Pods are being created, or load the weights; wait.
    pub const PROGRESSING: &str = "Progressing";
    /// Some replicas answer, others do not yet; look at the Pods if it stays so.
    pub const REPLICAS_NOT_READY: &str = "ReplicasNotReady";
    /// Enough replicas answer, and the autoscaler has added others; wait.
    pub const SCALING: &str = "Scaling";
    /// The Deployment made no progress in time; look at the Pods named in the message.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// `spec.replicas` is 0; raise it to serve.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// The spec contradicts itself; the message says what to change.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// An object of that name belongs to someone else and is left alone; rename or delete one of the two.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The API server refused or did not answer; the operator tries again.
    pub const API_ERROR: &str = "ApiError";
    /// `spec.model.trainingRef` names a training that does not exist; create it, or correct the name.
    pub const TRAINING_NOT_FOUND: &str = "TrainingNotFound";
    /// The training has no result yet; wait.
    pub const TRAINING_NOT_COMPLETE: &str = "TrainingNotComplete";
    /// The training failed or missed a gate, so its output is not served; train again under another name.
    pub const TRAINING_FAILED: &str = "TrainingFailed";
    /// `spec.model.digest` is no result of the trainings that `trainingRef` names; the message lists those that are. Correct it.
    pub const DIGEST_NOT_KNOWN: &str = "DigestNotKnown";
    /// The replicas refuse the checkpoint: it is gone, damaged, or has another digest. The message is theirs.
    pub const CHECKPOINT_REFUSED: &str = "CheckpointRefused";
    /// `spec.paused` is true, so nothing is changed; set it to false to go on.
    pub const PAUSED: &str = "Paused";
    /// The weights are loaded.
    pub const LOADED: &str = "Loaded";
    /// No replica has loaded the weights yet; wait.
    pub const LOADING: &str = "Loading";
    /// The autoscaler has its metrics.
    pub const METRICS_AVAILABLE: &str = "MetricsAvailable";
    /// The autoscaler has its metrics, but `spec.autoscaling.targetTokensPerSecond` is more than nine tenths of what a replica can deliver, so
    /// no load adds a replica: lower it, or set `targetUtilization` instead.
    pub const TARGET_ABOVE_CAPACITY: &str = "TargetAboveCapacity";
    /// The autoscaler has no metrics; wait for a replica that answers, or read its own words in the message.
    pub const METRICS_UNAVAILABLE: &str = "MetricsUnavailable";
    /// The operator does not serve the autoscaler's metrics, and nobody else does: turn `metricsAdapter.enabled` of the chart on, or serve them
    /// from Prometheus.
    pub const ADAPTER_DISABLED: &str = "AdapterDisabled";
    /// Another adapter owns `custom.metrics.k8s.io` and does not serve these metrics; the message names it: teach it to, or delete its
    /// APIService, so that the operator serves them.
    pub const FOREIGN_ADAPTER: &str = "ForeignAdapter";
    /// The autoscaler cannot read or write the number of replicas; the message is its own.
    pub const NOT_ABLE_TO_SCALE: &str = "NotAbleToScale";

    /// An image cannot be pulled; correct `spec.image`, or name credentials in `spec.imagePullSecrets`.
    pub const IMAGE_PULL_FAILED: &str = "ImagePullFailed";
    /// A Secret, ConfigMap or key of one is missing; create it, or correct its name in the spec.
    pub const CONTAINER_CONFIG_ERROR: &str = "ContainerConfigError";
    /// The node could not start a container; check that `spec.image` is an image of cllm for this processor.
    pub const CONTAINER_NOT_STARTED: &str = "ContainerNotStarted";
    /// A container ended with an error; the message has its exit code and last words.
    pub const CONTAINER_FAILED: &str = "ContainerFailed";
    /// A container that prepares the Pod ended with an error; the message has its exit code and last words.
    pub const INIT_CONTAINER_FAILED: &str = "InitContainerFailed";
    /// A container needed more memory than it may have; raise `resources.limits.memory` (of a CllmTraining: and train under another name).
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    /// No node takes a Pod; add or free one, or ask for less.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// A Pod had to leave its node; another takes its place.
    pub const EVICTED: &str = "Evicted";
    /// The node refused a Pod that it was given; look at the node.
    pub const REJECTED_BY_NODE: &str = "RejectedByNode";
    /// A volume cannot be attached or mounted; look at the claim or what else the message names.
    pub const MOUNT_FAILED: &str = "MountFailed";
    /// Several Pods may run at once and share a claim that only one node may use; the message names it and what helps.
    pub const ONE_NODE_ONLY: &str = "OneNodeOnly";
    /// A claim that the Pods use does not exist; create it, or correct its name in the spec.
    pub const CLAIM_NOT_FOUND: &str = "ClaimNotFound";
    /// A node does not answer and holds its Pods: bring it back, delete the Node, or taint it out-of-service.
    pub const NODE_LOST: &str = "NodeLost";
    /// A quota, pod security or a webhook refuses the Pods; allow them, or ask for less.
    pub const PODS_REFUSED: &str = "PodsRefused";

    /// No stage has started; wait.
    pub const PENDING: &str = "Pending";
    /// The Job waits in a queue; wait, or ask who runs the queue.
    pub const QUEUED: &str = "Queued";
    /// A stage runs; `status.stage` and `status.progress` say which and how far.
    pub const RUNNING: &str = "Running";
    /// `spec.suspend` is true; set it to false to go on.
    pub const SUSPENDED: &str = "Suspended";
    /// `spec.suspend` is false.
    pub const RESUMED: &str = "Resumed";
    /// Every stage ended well and every gate passed.
    pub const SUCCEEDED: &str = "Succeeded";
    /// The stage of that condition ended well.
    pub const STAGE_SUCCEEDED: &str = "StageSucceeded";
    /// The Pods of a stage failed too often; the message is the last one's. Correct the cause and train under another name.
    pub const STAGE_FAILED: &str = "StageFailed";
    /// A Pod refused its input (exit code 2); the message says what to correct. Train under another name.
    pub const BAD_INPUT: &str = "BadInput";
    /// A stage ran longer than `spec.activeDeadlineSeconds`; raise it and train under another name.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// A gate was missed. CllmTraining: the output is kept but never served. CllmModel: `spec.gates.onFailure` says what happens.
    pub const GATE_FAILED: &str = "GateFailed";
    /// The gate of that condition passed.
    pub const GATE_PASSED: &str = "GatePassed";
    /// The spec sets no bar for that condition; the figures are on the status.
    pub const NO_GATE: &str = "NoGate";
    /// Not measured yet; wait.
    pub const NOT_EVALUATED: &str = "NotEvaluated";
    /// The Pod of the last stage was gone before its summary was read, and reading the report again failed; it lies beside the checkpoint.
    pub const REPORT_LOST: &str = "ReportLost";
}
