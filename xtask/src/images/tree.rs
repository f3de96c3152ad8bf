//! A tree of files and folders, and its two forms: a tar archive that depends on nothing else, and a folder.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use tar::{EntryType, Header};

/// Files and folders by path (no leading slash), sorted; all belong to root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    mode: u32,
    /// None for a folder.
    content: Option<Vec<u8>>,
}

const FOLDER_MODE: u32 = 0o755;

impl Tree {
    /// With a folder.
    pub(crate) fn with_folder(mut self, path: &str, mode: u32) -> Self {
        self.add_parents(path);
        self.0.insert(path.to_owned(), Node { mode, content: None });
        self
    }

    /// With a file.
    pub(crate) fn with_file(mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        self.add_parents(path);
        self.0.insert(path.to_owned(), Node { mode, content: Some(content.into()) });
        self
    }

    fn add_parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            let parent = Node { mode: FOLDER_MODE, content: None };
            self.0.entry(path[..end].to_owned()).or_insert(parent);
        }
    }

    /// A tar archive of it: parents first, everything of one time.
    pub(crate) fn to_tar(&self, time: Timestamp) -> anyhow::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in &self.0 {
            let content = node.content.as_deref().unwrap_or_default();
            let header = node.header(path, time).with_context(|| format!("cannot archive {path}"))?;
            archive.append(&header, content).with_context(|| format!("cannot archive {path}"))?;
        }
        archive.into_inner().context("cannot end the archive")
    }

    /// Writes it into a folder.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|(path, node)| {
            let path = folder.join(path);
            node.write(&path).with_context(|| format!("cannot write {}", path.display()))
        })
    }
}

impl Node {
    fn header(&self, path: &str, time: Timestamp) -> anyhow::Result<Header> {
        let mut header = Header::new_ustar();
        if let Some(content) = &self.content {
            header.set_entry_type(EntryType::Regular);
            header.set_path(path)?;
            header.set_size(content.len() as u64);
        } else {
            header.set_entry_type(EntryType::Directory);
            header.set_path(format!("{path}/"))?;
            header.set_size(0);
        }
        header.set_mode(self.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time.as_second().try_into().context("tar knows no time before 1970")?);
        header.set_cksum();
        Ok(header)
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        match &self.content {
            Some(content) => std::fs::write(path, content)?,
            None => std::fs::create_dir_all(path)?,
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(self.mode))
    }
}
