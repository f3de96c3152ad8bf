//! `train`: consistency training on the trajectories of a target.
//!
//! One forward an example: the prompt with the fixed point, and beside it noisy blocks that continue it at several places. The model's
//! own distribution on the fixed point, or on the next state, teaches its distribution on the noisy states; cross-entropy on the fixed
//! point keeps the answers. That alone is what a control learns.

mod noise;
mod objective;
mod packing;
mod probe;
mod run;

pub use noise::{Consistency, NoiseSchedule, States};
pub use run::{TrainArguments, run};
