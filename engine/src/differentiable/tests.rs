//! Gradients against central differences in f64, and attention against its definition with a dense mask.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::checkpoint::LayerDescription;

use super::composed;
use super::operations::{BatchRows, Operations};
use super::{
    AttentionShape, DifferentiableModel, Dimensions, ForwardInput, RopeTable, RowLayout, attention, cross_entropy,
    forward_divergence, linear, linear_with_residual, rms_norm, silu_multiply,
};

mod adapters;
mod checkpointing;

const SHAPE: AttentionShape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 6 };
/// None, one that hides a part of every prefix, the row itself alone, and one that hides nothing.
const WINDOWS: [Option<usize>; 4] = [None, Some(3), Some(1), Some(20)];
const FREQUENCIES: [f32; 3] = [1.0, 0.3, 0.05];

/// Values in −1..1 that look random and are always the same.
fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn variable(seed: u64, shape: &[usize]) -> Var {
    Var::from_vec(noise(seed, shape.iter().product()), shape, &Device::Cpu).unwrap()
}

/// A scalar that weighs every value differently, so that no error of a gradient cancels out.
fn weigh(result: &Tensor) -> Result<Tensor> {
    let weights = Tensor::from_vec(noise(99, result.elem_count()), result.shape(), &Device::Cpu)?;
    (result * weights)?.sum_all()
}

/// Compares the gradient of `loss` with central differences at every value of every variable (at most 60 of each).
fn check_gradients(variables: &[&Var], loss: impl Fn() -> Result<Tensor>) {
    let gradients = loss().unwrap().backward().unwrap();
    for (index, variable) in variables.iter().enumerate() {
        let gradient = gradients.get(variable.as_tensor()).expect("every variable has a gradient");
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(gradient.iter().any(|value| *value != 0.0), "the gradient of variable {index} is zero");
        let base = variable.as_detached_tensor().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let largest = gradient.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        for at in (0..base.len()).step_by(base.len().div_ceil(60)) {
            let numeric = central_difference(variable, &base, at, &loss);
            let error = (gradient[at] - numeric).abs();
            assert!(
                error <= 1e-5 * gradient[at].abs().max(1e-3 * largest),
                "variable {index} at {at}: gradient {}, difference quotient {numeric}",
                gradient[at]
            );
        }
    }
}

/// Four-point rule: its error is of fourth order, so that 1e-5 is a claim about the gradient and not about the step.
fn central_difference(variable: &Var, base: &[f64], at: usize, loss: &impl Fn() -> Result<Tensor>) -> f64 {
    let step = 1e-3;
    let value = |offset: f64| {
        let mut moved = base.to_vec();
        moved[at] += offset * step;
        variable.set(&Tensor::from_vec(moved, variable.shape(), &Device::Cpu).unwrap()).unwrap();
        loss().unwrap().to_scalar::<f64>().unwrap()
    };
    let (two, one, minus_one, minus_two) = (value(2.0), value(1.0), value(-1.0), value(-2.0));
    variable.set(&Tensor::from_slice(base, variable.shape(), &Device::Cpu).unwrap()).unwrap();
    (minus_two - 8.0 * minus_one + 8.0 * one - two) / (12.0 * step)
}

#[test]
fn gradients_of_linear_layers() {
    let (x, weight, residual) = (variable(1, &[5, 7]), variable(2, &[6, 7]), variable(3, &[5, 6]));
    check_gradients(&[&x, &weight], || weigh(&linear(&x, &weight)?));
    check_gradients(&[&x, &weight, &residual], || weigh(&linear_with_residual(&x, &weight, &residual)?));
}

#[test]
fn gradients_of_rms_norm() {
    let (x, weight) = (variable(1, &[4, 19]), variable(2, &[19]));
    check_gradients(&[&x, &weight], || weigh(&rms_norm(&x, &weight, 1e-5)?));
}

#[test]
fn gradients_of_silu_multiply() {
    let gate_up = variable(1, &[3, 14]);
    check_gradients(&[&gate_up], || weigh(&silu_multiply(&gate_up)?));
}

