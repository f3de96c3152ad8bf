//! A Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use crate::{
    Error,
    audit::{self, Write},
    certificates,
    flags::Layout,
    forward::Forward,
    network::Network,
    process::{Folder, Process},
    program::{Program, ProgramOutput},
    programs,
};

/// Five seconds on an idle machine with two cores; the rest is for one that compiles meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running control plane. When it is dropped, or the process ends in whatever way, its programs
/// are killed and its folder is removed.
#[derive(Debug)]
pub struct ControlPlane {
    kubectl: Program,
    config: Config,
    layout: Layout,
    // In this order they are dropped: who writes into the folder goes before it.
    processes: Vec<Process>,
    folder: Folder,
}

impl ControlPlane {
    /// Starts a control plane of its own: for tests that stop or break it. Others take [`Self::shared`].
    ///
    /// Builds the programs first if this machine does not have them (about ten minutes, once).
    pub async fn start() -> Result<Self, Error> {
        let programs = programs::folder(&["control-plane"]).await?;
        Self::start_for(&programs, None, &[]).await
    }

    /// Starts the control plane of a cluster whose nodes are in this network.
    pub(crate) async fn start_for(
        programs: &Path,
        network: Option<&Network>,
        nodes: &[&'static str],
    ) -> Result<Self, Error> {
        let folder = Folder::create(network)?;
        let address = network.map_or(Ipv4Addr::LOCALHOST, Network::machine);
        let layout = Layout::new(&folder.path, address)?;
        fs::create_dir(layout.pki()).map_err(Error::io("create the folder of certificates"))?;
        certificates::write_all(&layout.pki(), address, nodes)?;
        let kubeconfig = layout.write_kubeconfig("admin")?;
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &KubeConfigOptions::default()).await?;
        let kubectl = program("kubectl", programs, &kubeconfig, &folder.path);
        let mut cluster = Self { kubectl, config, layout, processes: Vec::new(), folder };
        match cluster.start_programs(programs, !nodes.is_empty()).await {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.kept(error)),
        }
    }

    /// Leaves the folder for whoever reads this error.
    pub(crate) fn kept(mut self, error: Error) -> Error {
        self.folder.keep();
        error
    }

    /// The control plane that all tests of this process share, started by the first that asks.
    ///
    /// It holds no connection: every test has a runtime of its own, and a [`Client`] cannot
    /// outlive the runtime it was made in. So each takes its own from [`Self::client`].
    pub async fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn start_programs(&mut self, programs: &Path, has_nodes: bool) -> Result<(), Error> {
        self.start_program(programs, "etcd", self.layout.etcd())?;
        self.start_program(programs, "kube-apiserver", self.layout.api_server())?;
        self.until_answered(&["get", "--raw", "/readyz"]).await?;
        let flags = self.layout.controller_manager(&self.layout.write_kubeconfig("controller-manager")?);
        self.start_program(programs, "kube-controller-manager", flags)?;
        if has_nodes {
            let flags = Layout::scheduler(&self.layout.write_kubeconfig("scheduler")?);
            self.start_program(programs, "kube-scheduler", flags)?;
        }
        // The controller manager's first visible work, and what every pod needs.
        self.until_answered(&["get", "serviceaccount", "default"]).await
    }

    /// Starts one more program that ends with this control plane.
    pub(crate) fn start_program(
        &mut self,
        programs: &Path,
        program: &'static str,
        flags: Vec<String>,
    ) -> Result<(), Error> {
        self.processes.push(Process::start(programs, program, flags, &self.folder.path)?);
        Ok(())
    }

    /// Writes the kubeconfig of the user with the certificate `pki/user.crt`.
    pub(crate) fn write_kubeconfig(&self, user: &str) -> Result<PathBuf, Error> {
        self.layout.write_kubeconfig(user)
    }

    /// Waits until `kubectl` succeeds with these arguments, which only the program started last can bring about.
    async fn until_answered(&mut self, arguments: &[&str]) -> Result<(), Error> {
        self.until_answered_by(None, arguments).await
    }

    /// The same for a process that is not the control plane's.
    pub(crate) async fn until_answered_by(
        &mut self,
        mut process: Option<&mut Process>,
        arguments: &[&str],
    ) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let last = match self.kubectl(arguments).await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            let ended = process.as_deref_mut().and_then(|process| ended(process, &self.folder.path));
            if let Some(error) = ended.or_else(|| self.first_ended()) {
                return Err(error);
            }
            let last_started = process.as_deref().or(self.processes.last());
            if let (true, Some(process)) = (Instant::now() > deadline, last_started) {
                let (folder, log) = (self.folder.path.clone(), process.last_lines());
                return Err(Error::NotReady { program: process.program, waited: READY_WITHIN, last, folder, log });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn first_ended(&mut self) -> Option<Error> {
        let folder = &self.folder.path;
        self.processes.iter_mut().find_map(|process| ended(process, folder))
    }

    /// Forwards a free port of this machine to a port of a Pod or Service, until dropped.
    pub async fn forward(&self, namespace: &str, target: &str, port: u16) -> Result<Forward, Error> {
        Forward::start(&self.kubectl, namespace, target, port).await
    }

    /// What this user has changed so far, in its order; known only of a cluster with nodes.
    pub fn writes_of(&self, user: &str) -> Result<Vec<Write>, Error> {
        audit::writes_of(&self.layout.audit_log(), user)
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubectl.kubeconfig
    }

    /// The same as settings for a client, for instance to act as somebody else.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder with the logs, the certificates and the data.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// A new client with the rights of a cluster administrator, tied to the current runtime.
    pub fn client(&self) -> Result<Client, Error> {
        Client::try_from(self.config.clone()).map_err(Error::request("make a client"))
    }

    /// Runs `kubectl` as cluster administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<ProgramOutput, Error> {
        self.kubectl.run(arguments, "").await
    }

    /// Runs `kubectl` with `input` on stdin, for instance a manifest for `apply -f -`.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<ProgramOutput, Error> {
        self.kubectl.run(arguments, input).await
    }

    /// Runs `helm` as cluster administrator.
    pub async fn helm(&self, arguments: &[&str]) -> Result<ProgramOutput, Error> {
        self.helm_with_input(arguments, "").await
    }

    /// Runs `helm` with `input` on stdin, for instance values for `-f -`.
    pub async fn helm_with_input(&self, arguments: &[&str], input: &str) -> Result<ProgramOutput, Error> {
        let programs = programs::folder(&["helm"]).await?;
        program("helm", &programs, &self.kubectl.kubeconfig, &self.folder.path).run(arguments, input).await
    }
}

fn program(name: &'static str, programs: &Path, kubeconfig: &Path, folder: &Path) -> Program {
    Program { name, executable: programs.join(name), kubeconfig: kubeconfig.to_owned(), home: folder.join("home") }
}

fn ended(process: &mut Process, folder: &Path) -> Option<Error> {
    let status = process.ended()?;
    let folder = folder.to_owned();
    Some(Error::Ended { program: process.program, status, folder, log: process.last_lines() })
}
