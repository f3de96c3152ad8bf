//! Which images run when a spec names none.

/// The default images. They are an input of validation, so that what is rendered depends on nothing hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Of the replicas of a CllmModel on processors; `-cuda` is appended for GPUs.
    pub server: String,
    /// Of the stages of a CllmTraining.
    pub trainer: String,
}

impl Images {
    /// The images that belong to this version of the operator.
    pub fn of_this_version() -> Self {
        Self::of_version("", env!("CARGO_PKG_VERSION"))
    }

    /// The images of a version in a registry (`"registry.example/team/"`; empty for none).
    pub fn of_version(registry: &str, version: &str) -> Self {
        Self {
            server: format!("{registry}cllm-server:{version}"),
            trainer: format!("{registry}cllm-trainer:{version}"),
        }
    }
}