#[test]
fn gradients_of_losses() {
    let (student, teacher) = (variable(1, &[4, 9]), variable(2, &[3, 9]));
    check_gradients(&[&student], || cross_entropy(&student, vec![0, 8, 3, 3], 0.7));
    check_gradients(&[&student], || forward_divergence(&student, &teacher, vec![2, 0, 0, 1], 0.7));
    let loss = forward_divergence(&student, &teacher, vec![2, 0, 0, 1], 0.7).unwrap();
    assert!(loss.backward().unwrap().get(teacher.as_tensor()).is_none(), "the teacher is a constant");
}

#[test]
fn divergence_of_a_distribution_from_itself_is_zero() {
    let logits = variable(1, &[3, 9]);
    let loss = forward_divergence(&logits, &logits, vec![0, 1, 2], 1.0).unwrap().to_scalar::<f64>().unwrap();
    assert!(loss.abs() < 1e-12);
    let other = forward_divergence(&logits, &logits, vec![1, 2, 0], 1.0).unwrap().to_scalar::<f64>().unwrap();
    assert!(other > 0.1);
}

/// Two sequences, the first with two blocks that continue it at different places.
fn packed_rows() -> RowLayout {
    let mut rows = RowLayout::new();
    let first = rows.push_sequence(6);
    rows.push_block(first, 2, 3).unwrap();
    rows.push_block(first, 5, 2).unwrap();
    rows.push_sequence(4);
    rows
}

#[test]
fn rows_see_their_prefix_and_themselves() {
    let rows = packed_rows();
    assert_eq!(rows.positions(), [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 0, 1, 2, 3]);
    let seen = |query: usize| (0..rows.rows()).filter(|&key| rows.sees(query, key)).collect::<Vec<_>>();
    assert_eq!(seen(3), [0, 1, 2, 3]);
    assert_eq!(seen(7), [0, 1, 6, 7]);
    assert_eq!(seen(10), [0, 1, 2, 3, 4, 9, 10]);
    assert_eq!(seen(12), [11, 12]);
    assert!(RowLayout::new().push_block(0, 1, 4).is_err());
}

#[test]
fn gradients_of_attention() {
    let rows = Arc::new(packed_rows());
    let rope = Arc::new(RopeTable::new(rows.positions(), &FREQUENCIES));
    let qkv = variable(1, &[rows.rows(), SHAPE.qkv_width()]);
    for window in WINDOWS {
        check_gradients(&[&qkv], || weigh(&attention(&qkv, SHAPE, window, &rows, &rope)?));
    }
}

/// The definition: rotate, mask with −∞, softmax, one head at a time.
fn attention_by_definition(qkv: &[Vec<f64>], window: Option<usize>, rows: &RowLayout) -> Vec<f64> {
    let rotate = |row: usize, values: &[f64]| -> Vec<f64> {
        let half = SHAPE.head_dim / 2;
        let angle = |i: usize| f64::from(rows.positions()[row] as f32 * FREQUENCIES[i]);
        let first = (0..half).map(|i| values[i] * angle(i).cos() - values[i + half] * angle(i).sin());
        let second = (0..half).map(|i| values[i + half] * angle(i).cos() + values[i] * angle(i).sin());
        first.chain(second).collect()
    };
    let mut result = Vec::new();
    for query in 0..rows.rows() {
        for head in 0..SHAPE.heads {
            let key_at = SHAPE.query_width() + head / 2 * SHAPE.head_dim;
            let q = rotate(query, &qkv[query][head * SHAPE.head_dim..][..SHAPE.head_dim]);
            let score = |key: usize| {
                let k = rotate(key, &qkv[key][key_at..][..SHAPE.head_dim]);
                let dot: f64 = q.iter().zip(&k).map(|(a, b)| a * b).sum();
                let back = rows.positions()[query].saturating_sub(rows.positions()[key]) as usize;
                let near = window.is_none_or(|window| back < window);
                if near && rows.sees(query, key) { (dot / (SHAPE.head_dim as f64).sqrt()).exp() } else { 0.0 }
            };
            let weights: Vec<f64> = (0..rows.rows()).map(score).collect();
            let total: f64 = weights.iter().sum();
            let value = |i: usize| {
                let terms = weights.iter().enumerate().map(|(key, w)| w * qkv[key][key_at + SHAPE.kv_width() + i]);
                terms.sum::<f64>() / total
            };
            result.extend((0..SHAPE.head_dim).map(value));
        }
    }
    result
}

