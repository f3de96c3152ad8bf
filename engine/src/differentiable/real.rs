//! The two number types of the differentiable forward, and access to the values of candle tensors. No operations.

use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, WithDType, bail};

/// `f32` for training, `f64` for checking gradients.
pub(super) trait Real: WithDType {
    /// e to the power of `self`; for f32 within 2 ulp and written so that loops over it become vector instructions.
    fn exponential(self) -> Self;
    /// Natural logarithm.
    fn logarithm(self) -> Self;
    /// Square root.
    fn square_root(self) -> Self;
    /// Exact widening.
    fn from_f32(value: f32) -> Self;
}

impl Real for f32 {
    #[inline]
    fn exponential(self) -> Self {
        exponential_f32(self)
    }
    fn logarithm(self) -> Self {
        self.ln()
    }
    fn square_root(self) -> Self {
        self.sqrt()
    }
    fn from_f32(value: f32) -> Self {
        value
    }
}

impl Real for f64 {
    fn exponential(self) -> Self {
        self.exp()
    }
    fn logarithm(self) -> Self {
        self.ln()
    }
    fn square_root(self) -> Self {
        self.sqrt()
    }
    fn from_f32(value: f32) -> Self {
        Self::from(value)
    }
}

/// Cody–Waite reduction to ±ln 2 / 2 and a polynomial of degree 6, without branches.
#[inline]
fn exponential_f32(x: f32) -> f32 {
    // adding and subtracting 1.5 · 2^23 rounds to the nearest integer and leaves it in the low bits
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let integer = rounded - ROUND;
    let r = x - integer * LN_2_HIGH - integer * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let fraction = p * r * r + r + 1.0;
    let exponent = (rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    fraction * f32::from_bits(exponent)
}

/// The values of a contiguous CPU storage.
pub(super) fn values<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "the differentiable forward takes contiguous tensors, found the layout {layout:?}; call `contiguous` first"
        )
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// Calls `body` with the values of a contiguous CPU tensor.
pub(super) fn with_values<T: Real, R>(tensor: &Tensor, body: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => body(values(storage, layout)?),
        _ => bail!("the differentiable forward runs on the CPU, found a tensor on {:?}", tensor.device()),
    }
}

/// A tensor of these values.
pub(super) fn tensor<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &Device::Cpu)
}

/// Runs a generic function with the number type that a tensor has.
macro_rules! dispatch {
    ($dtype:expr, $function:ident :: <T> ( $($argument:expr),* $(,)? )) => {
        match $dtype {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            candle_core::DType::F64 => $function::<f64>($($argument),*),
            other => $crate::differentiable::real::unsupported(other),
        }
    };
}
pub(super) use dispatch;

/// The error of every operation for other number types.
pub(super) fn unsupported<R>(dtype: DType) -> Result<R> {
    bail!("the differentiable forward computes in f32 or f64, found {dtype:?}; convert the weights first")
}

#[cfg(test)]
mod tests {
    use super::exponential_f32;

    #[test]
    fn exponential_is_accurate_over_its_range() {
        for step in -870_000..=880_000 {
            let x = step as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exponential_f32(x)) - exact).abs() / exact;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert!(exponential_f32(f32::NEG_INFINITY) < 1e-37);
    }
}
