//! Where data lies: the URIs of a spec, parsed, and the paths under which a container finds them.

use std::fmt;

/// Where claims are mounted in a container, one folder each.
pub const CLAIMS_FOLDER: &str = "/claims";
/// Where the workspace is mounted in a container.
pub const WORKSPACE_FOLDER: &str = "/workspace";

/// Where downloads are kept in a container that serves.
pub const CACHE_FOLDER: &str = "/cache";

/// A parsed URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `pvc://CLAIM/PATH`.
    Claim(ClaimPath),
    /// `file:///PATH`: the absolute path in the container.
    File(String),
    /// `hf://`, `s3://` or `oci://`: what the process in the container downloads or uploads by itself.
    Remote(String),
}

/// A place in a PersistentVolumeClaim of the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath {
    /// The name of the claim.
    pub claim: String,
    /// The path within it, without slashes at either end; empty for its root.
    pub path: String,
}

/// Why a URI is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{found}` is not a place that can be used here: write {allowed}, with letters, digits and ._~@+=/- in the path and without '..'"
)]
pub struct LocationError {
    /// The URI as it was written.
    pub found: String,
    /// What may stand there.
    pub allowed: &'static str,
}

/// What a URI is for, which decides over the schemes that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A checkpoint.
    Model,
    /// Examples.
    Data,
    /// A file that is read from a volume.
    Volume,
    /// A folder that is written.
    Output,
}

impl Purpose {
    fn remote_schemes(self) -> &'static [&'static str] {
        match self {
            Self::Model => &["hf://", "s3://", "oci://"],
            Self::Data | Self::Output => &["s3://"],
            Self::Volume => &[],
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Model => {
                "hf://ORG/NAME[/FILE.gguf][@REVISION], s3://BUCKET/PREFIX, oci://REGISTRY/REPOSITORY[:TAG|@DIGEST], pvc://CLAIM/PATH (a \
                 PersistentVolumeClaim of the namespace) or file:///PATH"
            }
            Self::Data => {
                "s3://BUCKET/PATH (with * in the last part for several files), pvc://CLAIM/PATH (a PersistentVolumeClaim of the \
                 namespace) or file:///PATH"
            }
            Self::Volume => "pvc://CLAIM/PATH (a PersistentVolumeClaim of the namespace) or file:///PATH",
            Self::Output => {
                "pvc://CLAIM/PATH (a folder of a PersistentVolumeClaim of the namespace) or s3://BUCKET/PREFIX"
            }
        }
    }
}

impl Location {
    /// Parses what may stand there.
    pub fn parse(uri: &str, purpose: Purpose) -> Result<Self, LocationError> {
        let refused = || LocationError { found: uri.to_owned(), allowed: purpose.allowed() };
        let is_safe = |path: &str| !path.contains("..") && path.chars().all(is_path_character);
        if let Some(rest) = purpose.remote_schemes().iter().find_map(|scheme| uri.strip_prefix(scheme)) {
            let (first, last) = rest.rsplit_once('/').unwrap_or(("", rest));
            let is_pattern = purpose == Purpose::Data && is_safe(&last.replace('*', ""));
            // an object needs a bucket, an image a registry
            let has_both = !first.is_empty() || uri.starts_with("hf://");
            let is_fine = |text: &str| is_safe(&text.replace(':', ""));
            return if !rest.is_empty() && has_both && is_fine(first) && (is_fine(last) || is_pattern) {
                Ok(Self::Remote(uri.to_owned()))
            } else {
                Err(refused())
            };
        }
        if let Some(rest) = uri.strip_prefix("pvc://") {
            let (claim, path) = rest.split_once('/').ok_or_else(refused)?;
            if !is_claim_name(claim) || !is_safe(path) {
                return Err(refused());
            }
            return Ok(Self::Claim(ClaimPath { claim: claim.to_owned(), path: path.trim_matches('/').to_owned() }));
        }
        match uri.strip_prefix("file://") {
            Some(path) if path.starts_with('/') && is_safe(path) => Ok(Self::File(path.to_owned())),
            _ => Err(refused()),
        }
    }

