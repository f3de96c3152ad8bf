//! What the kubelet does with a running container: probes it, ends it when a probe says so, and waits for it.

use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::probe::{Probe, Probes, Tally};
use super::process::{Group, exit_code};

/// How a running process stands with its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The startup probe has not succeeded.
    Starting,
    /// Started; the readiness probe has not succeeded, or fails again.
    Unready,
    /// It may get requests.
    Ready,
}

/// What is known of a process when it starts.
#[derive(Clone, Debug)]
pub(super) struct Supervised {
    /// To signal it.
    pub group: Group,
    /// When it is ready, and when it must end.
    pub probes: Probes,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// 128 + signal for a process that a signal ended.
    pub exit_code: i32,
    /// The probe because of which it was ended.
    pub by_probe: Option<&'static str>,
}

/// Probes and waits until the process has ended; `stop` asks for its end.
pub(super) async fn supervise(
    mut child: Child,
    process: Supervised,
    phase: watch::Sender<Phase>,
    stop: CancellationToken,
) -> std::io::Result<Ended> {
    let by_probe = tokio::select! {
        status = child.wait() => return Ok(Ended { exit_code: exit_code(status?), by_probe: None }),
        probe = run_probes(&process.probes, &phase) => Some(probe),
        () = stop.cancelled() => None,
    };
    let status = end(&mut child, process.group, process.grace).await?;
    Ok(Ended { exit_code: exit_code(status), by_probe })
}

/// SIGTERM, then SIGKILL when `grace` is over.
async fn end(child: &mut Child, group: Group, grace: Duration) -> std::io::Result<std::process::ExitStatus> {
    group.terminate();
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status;
    }
    group.kill();
    child.wait().await
}

/// Returns the name of the probe that asks for the end of the process; never while all is well.
async fn run_probes(probes: &Probes, phase: &watch::Sender<Phase>) -> &'static str {
    let client = reqwest::Client::new();
    if let Some(startup) = &probes.startup
        && !repeat(startup, &client, |_| true).await
    {
        return "startup";
    }
    phase.send_replace(Phase::Unready);
    let readiness = async {
        match &probes.readiness {
            None => {
                phase.send_replace(Phase::Ready);
            }
            Some(probe) => {
                repeat(probe, &client, |ready| {
                    phase.send_replace(if ready { Phase::Ready } else { Phase::Unready });
                    false
                })
                .await;
            }
        }
        std::future::pending::<()>().await;
    };
    let liveness = async {
        match &probes.liveness {
            None => std::future::pending::<()>().await,
            Some(probe) => {
                repeat(probe, &client, |alive| !alive).await;
            }
        }
    };
    tokio::select! {
        () = readiness => "readiness",
        () = liveness => "liveness",
    }
}

/// Tries until `is_final` accepts an answer, and returns it.
async fn repeat(probe: &Probe, client: &reqwest::Client, is_final: impl Fn(bool) -> bool) -> bool {
    let mut tally = Tally::default();
    tokio::time::sleep(probe.initial_delay).await;
    loop {
        if let Some(answer) = tally.enter(probe, probe.succeeds(client).await)
            && is_final(answer)
        {
            return answer;
        }
        tokio::time::sleep(probe.period).await;
    }
}