#[test]
fn attention_agrees_with_its_definition() {
    let rows = Arc::new(packed_rows());
    let rope = Arc::new(RopeTable::new(rows.positions(), &FREQUENCIES));
    let qkv = variable(1, &[rows.rows(), SHAPE.qkv_width()]);
    for window in WINDOWS {
        let found = attention(&qkv, SHAPE, window, &rows, &rope).unwrap().flatten_all().unwrap();
        let expected = attention_by_definition(&qkv.to_vec2::<f64>().unwrap(), window, &rows);
        for (found, expected) in found.to_vec1::<f64>().unwrap().iter().zip(&expected) {
            // the table holds f32 cosines
            assert!((found - expected).abs() < 1e-6, "window {window:?}: {found} against {expected}");
        }
    }
}

/// A plain layer and one with everything that some family adds.
const LAYERS: [LayerDescription; 2] = [
    LayerDescription { qkv_bias: false, output_bias: false, head_norms: false, window: None },
    LayerDescription { qkv_bias: true, output_bias: true, head_norms: true, window: Some(3) },
];

fn dimensions(tied_embeddings: bool) -> Dimensions {
    Dimensions {
        vocabulary_size: 11,
        hidden_size: 10,
        intermediate_size: 13,
        layers: LAYERS.to_vec(),
        attention: SHAPE,
        norm_epsilon: 1e-5,
        rope_frequencies: FREQUENCIES.to_vec(),
        tied_embeddings,
    }
}

/// A model with noise in every weight.
fn model(dimensions: &Dimensions, dtype: DType) -> DifferentiableModel {
    model_with(Operations::Own, dimensions, dtype)
}

fn model_with(operations: Operations, dimensions: &Dimensions, dtype: DType) -> DifferentiableModel {
    let (hidden, ffn) = (dimensions.hidden_size, dimensions.intermediate_size);
    let (queries, keys) = (dimensions.attention.query_width(), dimensions.attention.kv_width());
    let mut seed = 0;
    let read = |name: &str| {
        seed += 1;
        let shape = match name {
            _ if name.contains("q_norm") || name.contains("k_norm") => vec![SHAPE.head_dim],
            _ if name.contains("q_proj.bias") => vec![queries],
            _ if name.contains("o_proj.bias") => vec![hidden],
            _ if name.contains("bias") => vec![keys],
            _ if name.contains("norm") => vec![hidden],
            _ if name.contains("q_proj") => vec![queries, hidden],
            _ if name.contains("k_proj") || name.contains("v_proj") => vec![keys, hidden],
            _ if name.contains("o_proj") => vec![hidden, queries],
            _ if name.contains("gate") || name.contains("up_proj") => vec![ffn, hidden],
            _ if name.contains("down") => vec![hidden, ffn],
            _ => vec![dimensions.vocabulary_size, hidden],
        };
        Tensor::from_vec(noise(seed, shape.iter().product()), shape, &Device::Cpu)
    };
    DifferentiableModel::with_operations(operations, &Device::Cpu, dimensions.clone(), dtype, read).unwrap()
}

const TOKENS: [u32; 15] = [1, 2, 3, 4, 5, 6, 3, 9, 9, 6, 0, 7, 8, 10, 1];

const SELECTED: [u32; 9] = [2, 3, 4, 5, 7, 8, 10, 12, 13];

