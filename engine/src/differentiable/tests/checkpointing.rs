//! Gradients are the same whether activations are kept or computed again.

use std::sync::Arc;

use candle_core::{DType, Error, Tensor};

use super::super::{Activations, AdapterOptions, DifferentiableModel, Dimensions, ForwardInput};
use super::{
    LAYERS, Operations, SELECTED, TOKENS, dimensions, logits, loss_of_logits, model_with, noise, packed_rows, teacher,
};

type Values = Vec<Vec<f32>>;

/// The gradients of every variable with the loss.
fn differentiate(model: &DifferentiableModel, activations: Activations) -> (Values, f32) {
    let teacher = teacher(model);
    let input = ForwardInput { tokens: &TOKENS, rows: &Arc::new(packed_rows()), selected: &SELECTED };
    let loss = |logits: &Tensor| -> Result<_, Error> {
        let loss = loss_of_logits(logits, &teacher)?;
        let value = loss.to_scalar::<f32>()?;
        Ok((loss, value))
    };
    let (gradients, value) = model.gradients(input, activations, loss).unwrap();
    let gradients = gradients.into_iter().map(|gradient| gradient.unwrap().flatten_all().unwrap().to_vec1().unwrap());
    (gradients.collect(), value)
}

fn with_adapters(model: DifferentiableModel) -> DifferentiableModel {
    let mut numbers = noise(7, 10_000).into_iter();
    let options = AdapterOptions { rank: 3, alpha: 4.5 };
    let model = model.with_adapters(options, || numbers.next().unwrap()).unwrap();
    for (_, variable) in model.variables() {
        let shift = (variable.ones_like().unwrap() * 0.01).unwrap();
        variable.set(&(variable.as_detached_tensor() + shift).unwrap()).unwrap();
    }
    model
}

#[test]
fn recomputed_activations_give_the_same_gradients() {
    for operations in [Operations::Own, Operations::Composed] {
        for tied in [false, true] {
            for layers in [1, 2, 4] {
                let layers = LAYERS.into_iter().cycle().take(layers).collect();
                let dimensions = Dimensions { layers, ..dimensions(tied) };
                let model = || model_with(operations, &dimensions, DType::F32);
                for model in [model(), with_adapters(model())] {
                    let (kept, recomputed) =
                        (differentiate(&model, Activations::Keep), differentiate(&model, Activations::Recompute));
                    let names = model.variables().into_iter().map(|(name, _)| name);
                    for ((name, kept), recomputed) in names.zip(&kept.0).zip(&recomputed.0) {
                        let zero = kept.iter().all(|value| *value == 0.0);
                        assert!(!zero && kept == recomputed, "{name} of {dimensions:?}: {kept:?}, {recomputed:?}");
                    }
                    assert_eq!(kept.1.to_bits(), recomputed.1.to_bits());
                }
            }
        }
    }
}

#[test]
fn constant_logits_are_the_logits() {
    let model = model_with(Operations::Own, &dimensions(true), DType::F32);
    let input = ForwardInput { tokens: &TOKENS, rows: &Arc::new(packed_rows()), selected: &SELECTED };
    let constant = model.constant_logits(input).unwrap();
    assert!(!constant.track_op());
    let [found, expected] =
        [constant, logits(&model, &SELECTED).unwrap()].map(|logits| logits.to_vec2::<f32>().unwrap());
    assert_eq!(found, expected);
}
