//! Jacobi trajectories on disk: sharded, self-describing, checksummed safetensors.
//!
//! `collect` writes `shard-00000-of-00004.safetensors`, …; `train` reads all shards of a folder. A shard holds rows of u32:
//!
//! | tensor | content |
//! | --- | --- |
//! | `tokens` | prompt and generation (end marker included) of every example, one after the other |
//! | `token_ends` | where each example ends in `tokens` |
//! | `prompt_lens` | tokens of the prompt of each example |
//! | `example_indexes` | line of the data set, from 0 |
//! | `block_ends` | where the blocks of each example end among all blocks |
//! | `block_positions` | first generated token of each block, from 0 in its generation |
//! | `block_lens` | tokens of each block |
//! | `state_counts` | states of each block: initial draft first, fixed point last |
//! | `states` | the states of all blocks, `block_len` tokens each |
//!
//! The metadata key `cllm` holds JSON ([`ShardMetadata`]) with what the shard was made from, its counts and a checksum (`sha256:` and hexadecimal
//! digits): the SHA-256 of two parts, each as length of its name, name, length of its content (both u64, little endian) and content. Part `columns`
//! is the same over all tensors in the order of their names, as text; part `metadata` is this JSON as it stands there, with an empty checksum.
//!
//! Examples stand in the order of their lines. While a shard is being collected, what is done lies beside it in files of its own (`part.rs`).

mod columns;
mod counts;
mod degenerate;
mod part;
mod shard;

pub(crate) use columns::{NamedColumns, from_columns, to_columns, u32_values};
pub use counts::{Counts, Outcome};
pub use degenerate::{DropReason, judge};
pub use part::{Origin, read_part, write_part};
pub use shard::{ShardMetadata, TrajectoryExample, read_all, read_shard, shard_path, write_shard};
