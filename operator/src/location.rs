//! Where data lies: the URIs of a spec, parsed, and the paths under which a container finds them.

use std::fmt;

/// Where claims are mounted in a container, one folder each.
pub const CLAIMS_FOLDER: &str = "/claims";
/// Where the workspace is mounted in a container.
pub const WORKSPACE_FOLDER: &str = "/workspace";

/// A parsed URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `pvc://CLAIM/PATH`.
    Claim(ClaimPath),
    /// `file:///PATH`: the absolute path in the container.
    File(String),
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
    "`{found}` is not a place that cllm can use: write pvc://CLAIM/PATH (a PersistentVolumeClaim of the namespace) or \
     file:///PATH, with letters, digits and ._~@+=/- in the path and without '..'"
)]
pub struct LocationError {
    /// The URI as it was written.
    pub found: String,
}

impl Location {
    /// Parses `pvc://CLAIM/PATH` or `file:///PATH`.
    pub fn parse(uri: &str) -> Result<Self, LocationError> {
        let refused = || LocationError { found: uri.to_owned() };
        let is_safe = |path: &str| !path.contains("..") && path.chars().all(is_path_character);
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

    /// The path in a container.
    pub fn container_path(&self) -> String {
        match self {
            Self::Claim(place) => place.container_path(),
            Self::File(path) => path.clone(),
        }
    }

    /// The claim that must be mounted, if any.
    pub fn claim(&self) -> Option<&str> {
        match self {
            Self::Claim(place) => Some(&place.claim),
            Self::File(_) => None,
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
        ] {
            let location = Location::parse(uri).unwrap();
            assert_eq!(location.container_path(), path);
            assert_eq!(location.claim(), claim);
        }
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        for uri in [
            "",
            "models/target",
            "/models/target",
            "hf://org/name",
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
            let error = Location::parse(uri).unwrap_err().to_string();
            assert!(error.contains("pvc://CLAIM/PATH"), "{uri}: {error}");
        }
    }
}
