//! `AdamW` with its state in the open, gradient clipping and the learning-rate schedule. Plain arithmetic on slices; no files.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};

use crate::failure::Result;

/// Values of every variable, in the order of the variables.
pub(crate) type Values = Vec<Vec<f32>>;

/// Constants of `AdamW`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta_1: f64,
    /// Decay of the mean of squared gradients.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Pull towards zero per unit of learning rate; for matrices, not for norms.
    pub weight_decay: f64,
}

/// Weights and moments in f32; the variables of the model follow the weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OptimizerState {
    /// Updates done, and those that were left out.
    pub step: u64,
    /// The weights.
    pub weights: Values,
    /// Means of gradients.
    pub first: Values,
    /// Means of squared gradients.
    pub second: Values,
}

impl OptimizerState {
    /// Moments of zero at the present weights.
    pub(crate) fn new(variables: &[&Var]) -> Result<Self> {
        let weights: Values =
            variables.iter().map(|v| v.flatten_all()?.to_vec1::<f32>()).collect::<candle_core::Result<_>>()?;
        let zeros: Values = weights.iter().map(|weights| vec![0.0; weights.len()]).collect();
        Ok(Self { step: 0, weights, first: zeros.clone(), second: zeros })
    }

    /// Puts the weights into the variables.
    pub(crate) fn write_weights(&self, variables: &[&Var]) -> Result<()> {
        write_values(&self.weights, variables)
    }

    /// One update of the weights, the variables of the model included. Each value depends on its own history only, so that the
    /// number of threads changes nothing.
    pub(crate) fn update(
        &mut self,
        variables: &[&Var],
        gradients: &Values,
        learning_rate: f64,
        options: AdamWOptions,
        threads: usize,
    ) -> Result<()> {
        self.step += 1;
        let mut work: Vec<Vec<_>> = (0..threads.max(1)).map(|_| Vec::new()).collect();
        let states = self.weights.iter_mut().zip(&mut self.first).zip(&mut self.second);
        for (index, ((weights, first), second)) in states.enumerate() {
            let decay = if variables[index].rank() > 1 { options.weight_decay } else { 0.0 };
            work[index % threads.max(1)].push((weights, first, second, &gradients[index], decay));
        }
        let constants = |decay| Constants::new(self.step, learning_rate, decay, options);
        std::thread::scope(|scope| {
            for share in work {
                scope.spawn(move || {
                    for (weights, first, second, gradient, decay) in share {
                        constants(decay).apply(weights, first, second, gradient);
                    }
                });
            }
        });
        self.write_weights(variables)
    }
}

/// Puts values into variables, into the memory that they have.
pub(crate) fn write_values(values: &Values, variables: &[&Var]) -> Result<()> {
    for (variable, values) in variables.iter().zip(values) {
        if variable.device().is_cpu() {
            variable.inplace_op1(&Assign(values))?;
        } else {
            variable.set(&Tensor::from_slice(values, variable.shape(), variable.device())?)?;
        }
    }
    Ok(())
}

/// Values instead of those that a tensor has.
struct Assign<'a>(&'a [f32]);

impl InplaceOp1 for Assign<'_> {
    fn name(&self) -> &'static str {
        "assign"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(values), Some((start, end))) if end - start == self.0.len() => {
                values[start..end].copy_from_slice(self.0);
                Ok(())
            }
            _ => candle_core::bail!("{} values go into as many f32 that lie one after the other", self.0.len()),
        }
    }
}

/// The update of one step with everything that is the same for all values worked out.
#[derive(Clone, Copy)]
struct Constants {
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    step_size: f32,
    second_correction: f32,
    keep: f32,
}

impl Constants {
    fn new(step: u64, learning_rate: f64, decay: f64, options: AdamWOptions) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        Self {
            beta_1: options.beta_1 as f32,
            beta_2: options.beta_2 as f32,
            epsilon: options.epsilon as f32,
            step_size: (learning_rate / correction(options.beta_1)) as f32,
            second_correction: (1.0 / correction(options.beta_2)) as f32,
            keep: (1.0 - learning_rate * decay) as f32,
        }
    }

    fn apply(self, weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((weight, (first, second)), &gradient) in weights.iter_mut().zip(moments).zip(gradient) {
            *first = self.beta_1 * *first + (1.0 - self.beta_1) * gradient;
            *second = self.beta_2 * *second + (1.0 - self.beta_2) * gradient * gradient;
            let scale = (*second * self.second_correction).sqrt() + self.epsilon;
            *weight = self.keep * *weight - self.step_size * *first / scale;
        }
    }
}

