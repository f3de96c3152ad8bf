//! How much memory keys and values may take. Pure, but for asking how much there is.

use cllm_engine::{KvPool, Model};

use crate::args::Args;

const MIB: u64 = 1 << 20;

/// The memory, and the tokens that a prompt and its answer can have together: less than were asked for where the memory is short of them
/// and nobody insists. The error is a sentence without its full stop.
pub(crate) fn kv_memory(args: &Args, model: &Model, context_length: usize) -> Result<(KvPool, usize), String> {
    let budget = Budget {
        bytes_per_page: KvPool::page_bytes_of(model) as u64,
        asked_mib: args.kv_cache_mib,
        free_bytes: model.free_memory(),
        concurrent: usize::from(args.max_concurrent_requests),
        context_length,
        insists_on_context: args.context_length.is_some(),
    };
    let (pages, context) = budget.divide()?;
    if context < context_length {
        let memory = pages as u64 * budget.bytes_per_page / MIB;
        tracing::warn!(
            context,
            "the context is cut from {context_length} tokens: keys and values of more do not fit into {memory} MiB, half of the free \
             memory; see --kv-cache-mib"
        );
    }
    Ok((KvPool::new(model, pages * KvPool::PAGE), context))
}

struct Budget {
    bytes_per_page: u64,
    asked_mib: Option<u32>,
    free_bytes: Option<u64>,
    concurrent: usize,
    context_length: usize,
    insists_on_context: bool,
}

impl Budget {
    /// Pages, and the context. One page more than a text has is needed while a shared one is copied.
    fn divide(&self) -> Result<(usize, usize), String> {
        let pages_of = |context: usize| context.div_ceil(KvPool::PAGE);
        let least = pages_of(self.context_length) + 1;
        let all = pages_of(self.context_length) * self.concurrent + 1;
        let pages = match (self.asked_mib, self.free_bytes) {
            (Some(mib), _) => u64::from(mib) * MIB / self.bytes_per_page,
            (None, Some(free)) => (free / 2 / self.bytes_per_page).min(all as u64),
            (None, None) => all as u64,
        };
        let pages = usize::try_from(pages).unwrap_or(usize::MAX);
        if pages >= least {
            return Ok((pages, self.context_length));
        }
        if self.asked_mib.is_some() || self.insists_on_context || pages < 2 {
            return Err(self.too_little(least, pages));
        }
        Ok((pages, (pages - 1) * KvPool::PAGE))
    }

    fn too_little(&self, least: usize, pages: usize) -> String {
        let needed = (least as u64 * self.bytes_per_page).div_ceil(MIB);
        let given = match self.asked_mib {
            Some(mib) => format!("--kv-cache-mib is {mib}"),
            None => format!("{} MiB of memory are left for them", pages as u64 * self.bytes_per_page / MIB),
        };
        format!(
            "keys and values of one answer with a context of {} tokens take {needed} MiB, but {given}. Give it more memory, or ask for a \
             shorter --context-length",
            self.context_length
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page is a MiB; 640 tokens are 10 pages.
    fn budget() -> Budget {
        Budget {
            bytes_per_page: MIB,
            asked_mib: None,
            free_bytes: Some(1000 * MIB),
            concurrent: 8,
            context_length: 640,
            insists_on_context: false,
        }
    }

    #[test]
    fn what_all_requests_need_but_no_more_than_half_of_what_is_free() {
        assert_eq!(budget().divide(), Ok((81, 640)));
        assert_eq!(Budget { free_bytes: Some(60 * MIB), ..budget() }.divide(), Ok((30, 640)));
        assert_eq!(Budget { free_bytes: None, ..budget() }.divide(), Ok((81, 640)));
        assert_eq!(Budget { asked_mib: Some(500), ..budget() }.divide(), Ok((500, 640)), "more for the prefix cache");
        assert_eq!(Budget { asked_mib: Some(11), ..budget() }.divide(), Ok((11, 640)));
    }

    #[test]
    fn without_room_for_the_context_it_is_cut_unless_somebody_insists() {
        assert_eq!(Budget { free_bytes: Some(12 * MIB), ..budget() }.divide(), Ok((6, 320)));
        for (wrong, given) in [
            (Budget { asked_mib: Some(10), ..budget() }, "--kv-cache-mib is 10"),
            (
                Budget { free_bytes: Some(12 * MIB), insists_on_context: true, ..budget() },
                "6 MiB of memory are left for them",
            ),
            (Budget { free_bytes: Some(MIB), ..budget() }, "0 MiB of memory are left for them"),
        ] {
            assert_eq!(
                wrong.divide().unwrap_err(),
                format!(
                    "keys and values of one answer with a context of 640 tokens take 11 MiB, but {given}. Give it more memory, or ask \
                     for a shorter --context-length"
                )
            );
        }
    }
}
