//! How the prompts of a shard, and the memory for their keys and values, are divided among threads. Pure.

use cllm_engine::KvPool;

/// Rows that fill a forward, about: more hardly make it cheaper by the row.
const ROWS: usize = 64;
const MIB: u64 = 1 << 20;

/// What there is to divide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// That may compute.
    pub(super) threads: usize,
    /// Of the shard.
    pub(super) prompts: usize,
    /// Tokens of a block.
    pub(super) block_size: usize,
    /// Texts of a thread, where somebody asks for so many.
    pub(super) concurrency: Option<usize>,
    /// Positions of the longest text.
    pub(super) longest: usize,
    /// Bytes of a page of keys and values.
    pub(super) page_bytes: u64,
    /// Bytes that are free beside the weights; none where nobody says.
    pub(super) free_bytes: Option<u64>,
}

/// Workers, each with a forward of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Division {
    /// Threads that decode.
    pub(super) workers: usize,
    /// Texts that one of them decodes at the same time.
    pub(super) texts: usize,
    /// Pages that it has for them.
    pub(super) pages: usize,
}

impl Budget {
    /// A forward on each thread, unless memory is short of room for a text in each. None where there is none for a single one.
    pub(super) fn divide(&self) -> Option<Division> {
        let of_text = self.longest.div_ceil(KvPool::PAGE);
        // one page more while a shared one is copied
        let affordable = self.free_bytes.map_or(usize::MAX, |free| (free / 2 / self.page_bytes) as usize);
        let workers = self.threads.min(self.prompts.max(1)).min(affordable / (of_text + 1));
        if workers == 0 {
            return None;
        }
        // blocks shrink from all of their rows to one
        let texts = self.concurrency.unwrap_or((2 * ROWS / self.block_size).max(1));
        let texts = texts.min(self.prompts.div_ceil(workers).max(1));
        Some(Division { workers, texts, pages: (of_text * texts + 1).min(affordable / workers) })
    }

    /// Why nothing can be divided, without a full stop.
    pub(super) fn too_little(&self) -> String {
        let needed = (self.longest.div_ceil(KvPool::PAGE) as u64 + 1) * self.page_bytes;
        format!(
            "keys and values of one text of {} tokens take {} MiB, but half of the memory that is left beside the weights is {} MiB; \
             give it more memory, or ask for fewer --max-new-tokens",
            self.longest,
            needed.div_ceil(MIB),
            self.free_bytes.unwrap_or_default() / 2 / MIB
        )
    }
}

impl Division {
    /// Threads of a forward, with those that have no work of their own to help the others.
    pub(super) fn threads_of_forward(&self, threads: usize) -> usize {
        threads - self.workers + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page is a MiB; the longest text has 10.
    fn budget() -> Budget {
        Budget {
            threads: 4,
            prompts: 1000,
            block_size: 16,
            concurrency: None,
            longest: 10 * KvPool::PAGE,
            page_bytes: MIB,
            free_bytes: Some(1000 * MIB),
        }
    }

    #[test]
    fn every_thread_fills_its_forwards() {
        let division = |workers, texts, pages| Some(Division { workers, texts, pages });
        assert_eq!(budget().divide(), division(4, 8, 81));
        for (budget, expected) in [
            (Budget { block_size: 4, free_bytes: None, ..budget() }, division(4, 32, 321)),
            (Budget { block_size: 256, ..budget() }, division(4, 1, 11)),
            (Budget { concurrency: Some(1), ..budget() }, division(4, 1, 11)),
            (Budget { prompts: 10, ..budget() }, division(4, 3, 31)),
            (Budget { prompts: 3, ..budget() }, division(3, 1, 11)),
            (Budget { prompts: 0, ..budget() }, division(1, 1, 11)),
            // texts wait for memory
            (Budget { free_bytes: Some(100 * MIB), ..budget() }, division(4, 8, 12)),
            (Budget { free_bytes: Some(60 * MIB), ..budget() }, division(2, 8, 15)),
            (Budget { free_bytes: Some(22 * MIB), ..budget() }, division(1, 8, 11)),
            (Budget { free_bytes: Some(21 * MIB), ..budget() }, None),
            (Budget { longest: 1, free_bytes: Some(4 * MIB), ..budget() }, division(1, 8, 2)),
        ] {
            assert_eq!(budget.divide(), expected, "{budget:?}");
        }
        assert!(Budget { free_bytes: Some(21 * MIB), ..budget() }.too_little().contains("take 11 MiB, but half"));
    }

    #[test]
    fn idle_threads_help() {
        for (workers, expected) in [(4, 1), (3, 2), (1, 4)] {
            assert_eq!(Division { workers, texts: 1, pages: 2 }.threads_of_forward(4), expected);
        }
    }
}
