//! The linear layer, alone or added to a residual, with its gradients.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::matrix::{Matrix, MatrixMut, Write, multiply};
use super::real::{Real, dispatch, tensor, values, with_values};

/// `x · weightᵀ`. Shapes: `x` `[rows, in]`, `weight` `[out, in]`, result `[rows, out]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.apply_op2(weight, Linear)
}

/// `residual + x · weightᵀ`. Shapes as of [`linear`]; `residual` `[rows, out]`.
pub fn linear_with_residual(x: &Tensor, weight: &Tensor, residual: &Tensor) -> Result<Tensor> {
    x.apply_op3(weight, residual, Linear)
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout, weight: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(x_l_dtype(x), forward::<T>(x, x_l, weight, w_l, None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        dispatch!(x.dtype(), backward::<T>(x, weight, gradient))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear_with_residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_l: &Layout,
        weight: &CpuStorage,
        w_l: &Layout,
        residual: &CpuStorage,
        r_l: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        dispatch!(x_l_dtype(x), forward::<T>(x, x_l, weight, w_l, Some((residual, r_l))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        residual: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = dispatch!(x.dtype(), backward::<T>(x, weight, gradient))?;
        Ok((of_x, of_weight, if_needed(residual, || Ok(gradient.clone()))?))
    }
}

fn x_l_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

fn forward<T: Real>(
    x: &CpuStorage,
    x_l: &Layout,
    weight: &CpuStorage,
    w_l: &Layout,
    residual: Option<(&CpuStorage, &Layout)>,
) -> Result<(CpuStorage, Shape)> {
    let (rows, input) = x_l.shape().dims2()?;
    let (output, expected) = w_l.shape().dims2()?;
    if input != expected {
        candle_core::bail!("a linear layer takes rows of {expected} values, found {input}")
    }
    let (mut result, write) = match residual {
        None => (vec![T::zero(); rows * output], Write::Replace),
        Some((storage, layout)) => (values::<T>(storage, layout)?.to_vec(), Write::Add),
    };
    multiply(
        MatrixMut::new(&mut result, rows, output, output),
        write,
        Matrix::new(values(x, x_l)?, rows, input, input),
        Matrix::new(values(weight, w_l)?, output, input, input).transposed(),
        T::one(),
    );
    Ok((T::to_cpu_storage_owned(result), (rows, output).into()))
}

fn backward<T: Real>(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (rows, input) = x.dims2()?;
    let output = weight.dim(0)?;
    let gradient = gradient.contiguous()?;
    with_values::<T, _>(&gradient, |gradient| {
        let gradient = Matrix::new(gradient, rows, output, output);
        let of_x = || {
            with_values::<T, _>(weight, |weight| {
                let mut of_x = vec![T::zero(); rows * input];
                let weight = Matrix::new(weight, output, input, input);
                multiply(MatrixMut::new(&mut of_x, rows, input, input), Write::Replace, gradient, weight, T::one());
                tensor(of_x, (rows, input))
            })
        };
        let of_weight = || {
            with_values::<T, _>(x, |x| {
                let mut of_weight = vec![T::zero(); output * input];
                let x = Matrix::new(x, rows, input, input);
                let destination = MatrixMut::new(&mut of_weight, output, input, input);
                multiply(destination, Write::Replace, gradient.transposed(), x, T::one());
                tensor(of_weight, (output, input))
            })
        };
        Ok((if_needed(x, of_x)?, if_needed(weight, of_weight)?))
    })
}

/// The gradient of what a variable reaches; nobody asks for that of a constant, such as a frozen weight.
fn if_needed(of: &Tensor, gradient: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
    of.track_op().then(gradient).transpose()
}
