//! Blobs that are known by their digest, and the layers among them.

use std::io::Write;
use std::str::FromStr;

use anyhow::Context;
use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use oci_spec::image::{Descriptor, Digest, MediaType, Sha256Digest};
use sha2::Digest as _;

use super::tree::Tree;

/// Bytes and what describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) descriptor: Descriptor,
    pub(crate) content: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: MediaType, content: Vec<u8>) -> anyhow::Result<Self> {
        let descriptor = Descriptor::new(media_type, content.len() as u64, digest(&content)?);
        Ok(Self { descriptor, content })
    }
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) blob: Blob,
    /// The digest of the archive before compression.
    pub(crate) difference: Digest,
    /// What it holds, for the history of the image.
    pub(crate) comment: String,
}

impl Layer {
    /// Of a tree.
    pub(crate) fn new(comment: &str, tree: &Tree, time: Timestamp, is_compressed: bool) -> anyhow::Result<Self> {
        let archive = tree.to_tar(time)?;
        let difference = digest(&archive)?;
        let blob = if is_compressed {
            Blob::new(MediaType::ImageLayerGzip, compress(&archive)?)?
        } else {
            Blob::new(MediaType::ImageLayer, archive)?
        };
        Ok(Self { blob, difference, comment: comment.to_owned() })
    }
}

fn digest(content: &[u8]) -> anyhow::Result<Digest> {
    let hex = format!("{:x}", sha2::Sha256::digest(content));
    Ok(Sha256Digest::from_str(&hex).context("cannot make a digest")?.into())
}

/// Without a time or a name in the header.
fn compress(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(content).and_then(|()| encoder.finish()).context("cannot compress a layer")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_compressed_layer_is_named_by_its_compressed_bytes_and_differs_by_its_archive() {
        let tree = Tree::default().with_file("a/b", 0o644, "content");
        let time = Timestamp::from_second(1).unwrap();
        let layer = |is_compressed| Layer::new("comment", &tree, time, is_compressed).unwrap();
        let (plain, compressed) = (layer(false), layer(true));
        assert_eq!(plain.difference, compressed.difference);
        assert_eq!(plain.difference, *plain.blob.descriptor.digest());
        assert_eq!(*compressed.blob.descriptor.digest(), digest(&compressed.blob.content).unwrap());
        assert_eq!(*compressed.blob.descriptor.media_type(), MediaType::ImageLayerGzip);
        let mut archive = Vec::new();
        flate2::read::GzDecoder::new(compressed.blob.content.as_slice()).read_to_end(&mut archive).unwrap();
        assert_eq!(archive, plain.blob.content);
        assert_eq!(layer(true), compressed);
    }
}
