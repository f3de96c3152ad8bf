//! `/status`: what the operator, and whoever looks after this server, reads.

use jiff::{SignedDuration, Timestamp};

use cllm_crds::status_page::{ServerStatus, ServerThroughput};

use crate::{download::artifact, metrics::Metrics, state::App};

/// The page at this moment.
pub fn status(app: &App, now: Timestamp) -> ServerStatus {
    let load = app.load();
    let description = app.loaded().map(|loaded| &loaded.description);
    let usage = app.metrics.usage();
    ServerStatus {
        served_name: app.settings.served_name.clone(),
        digest: description.map(|known| known.digest.clone()).unwrap_or_default(),
        parameters: description.map_or(0, |known| known.parameters),
        ready: load.ready,
        effective_strategy: description.map_or(&app.settings.strategy, |known| &known.strategy).clone(),
        block_size: description.map_or(app.settings.block_size, |known| known.block_size),
        requests_running: load.running as u32,
        requests_waiting: load.waiting as u32,
        capacity_tokens_per_second: usage.capacity_tokens_per_second,
        utilization_percent: usage.utilization_percent,
        artifact: artifact(&app.download),
        throughput: throughput(&app.metrics, now),
        hardware: description.map(|known| known.hardware.clone()).unwrap_or_default(),
        speedup: description.and_then(|known| known.speedup.clone()),
        gate: description.and_then(|known| known.gate.clone()),
    }
}

fn throughput(metrics: &Metrics, now: Timestamp) -> Option<ServerThroughput> {
    let (delivered, age) = metrics.delivered()?;
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::ZERO);
    let measured_at = now.checked_sub(age).unwrap_or(now);
    Some(ServerThroughput {
        tokens_per_second: delivered.tokens_per_second,
        tokens_per_forward: delivered.tokens_per_forward,
        measured_at: format!("{measured_at:.0}"),
    })
}