/// Scales gradients whose norm is above `limit` down to it. Gives the norm before.
pub(crate) fn clip(gradients: &mut Values, limit: f64) -> f64 {
    let sum: f64 = gradients.iter().flatten().map(|&value| f64::from(value) * f64::from(value)).sum();
    let norm = sum.sqrt();
    if norm > limit {
        let scale = (limit / norm) as f32;
        gradients.iter_mut().flatten().for_each(|value| *value *= scale);
    }
    norm
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[value(rename_all = "PascalCase")]
pub enum Decay {
    /// In a straight line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

/// Learning rate by step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// Steps until it is reached.
    pub warmup_steps: u64,
    /// All steps.
    pub steps: u64,
    /// How it falls.
    pub decay: Decay,
}

/// What is left of the peak at the end.
const FINAL_FRACTION: f64 = 0.02;

impl Schedule {
    /// The rate of a step, counted from 0.
    pub(crate) fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let length = (self.steps.max(self.warmup_steps + 1) - self.warmup_steps) as f64;
        let gone = ((step - self.warmup_steps) as f64 / length).min(1.0);
        let left = match self.decay {
            Decay::Linear => 1.0 - gone,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * gone).cos()),
        };
        self.peak * (FINAL_FRACTION + (1.0 - FINAL_FRACTION) * left)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const OPTIONS: AdamWOptions = AdamWOptions { beta_1: 0.9, beta_2: 0.98, epsilon: 1e-8, weight_decay: 0.1 };

    #[test]
    fn the_first_update_moves_by_the_rate_against_the_sign() {
        let variable = Var::from_slice(&[1.0_f32, 1.0, 1.0], 3, &Device::Cpu).unwrap();
        let mut state = OptimizerState::new(&[&variable]).unwrap();
        state.update(&[&variable], &vec![vec![0.5, -2.0, 0.0]], 0.01, OPTIONS, 2).unwrap();
        let weights = variable.to_vec1::<f32>().unwrap();
        for (found, expected) in weights.iter().zip([0.99, 1.01, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{weights:?}");
        }
    }

    #[test]
    fn matrices_decay_and_the_number_of_threads_changes_nothing() {
        let variables: Vec<Var> =
            (0..5).map(|i| Var::from_slice(&[i as f32 + 1.0; 6], (2, 3), &Device::Cpu).unwrap()).collect();
        let variables: Vec<&Var> = variables.iter().collect();
        let start = OptimizerState::new(&variables).unwrap();
        let gradients: Values = (0..5).map(|i| vec![i as f32 * 0.1; 6]).collect();
        let [one, three] = [1, 3].map(|threads| {
            let mut state = start.clone();
            for _ in 0..3 {
                state.update(&variables, &gradients, 0.01, OPTIONS, threads).unwrap();
            }
            state
        });
        assert_eq!(one, three);
        assert!((f64::from(one.weights[0][0]) - 0.999_f64.powi(3)).abs() < 1e-6, "no gradient: only decay");
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut gradients = vec![vec![3.0], vec![4.0]];
        assert!((clip(&mut gradients, 1.0) - 5.0).abs() < 1e-12);
        assert!((gradients[0][0] - 0.6).abs() < 1e-6 && (gradients[1][0] - 0.8).abs() < 1e-6);
        assert!((clip(&mut gradients, 2.0) - 1.0).abs() < 1e-6);
        assert!((gradients[0][0] - 0.6).abs() < 1e-6);
    }

    #[test]
    fn the_rate_rises_then_falls_to_a_fiftieth() {
        for decay in [Decay::Linear, Decay::Cosine] {
            let schedule = Schedule { peak: 1.0, warmup_steps: 4, steps: 104, decay };
            assert!((schedule.rate(0) - 0.25).abs() < 1e-12);
            assert!((schedule.rate(3) - 1.0).abs() < 1e-12);
            assert!((schedule.rate(54) - 0.51).abs() < 1e-9, "{decay:?} halfway");
            assert!((schedule.rate(104) - 0.02).abs() < 1e-12);
            assert!((5..104).all(|step| schedule.rate(step) < schedule.rate(step - 1)));
        }
    }
}
