//! From a model and its checkpoint to its objects.

use std::marker::PhantomData;

use crate::model::{
    ResolvedModel, ValidModel, autoscaler, cache, deployment, disruption_budget, network_policy, service,
};
use crate::resources::{ModelResources, Prepared};

/// The objects of the model. Always the same for the same resource, checkpoint and images.
pub fn render(model: &ValidModel, checkpoint: &ResolvedModel) -> ModelResources<Prepared> {
    ModelResources {
        cache: cache::claim(model),
        network_policy: network_policy::policy(model, checkpoint),
        deployment: deployment::deployment(model, checkpoint),
        service: service::service(model),
        disruption_budget: disruption_budget::budget(model),
        autoscaler: autoscaler::autoscaler(model),
        state: PhantomData,
    }
}

/// What all children but the Service are called; the Service has the name of the model, which stands in its URL.
pub(super) fn child_name(model: &ValidModel) -> String {
    format!("{}-model", model.owner.name)
}
