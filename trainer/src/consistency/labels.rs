//! What the answers of the target are kept by.

/// What the model shall predict where nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum Labels {
    /// The tokens of the target's answers: cross-entropy, as in arXiv 2403.00835, section 3.2.
    Tokens,
    /// The target's distribution at each of them (soft labels, arXiv 1503.02531): forward divergence from it.
    Distributions,
}
