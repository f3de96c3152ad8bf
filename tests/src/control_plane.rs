//! A Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager.

use std::{fs, path::Path, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use crate::{
    Error, certificates,
    flags::Layout,
    kubectl::{Kubectl, KubectlOutput},
    process::{Folder, Process},
    programs,
};

/// Five seconds on an idle machine with two cores; the rest is for one that compiles meanwhile.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running control plane. When it is dropped, or the process ends in whatever way, its programs
/// are killed and its folder is removed.
#[derive(Debug)]
pub struct ControlPlane {
    kubectl: Kubectl,
    config: Config,
    // In this order they are dropped: who writes into the folder goes before it.
    processes: Vec<Process>,
    folder: Folder,
}

impl ControlPlane {
    /// Starts a control plane of its own: for tests that stop or break it. Others take [`Self::shared`].
    ///
    /// Builds the programs first if this machine does not have them (about ten minutes, once).
    pub async fn start() -> Result<Self, Error> {
        let programs = programs::folder().await?;
        let folder = Folder::create()?;
        let layout = Layout::new(&folder.path)?;
        fs::create_dir(layout.pki()).map_err(Error::io("create the folder of certificates"))?;
        certificates::write_all(&layout.pki())?;
        let kubeconfig = layout.write_kubeconfig("admin")?;
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &KubeConfigOptions::default()).await?;
        let kubectl = Kubectl { program: programs.join("kubectl"), kubeconfig, home: folder.path.join("home") };
        let mut cluster = Self { kubectl, config, processes: Vec::new(), folder };
        match cluster.start_programs(&programs, &layout).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.folder.keep();
                Err(error)
            }
        }
    }

    /// The control plane that all tests of this process share, started by the first that asks.
    ///
    /// It holds no connection: every test has a runtime of its own, and a [`Client`] cannot
    /// outlive the runtime it was made in. So each takes its own from [`Self::client`].
    pub async fn shared() -> Result<&'static Self, Error> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn start_programs(&mut self, programs: &Path, layout: &Layout) -> Result<(), Error> {
        let folder = &layout.folder;
        self.processes.push(Process::start(programs, "etcd", layout.etcd(), folder)?);
        self.processes.push(Process::start(programs, "kube-apiserver", layout.api_server(), folder)?);
        self.until_answered(&["get", "--raw", "/readyz"]).await?;
        let flags = layout.controller_manager(&layout.write_kubeconfig("controller-manager")?);
        self.processes.push(Process::start(programs, "kube-controller-manager", flags, folder)?);
        // Its first visible work, and what every pod needs.
        self.until_answered(&["get", "serviceaccount", "default"]).await
    }

    /// Waits until `kubectl` succeeds with these arguments, which only the program started last can bring about.
    async fn until_answered(&mut self, arguments: &[&str]) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let last = match self.kubectl(arguments).await {
                Ok(_) => return Ok(()),
                Err(error) => error.to_string(),
            };
            if let Some(error) = self.first_ended() {
                return Err(error);
            }
            if let (true, Some(process)) = (Instant::now() > deadline, self.processes.last()) {
                let (folder, log) = (self.folder.path.clone(), process.last_lines());
                return Err(Error::NotReady { program: process.program, waited: READY_WITHIN, last, folder, log });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn first_ended(&mut self) -> Option<Error> {
        let folder = &self.folder.path;
        self.processes.iter_mut().find_map(|process| {
            let status = process.ended()?;
            Some(Error::Ended { program: process.program, status, folder: folder.clone(), log: process.last_lines() })
        })
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
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<KubectlOutput, Error> {
        self.kubectl.run(arguments, "").await
    }

    /// Runs `kubectl` with `input` on stdin, for instance a manifest for `apply -f -`.
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Result<KubectlOutput, Error> {
        self.kubectl.run(arguments, input).await
    }
}
