//! The operator on a real control plane: what it renders is accepted, what is deleted comes back, a training runs to its end, and at rest
//! nothing is written. There is no kubelet: the tests write the status of Pods as one would.

mod children;
mod door;
mod ending;
mod failures;
mod injection;
mod leader;
mod missed;
mod model;
mod promotion;
mod render;
mod rights;
mod specs;
mod support;
mod training;
mod training_specs;
