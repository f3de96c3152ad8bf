//! One file on its way: `.NAME.part` grows, is compared with what was announced, and gets its name when it is complete.
//!
//! `.NAME.tag` holds the tag of the state of the file that the part is of. Parts of two states are never glued together: the server is
//! asked to go on only if the file still has that tag, and the hash of the whole is compared where one was announced.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::blocking;
use crate::error::{Result, StorageError};
use crate::progress::Meter;
use crate::remote::{Opened, Remote, RemoteFile};
use crate::retry::{Backoff, RetryPolicy};

const BUFFER: usize = 1 << 20;

/// Bytes of an unfinished folder.
pub(super) fn bytes_in(partial: &Path) -> u64 {
    let entries = fs::read_dir(partial).into_iter().flatten().flatten();
    let is_data = |path: &Path| !is_hidden(path) || path.extension().is_some_and(|extension| extension == "part");
    let data = entries.filter(|entry| is_data(&entry.path()));
    data.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

/// Downloads a file into the folder, going on where an earlier process stopped, as often as the policy says.
pub(super) async fn download(
    remote: &Remote,
    file: &RemoteFile,
    folder: &Path,
    policy: &RetryPolicy,
    meter: &Meter,
) -> Result<()> {
    let whole = folder.join(&file.name);
    if fs::metadata(&whole).is_ok_and(|found| found.len() == file.size) {
        return Ok(());
    }
    let part =
        Part { path: folder.join(format!(".{}.part", file.name)), tag: folder.join(format!(".{}.tag", file.name)) };
    let (mut backoff, mut corrupt) = (Backoff::new(policy), false);
    loop {
        let before = part.len();
        let error = match attempt(remote, file, &part, policy, meter).await {
            Ok(()) => return part.become_whole(&whole),
            Err(error @ StorageError::Corrupt { .. }) if !corrupt => {
                // once, it may have been a disk or a proxy
                tracing::warn!("{error}");
                corrupt = true;
                continue;
            }
            Err(error) => error,
        };
        let text = error.to_string();
        let pause = backoff.pause(error, part.len() > before)?;
        tracing::warn!(file = file.name, pause_seconds = pause.as_secs_f32(), "{text}");
        tokio::time::sleep(pause).await;
    }
}

/// The two files.
struct Part {
    path: PathBuf,
    tag: PathBuf,
}

impl Part {
    fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    fn tag(&self) -> Option<String> {
        fs::read_to_string(&self.tag).ok().filter(|tag| !tag.is_empty())
    }

    /// What is there is of no use.
    fn discard(&self, meter: &Meter) -> Result<()> {
        meter.take_back(self.len());
        for path in [&self.path, &self.tag] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StorageError::file(path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn become_whole(&self, whole: &Path) -> Result<()> {
        fs::rename(&self.path, whole).map_err(StorageError::file(whole))?;
        match fs::remove_file(&self.tag) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StorageError::file(&self.tag)(error)),
            _ => Ok(()),
        }
    }
}

/// One connection.
async fn attempt(remote: &Remote, file: &RemoteFile, part: &Part, policy: &RetryPolicy, meter: &Meter) -> Result<()> {
    let tag = part.tag();
    let can_go_on = part.len() <= file.size && (tag.is_some() || file.sha256.is_some());
    if part.len() > 0 && !can_go_on {
        part.discard(meter)?;
    }
    let mut have = part.len();
    if have < file.size || file.size == 0 {
        let opened = remote.open(file, have, tag.as_deref()).await?;
        if opened.offset != have {
            tracing::info!(file = file.name, "the server begins anew");
            part.discard(meter)?;
            have = 0;
        }
        receive(file, part, have, opened, policy, meter).await?;
    }
    verify(file, part, meter).await
}

/// Appends what comes.
async fn receive(
    file: &RemoteFile,
    part: &Part,
    mut have: u64,
    opened: Opened,
    policy: &RetryPolicy,
    meter: &Meter,
) -> Result<()> {
    let Opened { tag, mut bytes, .. } = opened;
    if let Some(tag) = tag.filter(|_| have == 0) {
        fs::write(&part.tag, tag).map_err(StorageError::file(&part.tag))?;
    }
    let io = || StorageError::file(&part.path);
    let opened = tokio::fs::File::options().create(true).append(true).open(&part.path).await.map_err(io())?;
    let mut output = tokio::io::BufWriter::with_capacity(BUFFER, opened);
    let asked = format!("GET {}", file.name);
    let outcome = loop {
        let next = tokio::time::timeout(policy.silence, bytes.next()).await;
        let chunk = match next {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) if have == file.size => break Ok(()),
            Ok(None) => break Err(StorageError::unavailable(&asked, "the connection ended before the file did")),
            Ok(Some(Err(problem))) => break Err(StorageError::unavailable(&asked, problem)),
            Err(_) => break Err(StorageError::unavailable(&asked, "nothing came any more")),
        };
        have += chunk.len() as u64;
        if have > file.size {
            break Err(StorageError::unexpected(&asked, format!("more than the announced {} bytes", file.size)));
        }
        output.write_all(&chunk).await.map_err(io())?;
        meter.add(chunk.len() as u64);
    };
    // what came is kept, also before an error
    output.flush().await.map_err(io())?;
    output.into_inner().sync_all().await.map_err(io())?;
    outcome
}

/// The whole is what was announced.
async fn verify(file: &RemoteFile, part: &Part, meter: &Meter) -> Result<()> {
    let Some(expected) = file.sha256.clone() else { return Ok(()) };
    let path = part.path.clone();
    let found = blocking(move || sha256(&path)).await?;
    if found == expected {
        return Ok(());
    }
    part.discard(meter)?;
    Err(StorageError::Corrupt { file: file.name.clone(), expected, found })
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).map_err(StorageError::file(path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer).map_err(StorageError::file(path))? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}
