//! The folder of a local run: its lock, and `state.json`, which says what is done so that it is not done again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cllm_crds::status_page::TerminationMessage;
use cllm_crds::{CllmTrainingStatus, TrainingStage};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::LocalError;
use super::job::{End, Record};

/// The version of `state.json`.
const STATE_VERSION: u32 = 1;

/// A folder that this process alone works in, as long as the value lives.
#[derive(Debug)]
pub(super) struct Workdir {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Workdir {
    /// Makes the folder where needed and takes its lock; refused while another process holds it.
    pub(super) fn open(root: &Path) -> Result<Self, LocalError> {
        create_folder(root)?;
        let root = root.canonicalize().map_err(|source| LocalError::Folder { path: root.to_owned(), source })?;
        let path = root.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| LocalError::Folder { path, source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                write_pid(&mut lock).map_err(|source| LocalError::Folder { path: root.clone(), source })?;
                let workdir = Self { root, _lock: lock };
                for folder in [workdir.logs(), workdir.claims(), workdir.scratch()] {
                    create_folder(&folder)?;
                }
                Ok(workdir)
            }
            Err((mut file, _)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                Err(LocalError::Locked { path: root, pid: holder.trim().to_owned() })
            }
        }
    }

    /// Output of the processes.
    pub(super) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Folders of claims that no folder was named for.
    pub(super) fn claims(&self) -> PathBuf {
        self.root.join("claims")
    }

    /// Scratch space and termination messages of the processes.
    pub(super) fn scratch(&self) -> PathBuf {
        self.root.join("pods")
    }

    fn state_file(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// What earlier runs finished. Failures are forgotten: who runs again wants another try.
    pub(super) fn load(&self) -> Result<State, LocalError> {
        let path = self.state_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
            Err(source) => return Err(LocalError::Folder { path, source }),
        };
        let state: State = serde_json::from_str(&text)
            .map_err(|error| LocalError::State { path: path.clone(), problem: error.to_string() })?;
        if state.version != STATE_VERSION {
            let problem = format!("its version is {}, this program writes {STATE_VERSION}", state.version);
            return Err(LocalError::State { path, problem });
        }
        Ok(state.without_failures())
    }

    /// Replaces `state.json` as a whole or not at all.
    pub(super) fn save(&self, state: &State) -> Result<(), LocalError> {
        let path = self.state_file();
        let write = || -> std::io::Result<()> {
            let temporary = path.with_extension("json.partial");
            let mut file = File::create(&temporary)?;
            serde_json::to_writer_pretty(&mut file, state)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|source| LocalError::Folder { path: path.clone(), source })
    }
}

/// Makes a folder and those above it.
pub(super) fn create_folder(path: &Path) -> Result<(), LocalError> {
    std::fs::create_dir_all(path).map_err(|source| LocalError::Folder { path: path.to_owned(), source })
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

/// What is known of Jobs and trainings, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    /// Jobs that have started.
    pub jobs: BTreeMap<String, JobState>,
    /// What each training has come to.
    pub trainings: BTreeMap<String, TrainingState>,
}

/// A training, as it stood when it was last looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainingState {
    /// What the status is about: another spec of the same name is another training.
    pub spec: serde_json::Value,
    /// As on the resource.
    pub status: CllmTrainingStatus,
}

/// A Job that has started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct JobState {
    /// What has become of its indexes.
    pub record: Record,
    /// The last words of each index.
    pub messages: BTreeMap<u32, TerminationMessage>,
}

impl Default for State {
    fn default() -> Self {
        Self { version: STATE_VERSION, jobs: BTreeMap::new(), trainings: BTreeMap::new() }
    }
}

impl State {
    fn without_failures(mut self) -> Self {
        for JobState { record, messages } in self.jobs.values_mut() {
            messages.retain(|index, _| record.succeeded.contains(index));
            if record.end != Some(End::Complete) {
                record.end = None;
                record.completion_time = None;
            }
        }
        self.trainings.retain(|_, training| training.status.stage != Some(TrainingStage::Failed));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::failed;
    use super::*;

    #[test]
    fn what_succeeded_is_kept_and_what_failed_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let workdir = Workdir::open(folder.path()).unwrap();
        let mut state = State::default();
        let complete = Record { succeeded: [0].into(), end: Some(End::Complete), ..Record::default() };
        let broken = Record {
            succeeded: [1].into(),
            failures: 3,
            end: Some(failed("BackoffLimitExceeded", "failed more than 2 times".to_owned())),
            ..Record::default()
        };
        let half = Record { succeeded: [1].into(), ..Record::default() };
        state.jobs.insert("complete".to_owned(), JobState { record: complete.clone(), ..JobState::default() });
        state.jobs.insert("broken".to_owned(), JobState { record: broken, ..JobState::default() });
        workdir.save(&state).unwrap();
        let loaded = workdir.load().unwrap();
        assert_eq!(loaded.jobs["complete"].record, complete);
        assert_eq!(loaded.jobs["broken"].record, half);
    }

    #[test]
    fn a_folder_has_one_owner_and_is_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let first = Workdir::open(folder.path()).unwrap();
        let refusal = Workdir::open(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(first);
        Workdir::open(folder.path()).unwrap();
    }

    #[test]
    fn a_broken_state_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let workdir = Workdir::open(folder.path()).unwrap();
        for text in ["{", r#"{"version": 99, "jobs": {}, "trainings": {}}"#] {
            std::fs::write(workdir.state_file(), text).unwrap();
            assert!(workdir.load().unwrap_err().to_string().contains("state.json"), "{text}");
        }
    }
}
