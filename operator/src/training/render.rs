//! From a training to its objects.

use std::marker::PhantomData;

use crate::resources::{Prepared, TrainingResources};
use crate::training::{ValidTraining, job, network_policy, workers, workspace};

/// The objects of the training. Always the same for the same resource and images.
pub fn render(training: &ValidTraining) -> TrainingResources<Prepared> {
    TrainingResources {
        workspace: workspace::claim(training),
        network_policy: network_policy::policy(training),
        service: workers::service(training),
        jobs: job::jobs(training),
        state: PhantomData,
    }
}
