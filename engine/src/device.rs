//! What computes: the processor, or an NVIDIA GPU. The only place that chooses a device of candle's.

use std::fmt;
use std::str::FromStr;

use candle_core::Device as CandleDevice;
use thiserror::Error;

/// A device by its name: `cpu`, `cuda` (the first GPU) or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of this number, counted from 0 among those that the process may see.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// No such name.
    #[error("the device is {0:?}; write cpu, cuda or cuda:N, where N counts GPUs from 0")]
    Unknown(String),
    /// The program cannot speak to any GPU.
    #[error(
        "the device is {0}, but this program was built without the feature `cuda`; take the image whose name ends in -cuda, build with \
         --features cuda, or choose cpu"
    )]
    NotCompiled(Device),
    /// There is no such GPU, or its driver refuses.
    #[error(
        "the device is {device}, but it cannot be opened: {reason}. Check that nvidia-smi lists it here (in a Pod: that the container has \
         an `nvidia.com/gpu`), or choose cpu"
    )]
    Unavailable {
        /// The device.
        device: Device,
        /// What the driver said.
        reason: String,
    },
}

impl Device {
    /// Whether this program was built to use GPUs.
    pub const HAS_CUDA: bool = cfg!(feature = "cuda");

    /// The device for tensors.
    pub fn open(self) -> Result<CandleDevice, DeviceError> {
        match self {
            Self::Cpu => Ok(CandleDevice::Cpu),
            Self::Cuda(_) if !Self::HAS_CUDA => Err(DeviceError::NotCompiled(self)),
            Self::Cuda(index) => CandleDevice::new_cuda(index)
                .map_err(|error| DeviceError::Unavailable { device: self, reason: error.to_string() }),
        }
    }
}

/// The name of a GPU, as its driver gives it. None of the processor.
#[cfg(feature = "cuda")]
pub(crate) fn gpu_name(device: &CandleDevice) -> Option<String> {
    device.as_cuda_device().ok()?.cuda_stream().context().name().ok()
}

/// Without the feature there is no GPU.
#[cfg(not(feature = "cuda"))]
pub(crate) fn gpu_name(_device: &CandleDevice) -> Option<String> {
    None
}

/// Bytes that are free on a GPU. None of the processor.
#[cfg(feature = "cuda")]
pub(crate) fn free_gpu_memory(device: &CandleDevice) -> Option<u64> {
    use candle_core::cuda_backend::cudarc::driver::result::mem_get_info;
    device.as_cuda_device().ok()?.cuda_stream().context().bind_to_thread().ok()?;
    mem_get_info().ok().map(|(free, _)| free as u64)
}

/// Without the feature there is no GPU.
#[cfg(not(feature = "cuda"))]
pub(crate) fn free_gpu_memory(_device: &CandleDevice) -> Option<u64> {
    None
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let index = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => name.strip_prefix("cuda:").filter(|index| is_number(index)).and_then(|index| index.parse().ok()),
        };
        index.map(Self::Cuda).ok_or_else(|| DeviceError::Unknown(name.to_owned()))
    }
}

/// A sign is none.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (name, device, full) in [
            ("cpu", Device::Cpu, "cpu"),
            ("cuda", Device::Cuda(0), "cuda:0"),
            ("cuda:0", Device::Cuda(0), "cuda:0"),
            ("cuda:13", Device::Cuda(13), "cuda:13"),
        ] {
            assert_eq!(name.parse::<Device>().unwrap(), device);
            assert_eq!(device.to_string(), full);
        }
        for wrong in ["", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda 0", "cuda:99999999999999999999"]
        {
            let error = wrong.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("cuda:N"), "{error}");
        }
    }

    #[test]
    fn the_processor_is_always_there_and_a_missing_gpu_is_explained() {
        assert!(Device::Cpu.open().unwrap().is_cpu());
        // no machine has so many
        let error = Device::Cuda(4096).open().unwrap_err().to_string();
        let expected = if Device::HAS_CUDA { "nvidia-smi" } else { "built without the feature `cuda`" };
        assert!(error.contains("cuda:4096") && error.contains(expected), "{error}");
    }
}
