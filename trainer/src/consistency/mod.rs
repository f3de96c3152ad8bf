//! `train`: consistency training on the trajectories of a target.
//!
//! One forward an example: the prompt with the fixed point, and beside it noisy blocks that continue it at several places. The model's
//! own distribution on the fixed point, or on the next state, teaches its distribution on the noisy states; cross-entropy on the fixed
//! point, or divergence from what the target says there (`labels`), keeps the answers. That alone is what a control learns. The states are those that the target went through, or that the model in
//! training goes through (`refresh`); the fixed points are always the target's.

mod labels;
mod noise;
mod objective;
mod packing;
mod present;
mod probe;
mod refresh;
mod run;

pub use labels::Labels;
pub use noise::{Consistency, NoiseSchedule, States};
pub use run::{TrainArguments, run};
