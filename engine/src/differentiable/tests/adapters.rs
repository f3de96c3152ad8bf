//! Adapters: what they add, what they leave as it is, and their gradients.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};

use super::super::{AdapterOptions, DifferentiableModel, linear, linear_with_residual};
use super::{
    Operations, check_gradients, composed, consistency_loss, dimensions, logits, model, model_with, noise, teacher,
    variable, weigh,
};

const OPTIONS: AdapterOptions = AdapterOptions { rank: 3, alpha: 4.5 };

/// Adapters that add nothing yet.
fn fresh(model: DifferentiableModel) -> DifferentiableModel {
    let mut numbers = noise(7, 10_000).into_iter();
    model.with_adapters(OPTIONS, || numbers.next().unwrap()).unwrap()
}

/// Adapters that add something.
fn adapted(model: DifferentiableModel) -> DifferentiableModel {
    let model = fresh(model);
    for (index, (name, variable)) in model.variables().into_iter().enumerate() {
        if name.ends_with(".lora_b") {
            let values = noise(100 + index as u64, variable.elem_count());
            let values = Tensor::from_vec(values, variable.shape(), &Device::Cpu).unwrap();
            variable.set(&values.to_dtype(variable.dtype()).unwrap()).unwrap();
        }
    }
    model
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn exported(model: &DifferentiableModel) -> HashMap<String, Tensor> {
    model.export().unwrap().into_iter().collect()
}

#[test]
fn variables_are_those_of_the_adapters() {
    let model = fresh(model(&dimensions(false), DType::F32));
    let names: Vec<String> = model.variables().into_iter().map(|(name, _)| name).collect();
    let matrices = ["qkv", "output", "gate_up", "down"];
    let expected = (0..2).flat_map(|layer| matrices.map(|matrix| format!("layers.{layer}.{matrix}")));
    let expected: Vec<String> =
        expected.flat_map(|name| ["a", "b"].map(|half| format!("{name}.lora_{half}"))).collect();
    assert_eq!(names, expected);
}

#[test]
fn fresh_adapters_change_nothing() {
    for tied in [false, true] {
        let base = || model(&dimensions(tied), DType::F32);
        let (base, adapted) = (base(), fresh(base()));
        let all: Vec<u32> = (0..15).collect();
        let [expected, found] = [&base, &adapted].map(|model| logits(model, &all).unwrap());
        assert_eq!(values(&found), values(&expected));
        let (expected, found) = (exported(&base), exported(&adapted));
        assert_eq!(found.len(), expected.len());
        assert!(expected.iter().all(|(name, weight)| values(&found[name]) == values(weight)));
    }
}

#[test]
fn gradients_of_adapters() {
    for tied in [false, true] {
        let model = adapted(model(&dimensions(tied), DType::F64));
        let teacher = teacher(&model);
        let variables = model.variables();
        let variables: Vec<&Var> = variables.iter().map(|(_, variable)| *variable).collect();
        check_gradients(&variables, || consistency_loss(&model, &teacher));
    }
}

#[test]
fn composed_adapters_have_the_gradients_of_our_own() {
    let [own, composed] = [Operations::Own, Operations::Composed]
        .map(|operations| adapted(model_with(operations, &dimensions(true), DType::F64)));
    let teacher = teacher(&own);
    let [of_own, of_composed] =
        [&own, &composed].map(|model| consistency_loss(model, &teacher).unwrap().backward().unwrap());
    for ((name, own), (_, composed)) in own.variables().into_iter().zip(composed.variables()) {
        let (expected, found) = (values(of_own.get(own).unwrap()), values(of_composed.get(composed).unwrap()));
        let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        let far = found.iter().zip(&expected).find(|(a, b)| (*a - *b).abs() > 1e-10 * largest);
        assert!(largest > 0.0 && far.is_none(), "{name}: {far:?}");
    }
}

#[test]
fn export_merges_adapters_and_leaves_the_rest() {
    let dimensions = dimensions(false);
    let (base, adapted) = (model(&dimensions, DType::F64), adapted(model(&dimensions, DType::F64)));
    let (before, after) = (exported(&base), exported(&adapted));
    let matrices: HashMap<_, _> = adapted.adapters().unwrap().into_iter().map(|m| (m.name.clone(), m)).collect();
    assert_eq!(matrices.len(), 2 * 7);
    for (name, before) in &before {
        assert_eq!(matrices.contains_key(name), name.ends_with("_proj.weight"), "{name}");
        let Some(matrix) = matrices.get(name) else {
            assert_eq!(values(&after[name]), values(before), "{name}");
            continue;
        };
        let added = (matrix.b.matmul(&matrix.a).unwrap() * 1.5).unwrap();
        let expected = values(&(before + added).unwrap());
        let found = values(&after[name]);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{name}");
        assert_ne!(found, values(before), "{name}");
    }
    let merged = DifferentiableModel::new(dimensions, DType::F64, |name| Ok(after[name].clone())).unwrap();
    let all: Vec<u32> = (0..15).collect();
    let [expected, found] = [&adapted, &merged].map(|model| values(&logits(model, &all).unwrap()));
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9));
}

#[test]
fn frozen_weights_get_no_gradient() {
    let (x, residual) = (variable(1, &[5, 7]), variable(3, &[5, 6]));
    let weight = variable(2, &[6, 7]).as_detached_tensor();
    for (result, variables) in [
        (linear(&x, &weight), 1),
        (linear_with_residual(&x, &weight, &residual), 2),
        (linear_with_residual(&x, &weight, &residual.as_detached_tensor()), 1),
        (composed::linear(&x, &weight), 1),
    ] {
        // that of the constants which weigh the result, and those of the variables
        let gradients = weigh(&result.unwrap()).unwrap().backward().unwrap();
        assert_eq!(gradients.get_ids().count(), 1 + variables);
    }
    check_gradients(&[&x], || weigh(&linear(&x, &weight)?));
    check_gradients(&[&x], || weigh(&composed::linear(&x, &weight)?));
}
