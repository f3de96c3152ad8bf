//! `cargo run -p xtask -- images`: container images as OCI archives, without a container engine.

mod binaries;
mod configuration;
mod description;
mod dockerfile;
mod layer;
mod layout;
mod libraries;
mod revision;
mod root_file_system;
mod tree;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use oci_spec::distribution::Reference;

use self::binaries::Profile;
use self::configuration::Configuration;
use self::description::{Description, Image};
use self::layer::Layer;
use self::layout::Layout;
use self::revision::Revision;
use self::tree::Tree;
use crate::artifacts::Artifact;

/// Which images to make, of what, and where.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// Which binaries the images get; only those of the release are the same in every clone.
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
    /// The images to make [default: all].
    #[arg(long = "image", value_name = "NAME", num_args = 1..)]
    images: Vec<String>,
    /// Make the images for NVIDIA GPUs, in the environment of tests/cuda/environment.sh.
    #[arg(long)]
    cuda: bool,
    /// The tag of the images.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
    /// What the names of the images begin with, such as `registry.example/team`.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    registry: String,
    /// The folder of the archives [default: target/images of the repository].
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Instead of archives: write what lies in the one image into this folder, for a Dockerfile.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output", "tag", "registry"])]
    root_file_system: Option<PathBuf>,
    /// The time of everything in the images in seconds since 1970 [default: that of the commit].
    #[arg(long, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    source_date_epoch: Option<u32>,
    /// The repository.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
    root: PathBuf,
    /// The home of cargo, whose path is kept out of the binaries.
    #[arg(long, env = "CARGO_HOME", hide = true)]
    cargo_home: Option<PathBuf>,
}

/// Makes the images.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let root = args.root.canonicalize().with_context(|| format!("cannot find {}", args.root.display()))?;
    let description = Description::of_repository(&root)?;
    let images = description.select(&args.images, args.cuda)?;
    match (&args.root_file_system, images.as_slice()) {
        (None, images) => write_archives(args, &root, &description, images),
        (Some(folder), [image]) => {
            let binaries = args.binaries(&root, &description)?;
            contents(&description, image, &binaries)?.iter().try_for_each(|(_, tree)| tree.write(folder))
        }
        (Some(_), _) => bail!("{} images do not fit into one root file system: name one with --image", images.len()),
    }
}

fn write_archives(args: &Args, root: &Path, description: &Description, images: &[&Image]) -> anyhow::Result<()> {
    let names = images.iter().map(|image| args.name(image)).collect::<anyhow::Result<Vec<_>>>()?;
    let revision = Revision::of_repository(root, args.source_date_epoch)?;
    let binaries = args.binaries(root, description)?;
    let output = args.output.clone().unwrap_or_else(|| root.join("target/images"));
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    images.iter().zip(&names).try_for_each(|(image, name)| {
        let contents = contents(description, image, &binaries)?;
        let layers = contents
            .iter()
            .map(|(comment, tree)| Layer::new(comment, tree, revision.time, args.profile == Profile::Release))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let layout = layout::layout(name, &Configuration::of_image(description, image), &layers, &revision)?;
        write(&output.join(format!("{}.tar", image.name)), name, &layout, &revision)
    })
}

impl Args {
    /// The full name of an image, as container runtimes complete it.
    fn name(&self, image: &Image) -> anyhow::Result<Reference> {
        let registry = self.registry.trim_end_matches('/');
        let separator = if registry.is_empty() { "" } else { "/" };
        let name = format!("{registry}{separator}{}:{}", image.name, self.tag);
        Reference::try_from(name.as_str())
            .with_context(|| format!("{name:?} is no name of an image: check --tag and --registry"))
    }

    fn binaries(&self, root: &Path, description: &Description) -> anyhow::Result<PathBuf> {
        binaries::folder(self.profile, self.cuda, root, description, &self.cargo_home()?)
    }

    fn cargo_home(&self) -> anyhow::Result<PathBuf> {
        let given = self.cargo_home.clone();
        given
            .or_else(|| Some(std::env::home_dir()?.join(".cargo")))
            .context("the home of cargo is unknown: set CARGO_HOME")
    }
}

/// What lies in an image, a layer each; all but the binary is the same for all binaries that need the same libraries.
fn contents(description: &Description, image: &Image, binaries: &Path) -> anyhow::Result<Vec<(&'static str, Tree)>> {
    let path = binaries.join(&image.binary);
    let content = binaries::stripped(&path)?;
    let toolkit = image.cuda.then(libraries::toolkit).transpose()?;
    let (of_cuda, others): (Vec<_>, Vec<_>) = libraries::of_binary(&path, toolkit.as_deref())?
        .into_iter()
        .partition(|library| library.is_in(toolkit.as_deref()));
    let mut layers = vec![("base", root_file_system::base(description.user, &others)?)];
    if image.cuda {
        layers.push(("libraries of CUDA", root_file_system::libraries(&of_cuda)?));
    }
    layers.push(("binary", root_file_system::binary(&image.binary, content)));
    Ok(layers)
}

/// Writes the archive beside its place first, so that there is never half an archive under its name.
#[expect(clippy::print_stdout, reason = "says what was made, for scripts")]
fn write(path: &Path, name: &Reference, layout: &Layout, revision: &Revision) -> anyhow::Result<()> {
    let archive = layout.tree.to_tar(revision.time)?;
    let partial = path.with_extension("tar.partial");
    std::fs::write(&partial, &archive)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}\t{name}\t{}", path.display(), layout.digest);
    Ok(())
}

/// The generated files: a Dockerfile for each image, and the list of images.
pub(crate) fn artifacts(root: &Path) -> anyhow::Result<Vec<Artifact>> {
    let description = Description::of_repository(root)?;
    let dockerfiles = description.images.iter().map(|image| {
        let content = format!("{}{}", crate::artifacts::HEADER, dockerfile::dockerfile(&description, image)?);
        Ok(Artifact { path: format!("images/{}.Dockerfile", image.name), content })
    });
    let list = Artifact { path: "images/images.txt".to_owned(), content: dockerfile::list(&description) };
    dockerfiles.chain([Ok(list)]).collect()
}
