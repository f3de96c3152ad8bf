//! Memory that is freed is used again, without asking the kernel. A process of its own without other threads, as the binary is when it
//! begins: what is tested holds for the whole process, and page faults are counted for it.

#![cfg_attr(target_env = "gnu", expect(clippy::unwrap_used, reason = "a test that cannot go on should say where"))]

#[cfg(target_env = "gnu")]
use nix::sys::resource::{UsageWho, getrusage};

/// One below and two above what the C library always maps anew if it is left alone.
#[cfg(target_env = "gnu")]
const SIZES: [usize; 3] = [100 << 20, 40 << 20, 3 << 20];

#[cfg(target_env = "gnu")]
fn main() {
    cllm_trainer::memory::keep_for_reuse();
    let first = faults_of_a_round();
    // one page of 2 MiB is the largest that a fault brings
    let pages = SIZES.iter().sum::<usize>() as u64 >> 21;
    assert!(first >= pages, "{first} page faults are too few for fresh memory");
    for round in 1..4 {
        let found = faults_of_a_round();
        assert!(found < pages / 4, "{found} page faults in round {round}: memory was not used again");
    }
    let found = std::thread::spawn(faults_of_a_round).join().unwrap();
    assert!(found < pages / 4, "{found} page faults in another thread: it has memory of its own");
}

/// Allocates, writes and frees as a step of training does.
#[cfg(target_env = "gnu")]
fn faults_of_a_round() -> u64 {
    let count = || u64::try_from(getrusage(UsageWho::RUSAGE_SELF).unwrap().minor_page_faults()).unwrap();
    let before = count();
    let blocks = SIZES.map(|size| vec![1_u8; size]);
    assert!(std::hint::black_box(&blocks).iter().all(|block| block[block.len() / 2] == 1));
    drop(blocks);
    count() - before
}

#[cfg(not(target_env = "gnu"))]
fn main() {}
