//! What the images are: `images/images.yaml`, read and checked.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::path::Path;

use anyhow::{Context, ensure};
use oci_spec::distribution::Reference;
use serde::Deserialize;

/// Where the description lies, relative to the repository.
pub(crate) const PATH: &str = "images/images.yaml";

/// All images. Their names differ and are names of repositories; the tag of the builder begins with a version of Rust.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The image in which the Dockerfiles build.
    pub(crate) builder: String,
    /// The user and the group of the processes; not root.
    pub(crate) user: u32,
    pub(crate) images: Vec<Image>,
}

/// One image: one binary.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    /// The name without registry and tag.
    pub(crate) name: String,
    /// The package that builds the binary.
    pub(crate) package: String,
    /// The file in `/usr/local/bin`.
    pub(crate) binary: String,
    /// What it does, in one line.
    pub(crate) description: String,
    /// The TCP ports that it listens on.
    pub(crate) ports: Vec<NonZeroU16>,
    /// Whether it computes on NVIDIA GPUs: built with the feature `cuda`, beside the libraries of CUDA.
    #[serde(default)]
    pub(crate) cuda: bool,
}

impl Description {
    /// Reads the description of a repository.
    pub(crate) fn of_repository(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(PATH);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} does not describe images", path.display()))
    }

    /// Reads and checks a description.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let description: Self = serde_saphyr::from_str(text)?;
        ensure!(description.user != 0, "the user is 0, which is root: name another, such as 65532");
        description.rust_version()?;
        ensure!(!description.images.is_empty(), "the list of images is empty: name at least one");
        let mut names = BTreeSet::new();
        for image in &description.images {
            image.check().with_context(|| format!("the image {:?} cannot be made", image.name))?;
            ensure!(names.insert(&image.name), "two images are called {:?}: give each a name of its own", image.name);
        }
        Ok(description)
    }

    /// The version of Rust in the builder: the digits that its tag begins with.
    pub(crate) fn rust_version(&self) -> anyhow::Result<&str> {
        let version = self.builder.split_once(':').and_then(|(_, tag)| tag.split('-').next());
        version.filter(|version| is_full_version(version)).with_context(|| {
            format!("the builder is {:?}: pin a tag that begins with a full version of Rust, such as rust:1.95.0-slim-bookworm", self.builder)
        })
    }

    /// The images of these names in the order of the description; for no name all that are for CUDA, or all that are not. The two kinds
    /// are built apart.
    pub(crate) fn select(&self, names: &[String], cuda: bool) -> anyhow::Result<Vec<&Image>> {
        if let Some(unknown) = names.iter().find(|name| self.images.iter().all(|image| image.name != **name)) {
            let known: Vec<_> = self.images.iter().map(|image| image.name.as_str()).collect();
            anyhow::bail!("no image is called {unknown:?}; there are {}", known.join(", "));
        }
        if names.is_empty() {
            return Ok(self.of_kind(cuda).collect());
        }
        let named: Vec<_> = self.images.iter().filter(|image| names.contains(&image.name)).collect();
        if let Some(other) = named.iter().find(|image| image.cuda != cuda) {
            let advice = if cuda { "leave --cuda away" } else { "add --cuda" };
            anyhow::bail!(
                "the image {:?} is of the other kind: {advice}, and make images of one kind at a time",
                other.name
            );
        }
        Ok(named)
    }
}

impl Description {
    /// All images for CUDA, or all others.
    pub(crate) fn of_kind(&self, cuda: bool) -> impl Iterator<Item = &Image> {
        self.images.iter().filter(move |image| image.cuda == cuda)
    }
}

impl Image {
    fn check(&self) -> anyhow::Result<()> {
        let is_repository = Reference::try_from(self.name.as_str()).is_ok() && !self.name.contains(['/', ':', '@']);
        ensure!(
            is_repository,
            "its name must be the last part of a repository: lower-case letters, digits and single hyphens"
        );
        ensure!(is_file_name(&self.binary), "its binary is {:?}, which is no file name", self.binary);
        ensure!(!self.package.is_empty(), "its package is empty: name the one that builds {}", self.binary);
        let is_line = !self.description.is_empty() && !self.description.contains(['\n', '"', '\\', '$']);
        ensure!(is_line, "its description must be one line without quotes, backslashes and dollar signs");
        Ok(())
    }
}

fn is_full_version(version: &str) -> bool {
    let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
    numbers.len() == 3 && numbers.iter().all(Result::is_ok)
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
