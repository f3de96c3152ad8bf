//! How the C library manages memory: what a step of training frees is kept for the next one.
//!
//! Every step allocates gradients and activations and frees all of them. The GNU C library maps what is large (above 32 MiB always) from
//! the system and unmaps it at once when it is freed, and it gives back a large free end of its heap. The next step then gets the same
//! memory as new pages, each of which the kernel finds, clears and enters at its first use: 15 to 24 % of the time of a training of models
//! whose gradients are large went there. Allocating 143 MiB in three pieces, writing and freeing them takes 35,800 page faults every
//! time; with the settings below it takes them once.
//!
//! | parameter of `mallopt` | | why |
//! | --- | --- | --- |
//! | `M_MMAP_MAX` | 0 | everything comes from the heap, where freed memory is found again. `M_MMAP_THRESHOLD` would be refused above 32 MiB by many versions |
//! | `M_ARENA_MAX` | 1 | one heap for all threads. A heap of a thread consists of pieces of 64 MiB, in which larger tensors have no place; and the threads of a step are new ones, which would have to find the heap of those before. Tensors are few and large: threads seldom wait for its lock |
//! | `M_TRIM_THRESHOLD` | 2 GiB | a free end of the heap above that goes back to the system, so what the process holds beyond what it uses stays bounded, also after the peak of loading a model. It is the largest value that there is |
//! | `M_TOP_PAD` | 64 MiB | the heap grows in such steps. What is not used of them takes no memory |
//!
//! The environment variable `GLIBC_TUNABLES` could say the same; nobody should have to know that. Large pages cannot be had in this way:
//! in the mode `always` of transparent huge pages the heap has them, in the mode `madvise` the library asks for them only if
//! `glibc.malloc.hugetlb=1` stands in that variable when the process begins. Memory that is used again needs them less: its page faults
//! are over.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the C library has no other way to be told than a call of it")
)]

/// Makes the whole process keep memory that it will use again. To be called first in `main`: a thread keeps the heap that it began with.
/// Does nothing where the C library is not GNU's.
pub fn keep_for_reuse() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    tell_the_library();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn tell_the_library() {
    const TOP_PAD: libc::c_int = 64 << 20;
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_TOP_PAD, TOP_PAD),
    ] {
        // SAFETY: it changes how later requests are served; what was given out stays valid. Where it is refused, steps take longer.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}
