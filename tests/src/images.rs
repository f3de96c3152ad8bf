//! The images of this tree, as `xtask images` made them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::Error;

/// The archives of all images: in `CLLM_IMAGES`, else in `target/images/dev`.
pub fn images() -> Result<Vec<PathBuf>, Error> {
    let made_by_tests = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/images/dev");
    let folder = env::var_os("CLLM_IMAGES").map_or_else(made_by_tests, PathBuf::from);
    let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut images: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "tar")).collect();
    images.sort();
    if images.is_empty() { Err(Error::NoImages { folder }) } else { Ok(images) }
}
