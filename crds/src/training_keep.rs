//! Which weights of a run of a `CllmTraining` become its result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which weights become the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Keep {
    /// Those of the best check on dataset.validationUri; without it the last ones.
    #[default]
    Best,
    /// Those after the last step.
    Last,
}

impl Keep {
    /// As the trainer's argument spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Best => "Best",
            Self::Last => "Last",
        }
    }
}