/// Logits of rows of [`packed_rows`].
fn logits(model: &DifferentiableModel, selected: &[u32]) -> Result<Tensor> {
    model.logits(ForwardInput { tokens: &TOKENS, rows: &Arc::new(packed_rows()), selected })
}

/// The logits that the teacher's are at the base point.
fn teacher(model: &DifferentiableModel) -> Tensor {
    logits(model, &[2, 3, 4, 5]).unwrap().detach()
}

/// The whole consistency loss as the trainer puts it together, the teacher frozen at the base point.
fn consistency_loss(model: &DifferentiableModel, teacher: &Tensor) -> Result<Tensor> {
    loss_of_logits(&logits(model, &SELECTED)?, teacher)
}

fn loss_of_logits(logits: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let supervised = cross_entropy(&logits.narrow(0, 0, 4)?.contiguous()?, vec![4, 5, 6, 0], 10.0 / 4.0)?;
    let noisy = logits.narrow(0, 4, 3)?.contiguous()?;
    supervised + forward_divergence(&noisy, teacher, vec![1, 2, 3], 1.0 / 3.0)?
}

#[test]
fn gradients_of_the_whole_consistency_loss() {
    for tied in [false, true] {
        let model = model(&dimensions(tied), DType::F64);
        let teacher = teacher(&model);
        let variables = model.variables();
        let variables: Vec<&Var> = variables.iter().map(|(_, variable)| *variable).collect();
        check_gradients(&variables, || consistency_loss(&model, &teacher));
    }
}

#[test]
fn f32_follows_f64() {
    let all: Vec<u32> = (0..15).collect();
    let exact = logits(&model(&dimensions(false), DType::F64), &all).unwrap();
    let single = logits(&model(&dimensions(false), DType::F32), &all).unwrap();
    let difference = (exact - single.to_dtype(DType::F64).unwrap()).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f64>().unwrap() < 1e-4);
}

#[test]
fn exported_weights_make_the_same_model() {
    let dimensions = dimensions(false);
    let first = model(&dimensions, DType::F32);
    let weights: std::collections::HashMap<_, _> = first.export().unwrap().into_iter().collect();
    assert_eq!(weights.len(), 3 + 9 + (9 + 6));
    let second = DifferentiableModel::new(dimensions, DType::F32, |name| Ok(weights[name].clone())).unwrap();
    for ((name, a), (_, b)) in first.variables().into_iter().zip(second.variables()) {
        let (a, b) = (a.flatten_all().unwrap().to_vec1::<f32>(), b.flatten_all().unwrap().to_vec1::<f32>());
        assert_eq!(a.unwrap(), b.unwrap(), "{name}");
    }
}

#[test]
fn wrong_shapes_are_named() {
    let read = |_: &str| Tensor::zeros((3, 3), DType::F32, &Device::Cpu);
    let error = DifferentiableModel::new(dimensions(false), DType::F32, read).unwrap_err().to_string();
    assert!(
        error.contains("model.embed_tokens.weight has the shape [3, 3], the configuration says [11, 10]"),
        "{error}"
    );
}

/// Holds the values and gradients of two ways of computing the same scalar against each other.
fn check_equal(variables: &[&Var], own: &Tensor, composed: &Tensor) {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let near = |found: &Tensor, expected: &Tensor, what: &str| {
        assert_eq!(found.shape(), expected.shape(), "{what}");
        let (found, expected) = (values(found), values(expected));
        let largest = expected.iter().fold(1e-3_f64, |a, b| a.max(b.abs()));
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 1e-11 * largest, "{what} at {at}: {found}, expected {expected}");
        }
    };
    near(composed, own, "value");
    let (of_own, of_composed) = (own.backward().unwrap(), composed.backward().unwrap());
    for (index, variable) in variables.iter().enumerate() {
        let [expected, found] = [&of_own, &of_composed].map(|gradients| gradients.get(variable).unwrap());
        near(found, expected, &format!("gradient of variable {index}"));
    }
}

