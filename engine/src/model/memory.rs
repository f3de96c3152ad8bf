//! How much memory this process can have.

use std::fs;
use std::path::{Path, PathBuf};

use super::LoadError;

/// Refuses what does not fit.
pub(super) fn check(needed: u64, available: Option<u64>) -> Result<(), LoadError> {
    const MIB: u64 = 1 << 20;
    match available {
        Some(available) if available < needed => {
            Err(LoadError::Memory { needed_mib: needed.div_ceil(MIB), available_mib: available / MIB })
        }
        _ => Ok(()),
    }
}

/// Bytes that this process could still take: what the machine has available, or less where a control group (v2) allows less. Memory
/// that the system gives back when it is needed, such as that of files, counts as available. None where the system does not say.
pub fn available_memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemAvailable:"));
    let machine = machine.map(|kibibytes| kibibytes * 1024);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let folders = folders_up(Path::new("/sys/fs/cgroup"), own);
    machine.into_iter().chain(folders.iter().filter_map(|folder| left_in_group(folder))).min()
}

/// The folders of a control group and of all above it.
fn folders_up(root: &Path, group: &str) -> Vec<PathBuf> {
    let own = root.join(group.trim_start_matches('/'));
    own.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_path_buf).collect()
}

/// What a control group may still take; none where it has no limit.
fn left_in_group(folder: &Path) -> Option<u64> {
    let limit: u64 = fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()?;
    let statistics = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let taken: u64 = ["anon ", "kernel ", "shmem "].iter().filter_map(|name| field(&statistics, name)).sum();
    Some(limit.saturating_sub(taken))
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_says_how_much_it_has() {
        let available = available_memory().unwrap();
        assert!(available > 1 << 20, "{available} bytes");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_figures() {
        let refused = check(3 << 30, Some(1 << 30)).unwrap_err().to_string();
        assert!(
            refused.starts_with("the weights take 3072 MiB in memory, but only 1024 MiB are available"),
            "{refused}"
        );
        assert!(check(3 << 30, Some(3 << 30)).is_ok() && check(3 << 30, None).is_ok());
    }

    #[test]
    fn a_control_group_has_what_it_may_take_less_what_it_has_taken() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("kubepods/pod");
        fs::create_dir_all(&own).unwrap();
        let write = |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write(&own, "memory.max", "1000\n");
        write(&own, "memory.stat", "anon 300\nfile 500\nkernel 50\nshmem 0\nkernel_stack 7\n");
        write(&root.path().join("kubepods"), "memory.max", "max\n");
        let left: Vec<_> =
            folders_up(root.path(), "/kubepods/pod").iter().map(|folder| left_in_group(folder)).collect();
        assert_eq!(left, [Some(650), None, None]);
    }
}
