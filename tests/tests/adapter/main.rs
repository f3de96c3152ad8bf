//! Metrics for autoscalers as the API server hands them on: a real autoscaler reads them, forged identities are refused, certificates and
//! authorities are replaced while everything runs, and another provider is left alone.
//!
//! What is registered is the cluster's, so each test has a control plane of its own, one after the other.

mod authentication;
mod autoscaling;
mod interruptions;
mod registration;
mod rotation;
mod support;