    /// As the process in a container is told: a path, or the URI.
    pub fn argument(&self) -> String {
        match self {
            Self::Claim(place) => place.container_path(),
            Self::File(path) | Self::Remote(path) => path.clone(),
        }
    }

    /// The URI, if it is reached over the network.
    pub fn remote(&self) -> Option<&str> {
        match self {
            Self::Remote(uri) => Some(uri),
            Self::Claim(_) | Self::File(_) => None,
        }
    }

    /// The claim that must be mounted, if any.
    pub fn claim(&self) -> Option<&str> {
        match self {
            Self::Claim(place) => Some(&place.claim),
            Self::File(_) | Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(place) => place.fmt(formatter),
            Self::File(path) => write!(formatter, "file://{path}"),
            Self::Remote(uri) => formatter.write_str(uri),
        }
    }
}

impl ClaimPath {
    /// The path in a container.
    pub fn container_path(&self) -> String {
        let Self { claim, path } = self;
        if path.is_empty() { format!("{CLAIMS_FOLDER}/{claim}") } else { format!("{CLAIMS_FOLDER}/{claim}/{path}") }
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "pvc://{}/{}", self.claim, self.path)
    }
}

/// Whether Kubernetes accepts the name for a PersistentVolumeClaim.
pub fn is_claim_name(name: &str) -> bool {
    let is_alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(is_alphanumeric)
                && label.ends_with(is_alphanumeric)
                && label.chars().all(|character| is_alphanumeric(character) || character == '-')
        })
}

fn is_path_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._~@+=/-".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_their_paths_in_a_container() {
        for (uri, path, claim) in [
            ("pvc://models/text2sql/target", "/claims/models/text2sql/target", Some("models")),
            ("pvc://models/text2sql/", "/claims/models/text2sql", Some("models")),
            ("pvc://models/", "/claims/models", Some("models")),
            ("pvc://a.b-c/day=1/a.jsonl", "/claims/a.b-c/day=1/a.jsonl", Some("a.b-c")),
            ("file:///models/target", "/models/target", None),
            ("hf://org/name@refs/pr/1", "hf://org/name@refs/pr/1", None),
            ("hf://org/name/model.Q8_0.gguf", "hf://org/name/model.Q8_0.gguf", None),
            ("s3://bucket/models/a", "s3://bucket/models/a", None),
            ("oci://registry.example:5000/team/model:v1", "oci://registry.example:5000/team/model:v1", None),
        ] {
            let location = Location::parse(uri, Purpose::Model).unwrap();
            assert_eq!(location.argument(), path);
            assert_eq!(location.claim(), claim);
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        for uri in [
            "",
            "models/target",
            "/models/target",
            "https://example.org/name",
            "hf://",
            "s3://bucket",
            "s3://bucket/*",
            "s3://bucket/../other",
            "oci://registry",
            "hf://org/na me",
            "pvc://models",
            "pvc:///path",
            "pvc://Models/path",
            "pvc://-models/path",
            "pvc://models/../other",
            "pvc://models/*.jsonl",
            "pvc://models/a b",
            "pvc://models/$(id)",
            "pvc://models/a;b",
            "pvc://models/a\nb",
            "file://relative",
            "file:///a/../b",
        ] {
            let error = Location::parse(uri, Purpose::Model).unwrap_err().to_string();
            assert!(error.contains("pvc://CLAIM/PATH"), "{uri}: {error}");
        }
    }

    #[test]
    fn what_may_stand_there_depends_on_the_purpose() {
        for (uri, purposes) in [
            ("hf://org/name", [true, false, false, false]),
            ("oci://registry/name", [true, false, false, false]),
            ("s3://bucket/a", [true, true, false, true]),
            ("s3://bucket/a/*.jsonl.gz", [false, true, false, false]),
            ("pvc://models/a", [true, true, true, true]),
        ] {
            let of = [Purpose::Model, Purpose::Data, Purpose::Volume, Purpose::Output];
            assert_eq!(of.map(|purpose| Location::parse(uri, purpose).is_ok()), purposes, "{uri}");
        }
    }
}
