//! Gradients of a scalar of the logits. What the backward pass needs of each layer is kept from the forward pass, or computed again.

use candle_core::backprop::GradStore;
use candle_core::{Error, Result, Tensor, Var};

use super::DifferentiableModel;
use super::model::ForwardInput;

/// What becomes of the activations between the forward and the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// They are kept.
    Keep,
    /// Of each layer only its input is kept, and the rest is computed again when its turn comes (gradient checkpointing): the same
    /// operations on the same values in the same order, so on the CPU the gradients are the same bit for bit.
    Recompute,
}

impl DifferentiableModel {
    /// The gradients, in the order of [`DifferentiableModel::variables`], of the scalar that `loss` makes of the logits; none where it does
    /// not depend on a variable. Gives what `loss` gives beside the scalar too.
    pub fn gradients<T, E: From<Error>>(
        &self,
        input: ForwardInput<'_>,
        activations: Activations,
        loss: impl FnOnce(&Tensor) -> std::result::Result<(Tensor, T), E>,
    ) -> std::result::Result<(Vec<Option<Tensor>>, T), E> {
        match activations {
            Activations::Keep => self.gradients_of_kept(input, loss),
            Activations::Recompute => self.gradients_of_recomputed(input, loss),
        }
    }

    fn gradients_of_kept<T, E: From<Error>>(
        &self,
        input: ForwardInput<'_>,
        loss: impl FnOnce(&Tensor) -> std::result::Result<(Tensor, T), E>,
    ) -> std::result::Result<(Vec<Option<Tensor>>, T), E> {
        let (scalar, rest) = loss(&self.logits(input)?)?;
        let mut found = Found::new(self);
        found.take(&mut scalar.backward()?);
        Ok((found.gradients, rest))
    }

    fn gradients_of_recomputed<T, E: From<Error>>(
        &self,
        input: ForwardInput<'_>,
        loss: impl FnOnce(&Tensor) -> std::result::Result<(Tensor, T), E>,
    ) -> std::result::Result<(Vec<Option<Tensor>>, T), E> {
        let batch = self.batch(input)?;
        // the backward pass begins with the last layer, so that one is not computed twice
        let last = self.layers().saturating_sub(1);
        let mut inputs = Vec::with_capacity(last);
        let mut x = cut(&self.embed(&batch)?)?;
        for index in 0..last {
            let output = self.through(index..index + 1, x.clone(), &batch)?;
            inputs.push(std::mem::replace(&mut x, cut(&output)?));
        }
        let mut found = Found::new(self);
        let (mut of_x, rest) = {
            let logits = self.head(&self.through(last..self.layers(), x.clone(), &batch)?)?;
            let (scalar, rest) = loss(&logits)?;
            (found.pull(&scalar, &x)?, rest)
        };
        for (index, input) in inputs.into_iter().enumerate().rev() {
            let Some(of_output) = of_x.take() else { break };
            let output = self.through(index..index + 1, input.clone(), &batch)?;
            // a scalar whose gradient with respect to the output is the one that came down to it
            of_x = found.pull(&(output * of_output)?.sum_all()?, &input)?;
        }
        if let (Some(of_x), Some(embedding)) = (of_x, self.trained_embedding()) {
            found.add_rows(embedding, &batch.tokens, &of_x)?;
        }
        Ok((found.gradients, rest))
    }
}

/// The same values as a leaf with a gradient, where a variable reaches them: what made them can go.
fn cut(x: &Tensor) -> Result<Tensor> {
    if x.track_op() { Ok(Var::from_tensor(x)?.into_inner()) } else { Ok(x.clone()) }
}

/// Gradients by variable, as far as backward passes through parts of the model gave them.
struct Found<'a> {
    variables: Vec<&'a Var>,
    gradients: Vec<Option<Tensor>>,
}

impl<'a> Found<'a> {
    fn new(model: &'a DifferentiableModel) -> Self {
        let variables: Vec<&Var> = model.variables().into_iter().map(|(_, variable)| variable).collect();
        Self { gradients: vec![None; variables.len()], variables }
    }

    /// Takes over what a backward pass gave for the variables.
    fn take(&mut self, gradients: &mut GradStore) {
        for (variable, found) in self.variables.iter().zip(&mut self.gradients) {
            if let Some(gradient) = gradients.remove(variable) {
                // it may hang on the activations that it was computed from
                *found = Some(gradient.detach());
            }
        }
    }

    /// Goes back from a scalar to the input of a part of the model. Gives the gradient of the input.
    fn pull(&mut self, scalar: &Tensor, input: &Tensor) -> Result<Option<Tensor>> {
        let mut gradients = scalar.backward()?;
        self.take(&mut gradients);
        Ok(gradients.remove(input).map(|gradient| gradient.detach()))
    }

    /// Adds the gradients of looked-up rows to that of the embedding as the backward pass of the whole would: one by one to what the
    /// embedding has as the last linear layer, if it is that too.
    fn add_rows(&mut self, embedding: &Var, tokens: &Tensor, of_rows: &Tensor) -> Result<()> {
        for (variable, found) in self.variables.iter().zip(&mut self.gradients) {
            if variable.id() == embedding.id() {
                let sum = found.take().map_or_else(|| embedding.zeros_like(), Ok)?;
                *found = Some(sum.index_add(tokens, of_rows, 0)?);
            }
        }
        Ok(())
    }
}
