//! An image as an archive of an OCI image layout.
//!
//! Source: <https://github.com/opencontainers/image-spec>, `image-layout.md`, `config.md`, `manifest.md`.

use std::collections::HashMap;

use anyhow::Context;
use jiff::Timestamp;
use oci_spec::distribution::Reference;
use oci_spec::image::{
    ANNOTATION_REF_NAME, ANNOTATION_REVISION, Arch, Config, ConfigBuilder, Descriptor, History, HistoryBuilder,
    ImageConfiguration, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder,
};
use serde::Serialize;

use super::configuration::Configuration;
use super::layer::{Blob, Layer};
use super::revision::Revision;
use super::tree::Tree;

/// The full name under which containerd imports the image.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";
const SCHEMA_VERSION: u32 = 2;
const FILE_MODE: u32 = 0o644;

/// An image of this machine's architecture.
pub(crate) struct Layout {
    /// What the archive holds.
    pub(crate) tree: Tree,
    /// The digest of the manifest, by which the image is known.
    pub(crate) digest: String,
}

/// Lays out an image; what it holds depends on the arguments alone.
pub(crate) fn layout(
    name: &Reference,
    configuration: &Configuration,
    layers: &[Layer],
    revision: &Revision,
) -> anyhow::Result<Layout> {
    let configuration = image_configuration(configuration, layers, revision)?;
    let configuration = Blob::new(MediaType::ImageConfig, json(&configuration)?)?;
    let layer_descriptors: Vec<_> = layers.iter().map(|layer| layer.blob.descriptor.clone()).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(configuration.descriptor.clone())
        .layers(layer_descriptors)
        .build()?;
    let manifest = Blob::new(MediaType::ImageManifest, json(&manifest)?)?;
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([named(&manifest, name)?])
        .build()?;
    let marker = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    let blobs = layers.iter().map(|layer| &layer.blob).chain([&configuration, &manifest]);
    let tree = blobs.fold(Tree::default(), |tree, Blob { descriptor, content }| {
        tree.with_file(&format!("blobs/sha256/{}", descriptor.digest().digest()), FILE_MODE, content.clone())
    });
    let tree =
        tree.with_file("index.json", FILE_MODE, json(&index)?).with_file("oci-layout", FILE_MODE, json(&marker)?);
    Ok(Layout { tree, digest: manifest.descriptor.digest().to_string() })
}

fn image_configuration(
    configuration: &Configuration,
    layers: &[Layer],
    revision: &Revision,
) -> anyhow::Result<ImageConfiguration> {
    let differences: Vec<_> = layers.iter().map(|layer| layer.difference.to_string()).collect();
    let history: Vec<_> = layers.iter().map(|layer| history(layer, revision.time)).collect::<anyhow::Result<_>>()?;
    let configuration = ImageConfigurationBuilder::default()
        .created(revision.time.to_string())
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(config(configuration, revision)?)
        .rootfs(RootFsBuilder::default().diff_ids(differences).build()?)
        .history(history)
        .build()?;
    Ok(configuration)
}

fn config(configuration: &Configuration, revision: &Revision) -> anyhow::Result<Config> {
    let Configuration { user, environment, entry_point, ports, working_folder, labels } = configuration;
    let revision = revision.commit.clone().map(|commit| (ANNOTATION_REVISION, commit));
    let labels = labels.clone().into_iter().chain(revision).map(|(key, value)| (key.to_owned(), value));
    let environment: Vec<_> = environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let builder = ConfigBuilder::default()
        .user(user)
        .env(environment)
        .entrypoint([entry_point.clone()])
        .exposed_ports(ports.clone())
        .working_dir(*working_folder)
        .labels(labels.collect::<HashMap<_, _>>());
    Ok(builder.build()?)
}

fn history(layer: &Layer, time: Timestamp) -> anyhow::Result<History> {
    Ok(HistoryBuilder::default()
        .created(time.to_string())
        .created_by("xtask images")
        .comment(&layer.comment)
        .build()?)
}

/// The descriptor of the manifest in the index: tools that know only tags read one name, containerd the other.
fn named(manifest: &Blob, name: &Reference) -> anyhow::Result<Descriptor> {
    let tag = name.tag().context("the name of the image has no tag")?;
    let names = [(ANNOTATION_REF_NAME, tag.to_owned()), (ANNOTATION_CONTAINERD_NAME, name.whole())];
    let mut descriptor = manifest.descriptor.clone();
    descriptor.set_annotations(Some(names.map(|(key, value)| (key.to_owned(), value)).into()));
    descriptor.set_platform(Some(PlatformBuilder::default().architecture(Arch::default()).os(Os::Linux).build()?));
    Ok(descriptor)
}

/// With sorted keys: the types keep them in maps without an order.
fn json(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}