#[test]
fn composed_operations_have_the_values_and_gradients_of_our_own() {
    let both = [Operations::Own, Operations::Composed];
    let (x, weight, residual) = (variable(1, &[5, 7]), variable(2, &[6, 7]), variable(3, &[5, 6]));
    let [own, composed] = both.map(|ops| weigh(&ops.linear(&x, &weight).unwrap()).unwrap());
    check_equal(&[&x, &weight], &own, &composed);
    let [own, composed] = both.map(|ops| weigh(&ops.linear_with_residual(&x, &weight, &residual).unwrap()).unwrap());
    check_equal(&[&x, &weight, &residual], &own, &composed);
    // a norm of whole rows, and one of heads of a row
    for width in [18, 6] {
        let (x, weight) = (variable(1, &[4, 18]), variable(2, &[width]));
        let [own, composed] = both.map(|ops| weigh(&ops.rms_norm(&x, &weight, 1e-5).unwrap()).unwrap());
        check_equal(&[&x, &weight], &own, &composed);
    }
    let gate_up = variable(1, &[3, 14]);
    let [own, composed] = both.map(|ops| weigh(&ops.silu_multiply(&gate_up).unwrap()).unwrap());
    check_equal(&[&gate_up], &own, &composed);
}

#[test]
fn composed_attention_has_the_values_and_gradients_of_our_own() {
    let rows = Arc::new(packed_rows());
    let layers = WINDOWS.map(|window| LayerDescription { window, ..LAYERS[0] });
    let d = Dimensions { layers: layers.to_vec(), ..dimensions(false) };
    let [own, composed] = [Operations::Own, Operations::Composed]
        .map(|operations| BatchRows::new(operations, &rows, &d, DType::F64, &Device::Cpu).unwrap());
    let qkv = variable(1, &[rows.rows(), SHAPE.qkv_width()]);
    for window in WINDOWS {
        let [own, composed] = [&own, &composed].map(|rows| weigh(&rows.attend(&qkv, SHAPE, window).unwrap()).unwrap());
        check_equal(&[&qkv], &own, &composed);
    }
    assert!(composed.attend(&qkv, SHAPE, Some(7)).is_err(), "no layer has this window");
}

#[test]
fn composed_losses_have_the_values_and_gradients_of_our_own() {
    let (student, teacher) = (variable(1, &[4, 9]), variable(2, &[3, 9]));
    let targets = [0, 8, 3, 3];
    let own = cross_entropy(&student, targets.to_vec(), 0.7).unwrap();
    check_equal(&[&student], &own, &composed::cross_entropy(&student, &targets, 0.7).unwrap());
    let rows = [2, 0, 0, 1];
    let own = forward_divergence(&student, &teacher, rows.to_vec(), 0.7).unwrap();
    let composed = composed::forward_divergence(&student, &teacher.as_detached_tensor(), &rows, 0.7).unwrap();
    check_equal(&[&student], &own, &composed);
}

#[test]
fn a_model_of_composed_operations_has_the_loss_and_gradients_of_our_own() {
    for tied in [false, true] {
        let dimensions = dimensions(tied);
        let [own, composed] =
            [Operations::Own, Operations::Composed].map(|ops| model_with(ops, &dimensions, DType::F64));
        let teacher = teacher(&own);
        let [of_own, of_composed] = [&own, &composed].map(|model| {
            let loss = consistency_loss(model, &teacher).unwrap();
            (loss.to_scalar::<f64>().unwrap(), loss.backward().unwrap())
        });
        assert!((of_own.0 - of_composed.0).abs() < 1e-11 * of_own.0.abs());
        for ((name, own), (_, composed)) in own.variables().into_iter().zip(composed.variables()) {
            let [expected, found] = [(&of_own.1, own), (&of_composed.1, composed)].map(|(gradients, variable)| {
                gradients.get(variable).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
            });
            let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
            let far = found.iter().zip(&expected).find(|(a, b)| (*a - *b).abs() > 1e-10 * largest);
            assert!(largest > 0.0 && far.is_none(), "{name}: {far:?}");
        }
    }
}
