//! The end of the server: refuse what is new, finish what runs, then leave.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{state::App, worker::Worker};

/// How long an answer that was cut off may take to reach its client.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The wish to end, from gentle to firm.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take nothing new and finish what runs.
    pub drain: CancellationToken,
    /// Do not wait for what runs.
    pub hurry: CancellationToken,
}

impl Shutdown {
    /// SIGTERM or SIGINT drains, the second one hurries. Must be called within a runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let told = shutdown.clone();
        tokio::spawn(async move {
            for token in [told.drain, told.hurry] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}

/// Refuses new requests and waits until the running ones are answered, at most for `limit`; then cuts them off.
pub async fn drain(app: &App, limit: Duration, hurry: &CancellationToken) {
    app.start_draining();
    let Some(loaded) = app.loaded() else { return };
    let worker = &loaded.worker;
    tracing::info!(requests = worker.in_system(), "draining: new requests are refused");
    tokio::select! {
        () = worker.idle() => return,
        () = tokio::time::sleep(limit) => {}
        () = hurry.cancelled() => {}
    }
    cut_off(worker).await;
}

async fn cut_off(worker: &Worker) {
    tracing::warn!(requests = worker.in_system(), "cutting off what is still running");
    worker.cut_off();
    // a step that takes longer than this is left behind
    drop(tokio::time::timeout(LAST_WORDS, worker.idle()).await);
}
