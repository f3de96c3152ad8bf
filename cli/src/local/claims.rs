//! Which folder of this machine stands for a persistent volume claim.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// On a resource: `CLAIM=./path,…`, relative to the YAML file.
pub(super) const ANNOTATION: &str = "cllm.dev/local-claims";

/// The folders that were named: by annotation, or by `--claim`, which wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    named: BTreeMap<String, PathBuf>,
    root: PathBuf,
}

impl Claims {
    /// Claims without a named folder lie under `root`.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { named: BTreeMap::new(), root }
    }

    /// Adds the annotation of a resource that stands in `file`; an error is a sentence.
    pub(super) fn annotate(&mut self, annotation: &str, file: &Path) -> Result<(), String> {
        let base = file.parent().unwrap_or(Path::new(""));
        for entry in annotation.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let refused = || {
                format!(
                    "metadata.annotations.{ANNOTATION} has the entry '{entry}'; it must be a comma-separated list of CLAIM=FOLDER"
                )
            };
            let (claim, folder) = entry.split_once('=').ok_or_else(refused)?;
            if claim.is_empty() || folder.is_empty() {
                return Err(refused());
            }
            self.named.insert(claim.to_owned(), absolute(&base.join(folder)));
        }
        Ok(())
    }

    /// Adds what was named on the command line, relative to the current folder.
    pub(super) fn name(&mut self, claim: &str, folder: &Path) {
        self.named.insert(claim.to_owned(), absolute(folder));
    }

    /// The folder of a claim.
    pub(super) fn folder(&self, claim: &str) -> PathBuf {
        self.named.get(claim).cloned().unwrap_or_else(|| self.root.join(claim))
    }

    /// Whether someone named the folder, so that it is theirs to create.
    pub(super) fn is_named(&self, claim: &str) -> bool {
        self.named.contains_key(claim)
    }

    /// The path on this machine of `pvc://CLAIM/PATH` or `file:///PATH`.
    pub(super) fn path_of(&self, uri: &str) -> Option<PathBuf> {
        if let Some(path) = uri.strip_prefix("file://") {
            return Some(PathBuf::from(path));
        }
        let (claim, path) = uri.strip_prefix("pvc://")?.split_once('/')?;
        Some(self.folder(claim).join(path))
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_beats_the_annotation_which_beats_the_working_folder() {
        let mut claims = Claims::new("/folder/claims".into());
        claims.annotate("data=./data, models=/m", Path::new("/example/up.yaml")).unwrap();
        claims.name("models", Path::new("/elsewhere"));
        let cases = [
            ("pvc://data/train.jsonl", Some("/example/./data/train.jsonl")),
            ("pvc://models/text2sql/abc", Some("/elsewhere/text2sql/abc")),
            ("pvc://other/x", Some("/folder/claims/other/x")),
            ("file:///opt/model", Some("/opt/model")),
            ("https://example.org/x", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(claims.path_of(uri), expected.map(PathBuf::from), "{uri}");
        }
    }

    #[test]
    fn an_entry_without_a_folder_is_refused() {
        for annotation in ["data", "=x", "data=", "a=b,c"] {
            let mut claims = Claims::default();
            assert!(claims.annotate(annotation, Path::new("up.yaml")).is_err(), "{annotation}");
        }
    }
}
