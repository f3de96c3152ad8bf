//! The CEL rules that several fields share, each with the sentence that a person sees when it refuses.
//!
//! A rule only reaches fields with a bounded size, or the API server refuses the CRD for its cost.

use kube::core::{Message, Rule};

/// The longest name of a resource; its children append to it and stay below 63.
pub const NAME_MAX_LENGTH: usize = 40;

/// What may be read: a folder or file of a claim, or of the container's own file system.
pub(crate) fn input_uri() -> Rule {
    rule(
        "self.matches('^(pvc://[a-z0-9][-a-z0-9.]*/|file:///)[A-Za-z0-9._~@+=/-]*$') && !self.contains('..')",
        "must be pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace) or file:///PATH, \
         with letters, digits and ._~@+=/- in the path and without '..'",
    )
}

/// Where something may be written: a folder of a claim.
pub(crate) fn output_uri() -> Rule {
    rule(
        "self.matches('^pvc://[a-z0-9][-a-z0-9.]*/[A-Za-z0-9._~@+=/-]+$') && !self.contains('..')",
        "must be pvc://CLAIM/PATH (a folder of a PersistentVolumeClaim of this namespace), \
         with letters, digits and ._~@+=/- in the path and without '..'",
    )
}

/// What a resource may be called.
pub(crate) fn name() -> Rule {
    rule(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must have at most 40 characters, start with a letter, and contain only lower-case letters, \
         digits and '-' (the names of its Jobs, Services and Pods are made from it)",
    )
}

/// A decimal as a string, like `"1.85"`.
pub(crate) fn decimal() -> Rule {
    rule(
        r"self.matches('^[0-9]{1,9}(\\.[0-9]{1,9})?$')",
        "must be a non-negative decimal as a string, like \"1.85\", with at most nine digits before and after the point",
    )
}

/// A field of the spec that stays as it was created.
pub(crate) fn immutable(field: &str) -> Rule {
    rule(
        &format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        &format!(
            "{field} cannot be changed: the name of a training stands for one result. \
             Create a CllmTraining with another name (suspend and trajectories.parallelism can be changed)"
        ),
    )
}

/// A rule with its sentence.
pub(crate) fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(Message::Message(message.to_owned()))
}
