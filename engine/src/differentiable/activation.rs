//! The gated activation of the feed-forward layer with its gradient.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::real::{Real, dispatch, tensor, values, with_values};

/// `silu(gate) · up`. Shapes: `gate_up` `[rows, 2 · size]` with the gate first, result `[rows, size]`.
pub fn silu_multiply(gate_up: &Tensor) -> Result<Tensor> {
    gate_up.apply_op1(SiluMultiply)
}

struct SiluMultiply;

impl CustomOp1 for SiluMultiply {
    fn name(&self) -> &'static str {
        "silu_multiply"
    }

    fn cpu_fwd(&self, gate_up: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(gate_up.dtype(), forward::<T>(gate_up, layout))
    }

    fn bwd(&self, gate_up: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        dispatch!(gate_up.dtype(), backward::<T>(gate_up, gradient)).map(Some)
    }
}

fn forward<T: Real>(gate_up: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
    let (rows, width) = layout.shape().dims2()?;
    let size = width / 2;
    let mut result = Vec::with_capacity(rows * size);
    for row in values::<T>(gate_up, layout)?.chunks_exact(width) {
        let (gate, up) = row.split_at(size);
        result.extend(gate.iter().zip(up).map(|(&gate, &up)| gate * sigmoid(gate) * up));
    }
    Ok((T::to_cpu_storage_owned(result), (rows, size).into()))
}

fn backward<T: Real>(gate_up: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let (rows, width) = gate_up.dims2()?;
    let size = width / 2;
    let gradient = gradient.contiguous()?;
    let mut result = vec![T::zero(); rows * width];
    with_values::<T, _>(gate_up, |gate_up| {
        with_values::<T, _>(&gradient, |gradient| {
            let inputs = gate_up.chunks_exact(width).zip(gradient.chunks_exact(size));
            for ((row, gradient), of_row) in inputs.zip(result.chunks_exact_mut(width)) {
                let (gate, up) = row.split_at(size);
                let (of_gate, of_up) = of_row.split_at_mut(size);
                for i in 0..size {
                    let sigmoid = sigmoid(gate[i]);
                    let silu = gate[i] * sigmoid;
                    of_up[i] = gradient[i] * silu;
                    of_gate[i] = gradient[i] * up[i] * (sigmoid * (T::one() - silu) + silu);
                }
            }
            Ok(())
        })
    })?;
    tensor(result, (rows, width))
}

#[inline]
fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (T::zero() - x).exponential())
}
