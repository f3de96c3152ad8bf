//! Under which rules the Pods of a stage are tried again.

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};

/// The trainer's exit code for input that no retry makes better.
const EXIT_BAD_INPUT: i32 = 2;
/// The trainer's exit code after SIGTERM and a checkpoint, and where another process of the same run is lost.
pub(crate) const EXIT_INTERRUPTED: i32 = 75;

/// Bad input ends the Job at once; interruptions and evictions do not count as failures.
pub(super) fn failure_policy(container: &str) -> PodFailurePolicy {
    let on_exit_code = |action: &str, code| PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(container.to_owned()),
            operator: "In".to_owned(),
            values: vec![code],
        }),
        on_pod_conditions: None,
    };
    let on_disruption = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
    };
    PodFailurePolicy {
        rules: vec![on_exit_code("FailJob", EXIT_BAD_INPUT), on_exit_code("Ignore", EXIT_INTERRUPTED), on_disruption],
    }
}
