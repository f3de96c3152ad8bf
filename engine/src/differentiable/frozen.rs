//! The product with a weight that is not learnt, for devices on which candle computes. In candle's own product both factors get a gradient,
//! whether anybody asks for it or not, and it is kept until the backward pass ends.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// `x · weightᵀ`; gradients reach `x` only. Shapes as of [`super::linear`].
pub(super) fn linear_of_frozen(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, FrozenLinear)
}

struct FrozenLinear;

impl CustomOp2 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen_linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout, weight: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        product(x, x_l, weight, w_l)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_l: &Layout,
        weight: &CudaStorage,
        w_l: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        product(x, x_l, weight, w_l)
    }

    fn bwd(
        &self,
        _x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.matmul(weight)?), None))
    }
}

fn product<S: BackendStorage>(x: &S, x_l: &Layout, weight: &S, w_l: &Layout) -> Result<(S, Shape)> {
    let (rows, input) = x_l.shape().dims2()?;
    let (output, expected) = w_l.shape().dims2()?;
    if input != expected {
        bail!("a linear layer takes rows of {expected} values, found {input}")
    }
    let product = x.matmul(weight, (1, rows, output, input), x_l, &w_l.transpose(0, 1)?)?;
    Ok((product, (rows, output).into()))
}
