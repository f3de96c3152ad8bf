//! Layers that are tar archives: of their members only the plain files of a checkpoint are written, under their last name, into one
//! folder. Links, devices and paths of an archive decide nothing, so it cannot write anywhere else.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::{blocking, check_space};
use crate::error::{Result, StorageError};
use crate::files;
use crate::remote::{Compression, Listing};

/// Unpacks the archives of a folder in order, later ones over earlier ones, and removes them.
pub(super) async fn unpack_all(listing: &Listing, folder: &Path) -> Result<()> {
    for file in &listing.files {
        let Some(compression) = file.archive else { continue };
        let (path, into) = (folder.join(&file.name), folder.to_owned());
        blocking(move || unpack(&path, compression, &into)).await?;
    }
    // only now: whoever is killed before unpacks again
    for file in listing.files.iter().filter(|file| file.archive.is_some()) {
        let path = folder.join(&file.name);
        fs::remove_file(&path).map_err(StorageError::file(&path))?;
    }
    Ok(())
}

fn unpack(path: &Path, compression: Compression, folder: &Path) -> Result<()> {
    let file = File::open(path).map_err(StorageError::file(path))?;
    let content: Box<dyn Read> = match compression {
        Compression::None => Box::new(std::io::BufReader::new(file)),
        Compression::Gzip => Box::new(MultiGzDecoder::new(std::io::BufReader::new(file))),
    };
    let damaged = |error: std::io::Error| StorageError::Unusable {
        place: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        problem: format!("is no readable tar archive ({error}); push the image again"),
    };
    let mut archive = tar::Archive::new(content);
    for member in archive.entries().map_err(damaged)? {
        let mut member = member.map_err(damaged)?;
        let name = member.path().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned())).unwrap_or_default();
        if !member.header().entry_type().is_file() || !files::belongs_to_checkpoint(&name) {
            continue;
        }
        check_space(folder, member.size())?;
        let temporary = folder.join(format!(".{name}.unpacked"));
        let mut output = File::create(&temporary).map_err(StorageError::file(&temporary))?;
        std::io::copy(&mut member, &mut output).map_err(StorageError::file(&temporary))?;
        output.sync_all().map_err(StorageError::file(&temporary))?;
        let whole = folder.join(&name);
        fs::rename(&temporary, &whole).map_err(StorageError::file(&whole))?;
    }
    Ok(())
}
