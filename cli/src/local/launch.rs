//! Starts the process of a Pod: finds its folders, ports and binary, and hands it to its supervisor.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::LocalError;
use super::claims::Claims;
use super::process::{Group, ProgramFolders, spawn};
use super::state::create_folder;
use super::supervise::{Ended, Phase, Supervised, supervise};
use super::translate::{self, Folder, MountedObjects, Places, translate};

/// What Kubernetes gives a Pod between SIGTERM and SIGKILL when it does not say.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// This machine, as far as Pods are concerned.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// Where binaries are.
    pub programs: ProgramFolders,
    /// Where claims are.
    pub claims: Claims,
    /// Where Secrets and `ConfigMaps` are.
    pub objects: MountedObjects,
    /// Where output goes.
    pub logs: PathBuf,
    /// Where scratch space and termination messages are.
    pub scratch: PathBuf,
}

/// A Pod to start.
#[derive(Clone, Debug)]
pub(super) struct PodRequest<'a> {
    /// Unique on this machine; also the name of its log.
    pub name: String,
    /// As rendered.
    pub template: &'a PodTemplateSpec,
    /// Of a Pod of an Indexed Job.
    pub completion_index: Option<u32>,
    /// The local port of `http`.
    pub http_port: PortChoice,
}

/// Which local port is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortChoice {
    /// This one, or none.
    Exactly(u16),
    /// This one, or any other where it is taken.
    Preferably(u16),
    /// Any.
    Free,
}

/// A process that has been started.
pub(super) struct Running {
    /// Ends with the process.
    pub end: Pin<Box<dyn Future<Output = std::io::Result<Ended>> + Send>>,
    /// How to reach it while it runs.
    pub handle: Handle,
}

/// How to reach a running process.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    /// What its probes say.
    pub phase: watch::Receiver<Phase>,
    /// Asks for its end.
    pub stop: CancellationToken,
    /// For an end without delay.
    pub group: Group,
    /// Local port by name.
    pub ports: BTreeMap<String, u16>,
    /// Its output.
    pub log: PathBuf,
    /// Where its last words will be.
    pub termination_message: PathBuf,
}

impl Handle {
    /// Where its `/status` page is.
    pub(super) fn status_url(&self) -> Option<String> {
        self.ports.get("metrics").map(|port| format!("http://127.0.0.1:{port}/status"))
    }
}

impl Host {
    /// Starts a Pod.
    pub(super) fn launch(&self, request: &PodRequest<'_>) -> Result<Running, LocalError> {
        let scratch = self.scratch.join(&request.name);
        create_folder(&scratch)?;
        let termination_message = scratch.join("termination-log");
        remove_file(&termination_message)?;
        let ports = choose_ports(&translate::ports(request.template), request.http_port)?;
        let claims = translate::claims(request.template);
        let places = Places {
            claims: claims.into_iter().map(|claim| (claim.clone(), self.claims.folder(&claim))).collect(),
            objects: self.objects.clone(),
            scratch,
            ports: ports.clone(),
            termination_message: termination_message.clone(),
            completion_index: request.completion_index,
            pod_name: request.name.clone(),
            pod_uid: format!("{}-{}", request.name, std::process::id()),
        };
        let command = translate(request.template, &places)?;
        command.folders.iter().try_for_each(|folder| self.provide(folder))?;
        let program = self
            .programs
            .find(&command.program)
            .ok_or_else(|| LocalError::Program { program: command.program.clone() })?;
        let log = self.logs.join(format!("{}.log", request.name));
        let (child, group) = spawn(&program, &command, &log).map_err(|source| LocalError::Spawn { program, source })?;
        let (sender, phase) = watch::channel(Phase::Starting);
        let stop = CancellationToken::new();
        let supervised = Supervised { group, probes: command.probes, grace: grace(request.template) };
        let end = Box::pin(supervise(child, supervised, sender, stop.clone()));
        Ok(Running { end, handle: Handle { phase, stop, group, ports, log, termination_message } })
    }

    /// A folder that someone named must be there when it is only read; all others are made.
    fn provide(&self, folder: &Folder) -> Result<(), LocalError> {
        match &folder.claim {
            Some(claim) if folder.read_only && self.claims.is_named(claim) && !folder.path.is_dir() => {
                Err(LocalError::ClaimFolder { claim: claim.clone(), path: folder.path.clone() })
            }
            None if folder.read_only && !folder.path.is_dir() => {
                Err(LocalError::ObjectFolder { path: folder.path.clone() })
            }
            _ => create_folder(&folder.path),
        }
    }
}

fn grace(template: &PodTemplateSpec) -> Duration {
    let seconds = template.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(u64::try_from(seconds.unwrap_or(DEFAULT_GRACE_SECONDS)).unwrap_or_default())
}

fn remove_file(path: &Path) -> Result<(), LocalError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(LocalError::Folder { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Ports for the named ones. All are held while they are chosen, so that they differ.
fn choose_ports(names: &[String], http_port: PortChoice) -> Result<BTreeMap<String, u16>, LocalError> {
    let mut held = Vec::with_capacity(names.len());
    for name in names {
        let listener = listen(if name == "http" { http_port } else { PortChoice::Free })?;
        let port = listener.local_addr().map_err(LocalError::NoPort)?.port();
        held.push((name.clone(), port, listener));
    }
    Ok(held.into_iter().map(|(name, port, _)| (name, port)).collect())
}

fn listen(choice: PortChoice) -> Result<TcpListener, LocalError> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match choice {
        PortChoice::Exactly(port) => bind(port).map_err(|_| LocalError::Port { port }),
        PortChoice::Preferably(port) => bind(port).or_else(|_| bind(0)).map_err(LocalError::NoPort),
        PortChoice::Free => bind(0).map_err(LocalError::NoPort),
    }
}

/// Whether nobody listens there.
pub(super) fn is_free(port: u16) -> bool {
    listen(PortChoice::Exactly(port)).is_ok()
}
