//! Root-mean-square normalisation with its gradients.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::real::{Real, dispatch, tensor, values, with_values};

/// `x / √(mean(x²) + epsilon) · weight`. Shapes: `x` `[rows, hidden]`, `weight` `[hidden]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm { epsilon })
}

struct RmsNorm {
    epsilon: f64,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_l: &Layout, weight: &CpuStorage, w_l: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(x.dtype(), forward::<T>(x, x_l, weight, w_l, self.epsilon))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        dispatch!(x.dtype(), backward::<T>(x, weight, gradient, self.epsilon))
    }
}

fn forward<T: Real>(
    x: &CpuStorage,
    x_l: &Layout,
    weight: &CpuStorage,
    w_l: &Layout,
    epsilon: f64,
) -> Result<(CpuStorage, Shape)> {
    let (x, weight) = (values::<T>(x, x_l)?, values::<T>(weight, w_l)?);
    let mut result = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let scale = inverse_norm(row, epsilon);
        result.extend(row.iter().zip(weight).map(|(&x, &w)| x * scale * w));
    }
    Ok((T::to_cpu_storage_owned(result), x_l.shape().clone()))
}

fn backward<T: Real>(
    x: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
    epsilon: f64,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let gradient = gradient.contiguous()?;
    let hidden = weight.dim(0)?;
    let (of_x, of_weight) = with_values::<T, _>(x, |x| {
        with_values::<T, _>(weight, |weight| {
            with_values::<T, _>(&gradient, |gradient| Ok(backward_rows(x, weight, gradient, epsilon)))
        })
    })?;
    Ok((Some(tensor(of_x, x.shape())?), Some(tensor(of_weight, hidden)?)))
}

/// With s = 1/√(mean(x²) + ε): ∂x = s · (g·w − x · s² · mean(g·w·x)), ∂w = Σ over rows of g · x · s.
fn backward_rows<T: Real>(x: &[T], weight: &[T], gradient: &[T], epsilon: f64) -> (Vec<T>, Vec<T>) {
    let hidden = weight.len();
    let mut of_x = Vec::with_capacity(x.len());
    let mut of_weight = vec![T::zero(); hidden];
    for (x, gradient) in x.chunks_exact(hidden).zip(gradient.chunks_exact(hidden)) {
        let scale = inverse_norm(x, epsilon);
        let projection = lanes_sum(hidden, |i| gradient[i] * weight[i] * x[i]);
        let pull = scale * scale * scale * projection / T::from_f64(hidden as f64);
        of_x.extend((0..hidden).map(|i| gradient[i] * weight[i] * scale - x[i] * pull));
        for i in 0..hidden {
            of_weight[i] += gradient[i] * x[i] * scale;
        }
    }
    (of_x, of_weight)
}

fn inverse_norm<T: Real>(row: &[T], epsilon: f64) -> T {
    let mean = lanes_sum(row.len(), |i| row[i] * row[i]) / T::from_f64(row.len() as f64);
    T::one() / (mean + T::from_f64(epsilon)).square_root()
}

/// A sum in eight lanes, which vectorises and rounds less than one running sum.
fn lanes_sum<T: Real>(count: usize, term: impl Fn(usize) -> T) -> T {
    let mut lanes = [T::zero(); 8];
    let whole = count / 8 * 8;
    for start in (0..whole).step_by(8) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
    }
    for i in whole..count {
        lanes[0] += term(i);
    }
    lanes.into_iter().fold(T::zero(), |sum, lane| sum + lane)
}
