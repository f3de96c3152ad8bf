//! What a model computes on, asked for and described.

use std::fs;
use std::thread;

use serde::Serialize;

use super::TensorOptions;
use crate::device::Device;
use crate::kernels::{InstructionSet, Storage};

/// How to compute. The default uses everything the process may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComputeOptions {
    /// Threads, the calling one included; 0 for as many as the process may use (CPU quotas of its control group count).
    pub threads: usize,
    /// Vector instructions; none for the best that the processor has.
    pub instruction_set: Option<InstructionSet>,
    /// Storage of the weights of linear layers; none for that of the checkpoint. A narrower one makes forwards cheaper and results
    /// less exact.
    pub storage: Option<Storage>,
    /// Compute in candle tensors, as GPUs need it, whose numbers are chosen there; none for our own kernels on the processor.
    pub tensors: Option<TensorOptions>,
}

impl ComputeOptions {
    /// The best way to compute on a device.
    pub fn on(device: Device) -> Self {
        let tensors = (device != Device::Cpu).then_some(TensorOptions { device, dtype: None });
        Self { tensors, ..Self::default() }
    }

    /// The number of threads to use.
    pub(super) fn threads(self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// What figures were measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HardwareDescription {
    /// Name of the processor, or of the GPU.
    pub processor: String,
    /// Threads that compute, or that feed the GPU.
    pub threads: usize,
    /// Name of the instruction set of the kernels, `cuda` on a GPU: tokens may differ between them.
    pub instruction_set: &'static str,
    /// Names of the storages of the weights, the widest first, joined by `+` where a checkpoint mixes them.
    pub storage: String,
}

/// The processor's name as the system gives it, its architecture otherwise.
pub(super) fn processor_name() -> String {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
