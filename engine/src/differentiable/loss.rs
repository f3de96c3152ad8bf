//! The two losses over rows of logits, each a weighted sum over rows with its gradient.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::composed;
use super::operations::Operations;
use super::real::{Real, dispatch, tensor, values, with_values};

/// `weight · Σ −log softmax(row)[target]`, a scalar. Shapes: `logits` `[rows, vocabulary]`, one target a row.
pub fn cross_entropy(logits: &Tensor, targets: Vec<u32>, weight: f64) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if rows != targets.len() || targets.iter().any(|&target| target as usize >= vocabulary) {
        bail!(
            "{rows} rows of {vocabulary} logits take as many targets below {vocabulary}, found {} targets",
            targets.len()
        )
    }
    match Operations::of(logits.device()) {
        Operations::Own => logits.apply_op1(CrossEntropy { targets, weight }),
        Operations::Composed => composed::cross_entropy(logits, &targets, weight),
    }
}

/// `weight · Σ KL(softmax(teacher row) ‖ softmax(student row))`, a scalar; the teacher is a constant, gradients reach the student
/// only. Shapes: `student` `[rows, vocabulary]`, `teacher` `[teacher rows, vocabulary]`, one row of the teacher a row of the student.
pub fn forward_divergence(student: &Tensor, teacher: &Tensor, teacher_rows: Vec<u32>, weight: f64) -> Result<Tensor> {
    let ((rows, vocabulary), (available, teacher_vocabulary)) = (student.dims2()?, teacher.dims2()?);
    let fits = rows == teacher_rows.len() && teacher_rows.iter().all(|&row| (row as usize) < available);
    if !fits || vocabulary != teacher_vocabulary || student.dtype() != teacher.dtype() {
        bail!(
            "a divergence takes one teacher row a student row: found {rows} × {vocabulary} against {} of {available} × {teacher_vocabulary}",
            teacher_rows.len()
        )
    }
    let teacher = teacher.detach().contiguous()?;
    match Operations::of(student.device()) {
        Operations::Own => student.apply_op1(ForwardDivergence { teacher, teacher_rows, weight }),
        Operations::Composed => composed::forward_divergence(student, &teacher, &teacher_rows, weight),
    }
}

struct CrossEntropy {
    targets: Vec<u32>,
    weight: f64,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(logits.dtype(), cross_entropy_forward::<T>(self, logits, layout))
    }

    fn bwd(&self, logits: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        dispatch!(logits.dtype(), cross_entropy_backward::<T>(self, logits, gradient)).map(Some)
    }
}

fn cross_entropy_forward<T: Real>(
    op: &CrossEntropy,
    logits: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let vocabulary = layout.shape().dims2()?.1;
    let rows = values::<T>(logits, layout)?.chunks_exact(vocabulary).zip(&op.targets);
    let sum: f64 = rows.map(|(row, &target)| (log_sum(row) - row[target as usize]).to_f64()).sum();
    Ok(scalar::<T>(op.weight * sum))
}

fn cross_entropy_backward<T: Real>(op: &CrossEntropy, logits: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let scale = T::from_f64(op.weight * upstream::<T>(gradient)?);
    with_values::<T, _>(logits, |values| {
        let mut result = Vec::with_capacity(values.len());
        for (row, &target) in values.chunks_exact(logits.dim(1)?).zip(&op.targets) {
            let start = result.len();
            extend_softmax(row, &mut result);
            let of_row = &mut result[start..];
            of_row[target as usize] -= T::one();
            for value in of_row {
                *value *= scale;
            }
        }
        tensor(result, logits.shape())
    })
}

struct ForwardDivergence {
    teacher: Tensor,
    teacher_rows: Vec<u32>,
    weight: f64,
}

impl CustomOp1 for ForwardDivergence {
    fn name(&self) -> &'static str {
        "forward_divergence"
    }

    fn cpu_fwd(&self, student: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(student.dtype(), divergence_forward::<T>(self, student, layout))
    }

    fn bwd(&self, student: &Tensor, _result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        dispatch!(student.dtype(), divergence_backward::<T>(self, student, gradient)).map(Some)
    }
}

fn divergence_forward<T: Real>(
    op: &ForwardDivergence,
    student: &CpuStorage,
    layout: &Layout,
) -> Result<(CpuStorage, Shape)> {
    let vocabulary = layout.shape().dims2()?.1;
    let student = values::<T>(student, layout)?;
    with_values::<T, _>(&op.teacher, |teacher| {
        let mut probabilities = Vec::with_capacity(vocabulary);
        let mut sum = 0.0;
        for (row, &teacher_row) in student.chunks_exact(vocabulary).zip(&op.teacher_rows) {
            let teacher = &teacher[teacher_row as usize * vocabulary..][..vocabulary];
            let shift = log_sum(row) - log_sum(teacher);
            probabilities.clear();
            extend_softmax(teacher, &mut probabilities);
            let terms = probabilities.iter().zip(teacher).zip(row);
            sum += terms.map(|((&p, &t), &s)| (p * (t - s + shift)).to_f64()).sum::<f64>();
        }
        Ok(scalar::<T>(op.weight * sum))
    })
}

fn divergence_backward<T: Real>(op: &ForwardDivergence, student: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let scale = T::from_f64(op.weight * upstream::<T>(gradient)?);
    let vocabulary = student.dim(1)?;
    with_values::<T, _>(student, |values| {
        with_values::<T, _>(&op.teacher, |teacher| {
            let mut result = Vec::with_capacity(values.len());
            let mut probabilities = Vec::with_capacity(vocabulary);
            for (row, &teacher_row) in values.chunks_exact(vocabulary).zip(&op.teacher_rows) {
                probabilities.clear();
                extend_softmax(&teacher[teacher_row as usize * vocabulary..][..vocabulary], &mut probabilities);
                let start = result.len();
                extend_softmax(row, &mut result);
                for (value, &p) in result[start..].iter_mut().zip(&probabilities) {
                    *value = (*value - p) * scale;
                }
            }
            tensor(result, student.shape())
        })
    })
}

fn scalar<T: Real>(value: f64) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(vec![T::from_f64(value)]), ().into())
}

fn upstream<T: Real>(gradient: &Tensor) -> Result<f64> {
    with_values::<T, _>(gradient, |values| Ok(values[0].to_f64()))
}

fn largest<T: Real>(row: &[T]) -> T {
    row.iter().copied().fold(row[0], |a, b| if b > a { b } else { a })
}

fn log_sum<T: Real>(row: &[T]) -> T {
    let largest = largest(row);
    let sum = row.iter().fold(T::zero(), |sum, &value| sum + (value - largest).exponential());
    largest + sum.logarithm()
}

fn extend_softmax<T: Real>(row: &[T], out: &mut Vec<T>) {
    let largest = largest(row);
    let start = out.len();
    out.extend(row.iter().map(|&value| (value - largest).exponential()));
    let probabilities = &mut out[start..];
    let inverse = T::one() / probabilities.iter().fold(T::zero(), |sum, &value| sum + value);
    for value in probabilities {
        *value *= inverse;
    }
}
