//! What the Pods that collected say, together. Pure.

use cllm_crds::status_page::{Dropped, Trajectories};

/// Sums over shards; tokens per forward is all tokens over all forwards.
pub(super) fn total(shards: &[&Trajectories]) -> Trajectories {
    let forwards: f64 = shards
        .iter()
        .filter_map(|shard| {
            Some(shard.tokens as f64 / shard.tokens_per_forward.parse::<f64>().ok().filter(|rate| *rate > 0.0)?)
        })
        .sum();
    let sum = |field: fn(&Trajectories) -> u64| shards.iter().map(|shard| field(shard)).sum();
    let tokens: u64 = sum(|shard| shard.tokens);
    let tokens_per_forward = match shards {
        [only] => only.tokens_per_forward.clone(),
        _ if forwards > 0.0 => format!("{:.3}", tokens as f64 / forwards),
        _ => "0".to_owned(),
    };
    Trajectories {
        examples: sum(|shard| shard.examples),
        blocks: sum(|shard| shard.blocks),
        states: sum(|shard| shard.states),
        tokens,
        dropped: sum(|shard| shard.dropped),
        dropped_because: dropped(shards),
        tokens_per_forward,
        tokens_per_second: pace(shards),
    }
}

/// Sums over the shards that say why.
fn dropped(shards: &[&Trajectories]) -> Option<Dropped> {
    let said = shards.iter().filter_map(|shard| shard.dropped_because);
    said.reduce(|a, b| Dropped {
        empty: a.empty + b.empty,
        truncated: a.truncated + b.truncated,
        degenerate: a.degenerate + b.degenerate,
        too_long: a.too_long + b.too_long,
    })
}

/// Tokens per second of one Pod, over the shards that say theirs.
fn pace(shards: &[&Trajectories]) -> Option<String> {
    let rated = shards.iter().filter_map(|shard| {
        let rate = shard.tokens_per_second.as_ref()?.parse::<f64>().ok().filter(|rate| *rate > 0.0)?;
        Some((shard.tokens as f64, shard.tokens as f64 / rate))
    });
    let (tokens, seconds) = rated.fold((0.0, 0.0), |sums, shard| (sums.0 + shard.0, sums.1 + shard.1));
    (seconds > 0.0).then(|| format!("{:.1}", tokens / seconds))
}
