//! A run over several processes: each computes gradients of its share of a batch, and all make the same update.
//!
//! A batch has a fixed number of parts, whose sums are added in their order (`parallel`). Process 0 adds its parts up and hands the sum
//! to process 1, which adds its own parts to it, and so on in the order of the indexes; then process 0 gives the total to all. The
//! result is that of a single process, bit for bit. That costs at most half as much traffic again as sums of whole shares would, which
//! would round differently on every number of processes; with two processes it costs none.
//!
//! Process 0 alone keeps the state, measures, reports and writes the output; the others need only what the gradients are made of.

mod arguments;
mod connection;
mod coordinator;
mod protocol;
mod reception;
mod worker;

use std::path::Path;

use serde_json::Value;

pub(crate) use arguments::Place;
pub use arguments::ProcessArguments;
pub(crate) use coordinator::Coordinator;
pub(crate) use worker::{Order, Worker};

use crate::failure::{Failure, Result};
use crate::parallel::{PartSums, Share, Sums};
use crate::progress::Reporter;

/// A process that computes gradients with others.
pub(crate) trait Member {
    /// Which parts of every batch it computes.
    fn share(&self) -> Share;

    /// Gives the sum over the whole batch for the sums of the share, as soon as all processes have theirs.
    fn exchange(&mut self, own: PartSums) -> Result<Sums>;
}

/// What a process is in its run.
#[derive(Debug)]
pub(crate) enum Group {
    /// It leads; alone, if there is one.
    Coordinator(Coordinator),
    /// It follows.
    Worker(Worker),
    /// There is nothing to do any more: process 0 has written the output.
    Complete,
}

/// Waits until all processes of the run have found each other. Fails where one does not come in time, or does not fit.
pub(crate) fn join(place: &Place, settings: &Value, output: &Path, reporter: &Reporter) -> Result<Group> {
    match &place.meeting {
        None => Ok(Group::Coordinator(Coordinator::new(Vec::new()))),
        Some(meeting) if place.leads() => {
            let workers = reception::gather(place, meeting, settings, reporter)?;
            Ok(Group::Coordinator(Coordinator::new(workers)))
        }
        Some(meeting) => worker::join(place, meeting, settings, output, reporter),
    }
}

/// Tells all other processes that the output is there already: they may have been started again after its last words.
pub(crate) fn tell_complete(place: &Place, settings: &Value, reporter: &Reporter) -> Result<()> {
    reception::dismiss(place, settings, (1..place.processes).collect(), reporter)
}

fn lost(index: u32, error: &std::io::Error) -> Failure {
    Failure::Lost(format!("process {index} is lost: {error}"))
}
