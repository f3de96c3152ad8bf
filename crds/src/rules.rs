//! The CEL rules that several fields share, each with the sentence that a person sees when it refuses.
//!
//! A rule only reaches fields with a bounded size, or the API server refuses the CRD for its cost.

use kube::core::{Message, Rule};

/// The longest name of a resource; its children append to it and stay below 63.
pub const NAME_MAX_LENGTH: usize = 40;

/// What is read from a volume: a file of a claim, or of the container's own file system.
pub(crate) fn volume_uri() -> Rule {
    rule(
        "self.matches('^(pvc://[a-z0-9][-a-z0-9.]*/|file:///)[A-Za-z0-9._~@+=/-]*$') && !self.contains('..')",
        "must be pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace) or file:///PATH, \
         with letters, digits and ._~@+=/- in the path and without '..'",
    )
}

/// Where a checkpoint may come from.
pub(crate) fn model_uri() -> Rule {
    rule(
        "self.matches('^((pvc://[a-z0-9][-a-z0-9.]*/|file:///)[A-Za-z0-9._~@+=/-]*|hf://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*[.]gguf)?)?\
         (@[A-Za-z0-9][A-Za-z0-9._/-]*)?|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9._~@+=/-]*|oci://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?\
         /[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9_][A-Za-z0-9._-]*|@sha256:[0-9a-f]{64})?)$') && !self.contains('..')",
        "must be hf://ORG/NAME[/FILE.gguf][@REVISION], s3://BUCKET/PREFIX, oci://REGISTRY/REPOSITORY[:TAG|@sha256:…], \
         pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace) or file:///PATH, with letters, digits and ._~@+=/- in the path and without '..'",
    )
}

/// Where data may come from.
pub(crate) fn data_uri() -> Rule {
    rule(
        "self.matches('^((pvc://[a-z0-9][-a-z0-9.]*/|file:///)[A-Za-z0-9._~@+=/-]*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9._~@+=-]+/)*\
         [A-Za-z0-9._~@+=*-]+)$') && !self.contains('..')",
        "must be s3://BUCKET/PATH (with * in the last part for several files), pvc://CLAIM/PATH (a PersistentVolumeClaim of this namespace) \
         or file:///PATH, with letters, digits and ._~@+=/- in the path and without '..'",
    )
}

/// Where something may be written: a folder of a claim, or of S3.
pub(crate) fn output_uri() -> Rule {
    rule(
        "self.matches('^(pvc://[a-z0-9][-a-z0-9.]*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/[A-Za-z0-9._~@+=/-]+$') && !self.contains('..')",
        "must be pvc://CLAIM/PATH (a folder of a PersistentVolumeClaim of this namespace) or s3://BUCKET/PREFIX, \
         with letters, digits and ._~@+=/- in the path and without '..'",
    )
}

/// An address of a service, without anything secret in it.
pub(crate) fn http_address() -> Rule {
    rule(
        "self.matches('^https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$')",
        "must be https://HOST[:PORT] or http://HOST[:PORT], without a user name and without a query (credentials belong into secretRef)",
    )
}

/// An HTTP proxy, without anything secret in it.
pub(crate) fn proxy() -> Rule {
    rule(
        "self.matches('^http://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/?$')",
        "must be http://HOST:PORT without a user name (https targets are tunneled through it)",
    )
}

/// The name of a digest.
pub(crate) fn digest() -> Rule {
    rule(
        "self.matches('^sha256:[0-9a-f]{64}$')",
        "must be sha256: and 64 hexadecimal digits, as status.model.digest shows it",
    )
}

/// The fields of an access go with a URI that is reached over the network: `remote` says when there is one.
pub(crate) fn access(remote: &str, schemes: &str) -> Rule {
    rule(
        &format!(
            "{remote} || !(has(self.secretRef) || has(self.endpoint) || has(self.region) || has(self.caBundleRef) || has(self.proxy))"
        ),
        &format!(
            "secretRef, endpoint, region, caBundleRef and proxy go with {schemes}: remove them, or correct the uri"
        ),
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

/// Temperatures beside greedy decoding.
pub(crate) fn temperatures() -> Rule {
    rule(
        r"self.all(temperature, temperature.matches('^[0-9]{1,9}(\\.[0-9]{1,9})?$') && double(temperature) > 0.0 && double(temperature) <= 2.0)",
        "each of temperatures must be a decimal as a string above 0 and at most 2, like \"0.7\" (greedy decoding is always measured)",
    )
}

/// Pods that train together use the workspace at once.
pub(crate) fn shared_workspace() -> Rule {
    rule(
        "self.training.workers == 1 || !has(self.workspace) || !has(self.workspace.accessModes) \
         || !('ReadWriteOncePod' in self.workspace.accessModes)",
        "training.workers above 1 lets several Pods use the workspace at once, which ReadWriteOncePod forbids: \
         set workspace.accessModes to ReadWriteMany (or to ReadWriteOnce where all Pods run on one node), or training.workers to 1",
    )
}

/// A volume is an existing claim or a new one.
pub(crate) fn one_claim(field: &str) -> Rule {
    rule(
        "!has(self.claimName) || !(has(self.storageClassName) || has(self.size) || has(self.accessModes))",
        &format!(
            "{field} is either an existing claim (claimName) or a new one (storageClassName, size, accessModes): remove one of the two"
        ),
    )
}

/// What is scaled on can be reached: an autoscaler adds a replica where the figure is more than a tenth above its target.
pub(crate) fn reachable_target() -> Rule {
    rule(
        "!has(self.autoscaling) || !has(self.autoscaling.targetTokensPerSecond) || !has(self.server.maxTokensPerSecond) \
         || self.autoscaling.targetTokensPerSecond * 10 <= self.server.maxTokensPerSecond * 9",
        "autoscaling.targetTokensPerSecond must be at most nine tenths of server.maxTokensPerSecond, or no load would add a replica \
         (the autoscaler overlooks a tenth): lower the one, raise the other, or set targetUtilization instead",
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
             Create a CllmTraining with another name (suspend, trajectories.parallelism and ttlSecondsAfterFinished can be changed)"
        ),
    )
}

/// A rule with its sentence.
pub(crate) fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(Message::Message(message.to_owned()))
}
